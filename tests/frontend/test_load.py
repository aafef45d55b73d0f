"""A model becomes `onnx.*` operations: what contract 1 promises, seen in the text of the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from torch_mlir import ir

from frontend_models import HEADER, model
from tosaic.frontend import load
from tosaic_passes.program import Program

LINEAR = """linear (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {0,1,2,3,4,5,6,7,8,9,10,11}> {
   [product] h = MatMul(x, w)
   y = Relu(h)
}
"""


def text_of(program: Program, *, locations: bool = False) -> str:
    return program.module.operation.get_asm(enable_debug_info=locations)


def test_operations_are_static_generic_onnx() -> None:
    text = text_of(load(model(LINEAR), batch_size=2))
    assert (
        '"onnx.MatMul"(%arg0, %0) {onnx_node_name = "product"} : (tensor<2x4xf32>, tensor<4x3xf32>)' in text
    )


def test_the_border_keeps_names_and_dtypes() -> None:
    text = text_of(load(model("g (uint8[2] x) => (int64[2] y) { y = Cast<to = 7>(x) }")))
    assert '%arg0: tensor<2xui8> {ic.dtype = "uint8", ic.name = "x"}' in text
    assert 'tensor<2xi64> {ic.dtype = "int64", ic.name = "y"}' in text


def test_node_names_are_locations_and_unnamed_nodes_are_numbered() -> None:
    text = text_of(load(model(LINEAR), batch_size=2), locations=True)
    assert 'loc("product")' in text
    assert 'loc("Relu_1")' in text


def test_opset_is_recorded() -> None:
    text = text_of(load(model(LINEAR), batch_size=2))
    assert "onnx.opset = {ai.onnx = 17 : si64, com.microsoft = 1 : si64}" in text


def test_initializers_are_constants_with_their_values() -> None:
    values = np.arange(20, dtype=np.float32)
    proto = model("g (float[20] x) => (float[20] y) { y = Add(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    (held,) = load(proto).weights.values()
    np.testing.assert_array_equal(held, values)


def test_initializers_that_are_inputs_too_are_constants() -> None:
    proto = model(LINEAR, '<ir_version: 3, opset_import: ["": 9]> ')
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 3]))
    assert "func.func @main(%arg0: tensor<2x4xf32>" in text_of(load(proto, batch_size=2))


def test_absent_operands_are_no_value() -> None:
    text = text_of(load(model("g (float[2] x, float hi) => (float[2] y) { y = Clip(x, , hi) }")))
    assert '"onnx.NoValue"() : () -> none' in text
    assert '"onnx.Clip"(%arg0, %0, %arg1)' in text


def test_absent_results_are_none() -> None:
    graph = "g (float[3, 1, 4] x, float[1, 8, 4] w, float[1, 8, 2] r) => (float[1, 1, 2] h) {"
    text = text_of(load(model(graph + " , h = LSTM<hidden_size = 2>(x, w, r) }")))
    assert "-> (none, tensor<1x1x2xf32>)" in text


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("axis: int = 3", "axis = 3 : si64"),
        ("alpha: float = 0.5", "alpha = 5.000000e-01 : f32"),
        ('mode: string = "linear"', 'mode = "linear"'),
        ("axes: ints = [1, -1]", "axes = [1 : si64, -1 : si64]"),
        ("scales: floats = [0.5, 2.0]", "scales = [5.000000e-01 : f32, 2.000000e+00 : f32]"),
        ('names: strings = ["a", "b"]', 'names = ["a", "b"]'),
        ("value: tensor = int64[1] {7}", "value = dense<7> : tensor<1xi64>"),
    ],
)
def test_attributes_keep_their_kind(attribute: str, expected: str) -> None:
    graph = f"g (float[2] x) => (float[2] y) {{ y = com.microsoft.Gelu <{attribute}> (x) }}"
    assert expected in text_of(load(model(graph)))


def test_nodes_of_other_domains_name_their_domain() -> None:
    text = text_of(load(model("g (float[2] x) => (float[2] y) { y = com.microsoft.Gelu(x) }")))
    assert '"onnx.Gelu"(%arg0) {domain = "com.microsoft", onnx_node_name = "Gelu_0"}' in text


def test_local_functions_are_inlined() -> None:
    header = '<ir_version: 8, opset_import: ["": 17, "local": 1]> '
    graph = "g (float[2] x) => (float[2] y) { y = local.twice(x) } "
    function = '<domain: "local", opset_import: ["": 17]> twice (a) => (b) { b = Add(a, a) }'
    assert '"onnx.Add"(%arg0, %arg0)' in text_of(load(model(graph + function, header)))


def test_dead_nodes_and_their_constants_vanish() -> None:
    graph = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { unused = Unheard.Of(w) y = Neg(x) }"
    text = text_of(load(model(graph, HEADER.replace("com.microsoft", "Unheard"))))
    assert "Constant" not in text


def test_the_context_given_is_used() -> None:
    context = ir.Context()
    assert load(model(LINEAR), batch_size=1, context=context).context == context


@pytest.mark.parametrize("source", ["path", "bytes", "proto", "text"])
def test_sources_give_the_same_module(source: str, tmp_path: Path) -> None:
    proto = model(LINEAR)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "m.onnxtxt").write_text("# a comment\n" + HEADER + LINEAR)
    given = {
        "path": tmp_path / "m.onnx",
        "bytes": proto.SerializeToString(),
        "proto": proto,
        "text": tmp_path / "m.onnxtxt",
    }[source]
    assert text_of(load(given, dims={"N": 1})) == text_of(load(proto, dims={"N": 1}))


def test_an_input_without_a_shape_gets_one_and_an_output_needs_no_type() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    proto.graph.output[0].ClearField("type")
    assert '"onnx.Neg"(%arg0)' in text_of(load(proto, input_shapes={"x": [3]}))
