"""The types of onnxruntime's own operators are those that onnxruntime gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from frontend_models import HEADER, model
from tosaic.frontend import load

CASES = [
    ("float[1, 2, 4] x, float[4, 12] w, float[12] b", "Attention<num_heads = 2>(x, w, b)"),
    ("float[2, 4] x, float[4] b", "BiasGelu(x, b)"),
    ("uint8[2, 4] x", "DequantizeLinear(x, s, z)"),
    (
        "float[3, 1, 4] x, int8[1, 4, 8] w, int8[1, 2, 8] r, float[1] t, int8[1] o",
        "DynamicQuantizeLSTM<hidden_size = 2>(x, w, r, , , , , , t, o, t, o)",
    ),
    ("float[2, 4] x, int8[4, 3] w, float t", "DynamicQuantizeMatMul(x, w, t)"),
    ("float[2, 4] x", "FastGelu(x)"),
    ("float[1, 2, 5, 5] x, float[3, 2, 3, 3] w", 'FusedConv<activation = "Relu">(x, w)'),
    ("float[2, 4] a, float[4, 3] b", 'FusedGemm<activation = "Relu">(a, b)'),
    ("float[2, 4, 5] a, float[2, 4, 3] b", "FusedMatMul<transA = 1>(a, b)"),
    ("float[2, 4] x", "Gelu(x)"),
    ("uint8[2, 4] a, uint8[4, 3] b", "MatMulIntegerToFloat(a, b, s, s)"),
    ("uint8[2, 4] a, uint8[4, 3] b", "QGemm(a, s, z, b, s, z, , s, z)"),
    ("uint8[2, 4] a, uint8[4, 3] b", "QGemm(a, s, z, b, s, z)"),
    ("uint8[2, 4] a, uint8[4] b", "QLinearAdd(a, s, z, b, s, z, s, z)"),
    ("uint8[1, 2, 6, 6] x", "QLinearAveragePool<kernel_shape = [2, 2]>(x, s, z, s, z)"),
    ("uint8[2, 4] a, uint8[3, 4] b", "QLinearConcat<axis = 0>(s, z, a, s, z, b, s, z)"),
    ("uint8[1, 2, 6, 6] x", "QLinearGlobalAveragePool(x, s, z, s, z)"),
    ("uint8[2, 4] x", "QLinearLeakyRelu(x, s, z, s, z)"),
    ("uint8[2, 1] a, uint8[4] b", "QLinearMul(a, s, z, b, s, z, s, z)"),
    ("uint8[2, 4] x", "QLinearSigmoid(x, s, z, s, z)"),
    ("float[2, 4] x", "QuantizeLinear(x, s, z)"),
    ("float[2, 4] x", "QuickGelu(x)"),
    ("float[1, 2, 4] x, float[1, 2, 4] k, float[4] g", "SkipLayerNormalization(x, k, g)"),
]
STANDARD_CASES = [
    ("float[2, 4] a, float[4] b", "GreaterOrEqual(a, b)", 12),
    ("float[2, 4] a, float[4] b", "LessOrEqual(a, b)", 12),
    ("float[1, 2, 4, 4] x", "MeanVarianceNormalization(x)", 13),
    ("float[1, 4, 2, 2] x, float[4] g", "GroupNormalization<num_groups = 2>(x, g, g)", 21),
]


@pytest.mark.parametrize(("inputs", "call"), CASES)
def test_types_of_onnxruntimes_operators(inputs: str, call: str) -> None:
    assert_types_are_onnxruntimes(inputs, f"com.microsoft.{call}", HEADER)


@pytest.mark.parametrize(("inputs", "call", "opset"), STANDARD_CASES)
def test_types_of_operators_without_inference(inputs: str, call: str, opset: int) -> None:
    assert_types_are_onnxruntimes(inputs, call, f'<ir_version: 8, opset_import: ["": {opset}]> ')


def assert_types_are_onnxruntimes(inputs: str, call: str, header: str) -> None:
    graph = f"g ({inputs}) => (OUTPUT y) <float s = {{0.5}}, uint8 z = {{3}}> {{ y = {call} }}"
    result = run(graph.replace("OUTPUT", "float[N]"), header)
    text = str(load(model(graph.replace("OUTPUT", open_type(result)), header)).module)
    shape = "x".join(map(str, result.shape))
    assert f"-> (tensor<{shape}x{ELEMENTS[result.dtype.name]}>" in text


DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
ELEMENTS = {"float32": "f32", "uint8": "ui8", "int8": "i8", "bool": "i1"}


def run(graph: str, header: str) -> np.ndarray:
    """The result of the graph's only output for inputs of ones, by onnxruntime."""
    proto = model(graph, header)
    proto.graph.output[0].ClearField("type")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feeds = {given.name: np.ones(given.shape, DTYPES[given.type]) for given in session.get_inputs()}
    return session.run(None, feeds)[0]


def open_type(result: np.ndarray) -> str:
    """The right rank with open dimensions, so that no test passes by the model's own statement."""
    name = {"float32": "float"}.get(result.dtype.name, result.dtype.name)
    return f"{name}[{', '.join(f'd{axis}' for axis in range(result.ndim))}]"


def test_a_range_of_vectors_of_one_element() -> None:
    body = """g (float[4] x) => (float[N] y) {
        a = Constant <value_floats = [0.0]> () b = Constant <value_floats = [4.0]> ()
        c = Constant <value_float = 1.0> ()
        r = Range (a, b, c) y = Add (x, r)
    }"""
    assert "-> tensor<4xf32>" in str(load(model(body)).module)
