"""Products between DequantizeLinear and QuantizeLinear against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from torch_mlir.passmanager import PassManager

import reference_model
from single_node import lower

RNG = np.random.default_rng(3)


def integers(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def scalar(value: float, dtype: str = "float32") -> np.ndarray:
    return np.array(value, dtype)


def dequantized(
    name: str, q: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None, axis: int = 0
) -> tuple:
    """The initializers and the node that give `name` as dequantised numbers."""
    parts = {f"{name}_q": q, f"{name}_s": scale} | ({} if zero is None else {f"{name}_z": zero})
    return parts, helper.make_node(
        "DequantizeLinear", list(parts), [name], name=f"dequantize_{name}", axis=axis
    )


def quantized_model(
    op: str, x: tuple, w: tuple, b: tuple, shape: tuple[int, ...], **attributes: int
) -> onnx.ModelProto:
    """uint8 in, DequantizeLinear, a product with dequantised weights and bias, QuantizeLinear, uint8 out."""
    product = helper.make_node(op, ["x", "w", "b"], ["y"], name="product", **attributes)
    quantize = helper.make_node("QuantizeLinear", ["y", "y_s", "y_z"], ["y_q"], name="quantize")
    arrays = x[0] | w[0] | b[0] | {"y_s": scalar(0.41), "y_z": scalar(119, "uint8")}
    given = arrays.pop("x_q")
    graph = helper.make_graph(
        [x[1], w[1], b[1], product, quantize],
        "graph",
        [helper.make_tensor_value_info("x_q", onnx.TensorProto.UINT8, given.shape)],
        [helper.make_tensor_value_info("y_q", onnx.TensorProto.UINT8, shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


SCALES = np.array([0.01, 0.02, 0.005, 0.03], np.float32)


def quantized_convolution(given: np.ndarray) -> onnx.ModelProto:
    x = dequantized("x", given, scalar(0.02), scalar(11, "uint8"))
    w = dequantized("w", integers("int8", 4, 3, 3, 3), SCALES, np.zeros(4, np.int8))
    b = dequantized("b", integers("int16", 4).astype(np.int32), SCALES * np.float32(0.02))
    return quantized_model("Conv", x, w, b, (1, 4, 6, 6), pads=[1, 1, 1, 1])


def quantized_gemm(given: np.ndarray) -> onnx.ModelProto:
    x = dequantized("x", given, scalar(0.02), scalar(11, "uint8"))
    w = dequantized("w", integers("int8", 4, 9), SCALES, np.zeros(4, np.int8))
    b = dequantized("b", integers("int16", 4).astype(np.int32), SCALES * np.float32(0.02))
    return quantized_model("Gemm", x, w, b, (5, 4), transB=1)


@pytest.mark.parametrize(
    ("model", "shape", "op"),
    [(quantized_convolution, (1, 3, 6, 6), "conv2d"), (quantized_gemm, (5, 9), "matmul")],
    ids=["conv", "gemm"],
)
def test_products_between_dequantize_and_quantize_stay_integer(
    model: Callable, shape: tuple, op: str
) -> None:
    given = integers("uint8", *shape)
    proto = model(given)
    lowered = lower(proto)
    PassManager.parse("builtin.module(canonicalize)", lowered.context).run(lowered.module.operation)
    text = str(lowered.module)
    assert f"tosa.{op}" in text
    assert "tosa.rescale" in text
    assert "f32" not in text.replace('"float32"', "")
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x_q": given})
    np.testing.assert_array_equal(reference_model.run(lowered, [given])[0], expected[0])


def test_quantizing_with_the_same_parameters_gives_the_integers_back() -> None:
    given = integers("uint8", 7)
    x = dequantized("x", given, scalar(0.41), scalar(119, "uint8"))
    arrays = x[0] | {"y_s": scalar(0.41), "y_z": scalar(119, "uint8")}
    arrays.pop("x_q")
    quantize = helper.make_node("QuantizeLinear", ["x", "y_s", "y_z"], ["y_q"], name="quantize")
    graph = helper.make_graph(
        [x[1], quantize],
        "graph",
        [helper.make_tensor_value_info("x_q", onnx.TensorProto.UINT8, [7])],
        [helper.make_tensor_value_info("y_q", onnx.TensorProto.UINT8, [7])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert "return %arg0" in str(lower(model).module)
