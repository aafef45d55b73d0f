"""Constants survive the way into a module, through text or bytecode, and back."""

from __future__ import annotations

import io

import ml_dtypes
import numpy as np
import pytest
from torch_mlir import ir

from tosaic_passes import TosaicError
from tosaic_passes.weights import WeightTable

ARRAYS = {
    "f32": np.arange(60, dtype=np.float32).reshape(3, 20),
    "i64": np.arange(-30, 30),
    "u8": np.arange(200, dtype=np.uint8),
    "bool": np.arange(100) % 3 == 0,
    "bf16": np.arange(100).astype(ml_dtypes.bfloat16),
    "f8": np.arange(100).astype(ml_dtypes.float8_e4m3fn),
}


def constant_module(table: WeightTable, array: np.ndarray, name: str = "w") -> ir.Module:
    attribute = table.attribute(array, name)
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        ir.Operation.create("t.constant", [attribute.type], attributes={"value": attribute})
    return module


def value_of(module: ir.Module) -> ir.Attribute:
    return module.body.operations[0].attributes["value"]


@pytest.fixture
def context():
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        yield context


@pytest.mark.parametrize("kind", ARRAYS)
def test_read_back_from_text(context, kind):
    module = ir.Module.parse(str(constant_module(WeightTable(), ARRAYS[kind])))
    values = WeightTable.from_module(module).array(value_of(module))
    assert values.dtype == ARRAYS[kind].dtype
    np.testing.assert_array_equal(values, ARRAYS[kind])


def test_read_back_from_bytecode(context):
    buffer = io.BytesIO()
    constant_module(WeightTable(), ARRAYS["f32"]).operation.write_bytecode(buffer)
    module = ir.Module.parse(buffer.getvalue())
    np.testing.assert_array_equal(WeightTable.from_module(module).array(value_of(module)), ARRAYS["f32"])


def test_read_back_a_quoted_name(context):
    module = ir.Module.parse(str(constant_module(WeightTable(), ARRAYS["f32"], "/conv 1/weight")))
    np.testing.assert_array_equal(WeightTable.from_module(module).array(value_of(module)), ARRAYS["f32"])


def test_same_content_as_a_constant_read_back_is_stored_once(context):
    module = ir.Module.parse(str(constant_module(WeightTable(), ARRAYS["f32"])))
    assert WeightTable.from_module(module).attribute(ARRAYS["f32"]) == value_of(module)


def test_elided_values_are_refused_when_asked_for(context):
    text = constant_module(WeightTable(), ARRAYS["f32"]).operation.get_asm(large_resource_limit=1)
    module = ir.Module.parse(text)
    table = WeightTable.from_module(module)
    with pytest.raises(TosaicError, match="the values of the constant 'w_1' are not in the module"):
        table.array(value_of(module))


def test_resource_of_wrong_size_is_refused(context):
    operation = '"t.x"() {v = dense_resource<w> : tensor<3xf32>} : () -> ()'
    resources = '{-# dialect_resources: {builtin: {w: "0x0400000000"}} #-}'
    module = ir.Module.parse(f"{operation}\n{resources}")
    with pytest.raises(TosaicError, match="has 1 bytes instead of 12"):
        WeightTable.from_module(module)


def _read_back(text: str) -> np.ndarray:
    with ir.Context(), ir.Location.unknown():
        return WeightTable().array(ir.Attribute.parse(text))


def test_reads_bytes_of_a_float_that_numpy_does_not_know():
    values = np.arange(200).astype(ml_dtypes.bfloat16)
    found = _read_back(f'dense<"0x{values.tobytes().hex()}"> : tensor<200xbf16>')
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("values", [[-(1 << 47), -1, 0, (1 << 47) - 1], list(range(-100, 100))])
def test_keeps_integers_of_48_bits(values):
    with ir.Context(), ir.Location.unknown():
        table = WeightTable()
        attribute = table.attribute(np.array(values[:8], np.int64), type=ir.IntegerType.get_signless(48))
        np.testing.assert_array_equal(table.array(attribute), values[:8])
        text = f"dense<{values}> : tensor<{len(values)}xi48>"
        np.testing.assert_array_equal(table.array(ir.Attribute.parse(text)), values)
