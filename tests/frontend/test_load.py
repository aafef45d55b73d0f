"""A model becomes `onnx.*` operations: what contract 1 promises, seen in the text of the module."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from tosaic.frontend import load
from tosaic_passes.program import Program

HEADER = '<ir_version: 8, opset_import: ["": 17]> '
LINEAR = (
    HEADER
    + """
linear (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {0,1,2,3,4,5,6,7,8,9,10,11}> {
   [product] h = MatMul(x, w)
   y = Relu(h)
}
"""
)


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def text_of(program: Program, *, locations: bool = False) -> str:
    return program.module.operation.get_asm(enable_debug_info=locations)


def test_operations_are_static_generic_onnx() -> None:
    text = text_of(load(model(LINEAR), batch_size=2))
    assert (
        '"onnx.MatMul"(%arg0, %0) {onnx_node_name = "product"} : (tensor<2x4xf32>, tensor<4x3xf32>)' in text
    )


def test_the_border_keeps_names_and_dtypes() -> None:
    text = text_of(load(model(HEADER + "g (uint8[2] x) => (int64[2] y) { y = Cast<to = 7>(x) }")))
    assert '%arg0: tensor<2xui8> {ic.dtype = "uint8", ic.name = "x"}' in text
    assert 'tensor<2xi64> {ic.dtype = "int64", ic.name = "y"}' in text


def test_node_names_are_locations_and_unnamed_nodes_are_numbered() -> None:
    text = text_of(load(model(LINEAR), batch_size=2), locations=True)
    assert 'loc("product")' in text
    assert 'loc("Relu_1")' in text


def test_opset_is_recorded() -> None:
    assert "onnx.opset = {ai.onnx = 17 : si64}" in text_of(load(model(LINEAR), batch_size=2))


def test_initializers_are_constants_with_their_values() -> None:
    values = np.arange(20, dtype=np.float32)
    proto = model(HEADER + "g (float[20] x) => (float[20] y) { y = Add(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    program = load(proto)
    np.testing.assert_array_equal(program.weights["w"], values)


def test_absent_operands_are_no_value() -> None:
    text = text_of(load(model(HEADER + "g (float[2] x, float hi) => (float[2] y) { y = Clip(x, , hi) }")))
    assert '"onnx.NoValue"() : () -> none' in text


@pytest.mark.parametrize("source", ["path", "bytes", "proto", "text"])
def test_sources_give_the_same_module(source: str, tmp_path) -> None:
    proto = model(LINEAR)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "m.onnxtxt").write_text("# a comment\n" + LINEAR)
    given = {
        "path": tmp_path / "m.onnx",
        "bytes": proto.SerializeToString(),
        "proto": proto,
        "text": tmp_path / "m.onnxtxt",
    }[source]
    assert text_of(load(given, dims={"N": 1})) == text_of(load(proto, dims={"N": 1}))
