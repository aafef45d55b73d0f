"""Large constants are named by their content; the values stay what they were."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from torch_mlir import ir

from tosaic_passes.functions import find_function
from tosaic_passes.outline_weights import OutlineWeightsPass
from tosaic_passes.pipeline import run_pipeline
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

VALUES = np.arange(32, dtype=np.float32)
NAME = "sha256_" + hashlib.sha256(VALUES.tobytes()).hexdigest()


def floats() -> ir.Type:
    return ir.RankedTensorType.get([32], ir.F32Type.get())


def program_with(*attributes, weights: WeightTable) -> Program:
    module = ir.Module.parse("func.func @main() { return }")
    block = find_function(module, "main").entry_block
    with ir.InsertionPoint.at_block_begin(block):
        for attribute in attributes:
            ir.Operation.create("tosa.const", [attribute.type], attributes={"values": attribute})
    return Program(module, weights)


@pytest.fixture
def weights():
    context = ir.Context()
    context.allow_unregistered_dialects = True
    with context, ir.Location.unknown():
        yield WeightTable()


def outlined(program: Program) -> list[ir.Attribute]:
    run_pipeline(program, [OutlineWeightsPass()])
    operations = find_function(program.module, "main").entry_block.operations
    return [op.attributes["values"] for op in list(operations)[:-1]]


def test_a_weight_is_named_by_the_hash_of_its_bytes(weights):
    program = program_with(weights.attribute(VALUES, "conv1.weight"), weights=weights)
    (attribute,) = outlined(program)
    assert str(attribute) == f"dense_resource<{NAME}> : tensor<32xf32>"
    np.testing.assert_array_equal(program.weights[NAME], VALUES)
    assert list(program.weights) == [NAME]


def test_a_constant_that_was_folded_into_the_text_is_outlined(weights):
    folded = ir.DenseElementsAttr.get(VALUES)
    assert str(outlined(program_with(folded, weights=weights))[0]).startswith(f"dense_resource<{NAME}>")


def test_small_and_repeated_values_stay_in_the_text(weights):
    small = weights.attribute(np.arange(4, dtype=np.float32))
    repeated = weights.attribute(np.ones(1000, np.float32))
    program = program_with(small, repeated, weights=weights)
    assert outlined(program) == [small, repeated]
    assert len(program.weights) == 0


def test_equal_constants_are_one_resource(weights):
    first, second = weights.resource("a", VALUES, floats()), weights.resource("b", VALUES.copy(), floats())
    program = program_with(first, second, weights=weights)
    assert len(set(outlined(program))) == 1
    assert list(program.weights) == [NAME]


def test_same_bytes_under_two_types_keep_their_types(weights):
    integers = VALUES.view(np.int32)
    program = program_with(weights.attribute(VALUES, "a"), weights.attribute(integers, "b"), weights=weights)
    _, second = outlined(program)
    np.testing.assert_array_equal(program.weights.array(second), integers)


def test_outlining_twice_changes_nothing(weights):
    program = program_with(weights.attribute(VALUES, "conv1.weight"), weights=weights)
    assert outlined(program) == outlined(program)
    np.testing.assert_array_equal(program.weights[NAME], VALUES)
