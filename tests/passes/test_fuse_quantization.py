"""Fused quantization and int8 in place of uint8: integers only, and the numbers of onnxruntime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import reference_model
from tosaic import frontend
from tosaic_passes.pipeline import parse_pipeline, run_pipeline
from tosaic_passes.program import Program

RNG = np.random.default_rng(11)


class QdqModel:
    """A model of float operators between quantizations and dequantizations, as exporters write them."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: dict[str, np.ndarray] = {}

    def constant(self, array: np.ndarray | float, dtype: np.dtype | str = "float32") -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, op: str, *operands: str, **attributes: object) -> str:
        name = f"value_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, operands, [name], name=f"node_{len(self.nodes)}", **attributes)
        )
        return name

    def input(self, shape: tuple[int, ...], scale: float, zero: int) -> str:
        """A quantised input, dequantized."""
        name, info = f"input_{len(self.inputs)}", np.iinfo(self.dtype)
        self.inputs[name] = RNG.integers(info.min, info.max + 1, shape).astype(self.dtype)
        return self.dequantized(name, scale, zero)

    def dequantized(self, q: str, scale: float, zero: int) -> str:
        return self.node("DequantizeLinear", q, self.constant(scale), self.constant(zero, self.dtype))

    def quantized(self, x: str, scale: float, zero: int) -> str:
        return self.node("QuantizeLinear", x, self.constant(scale), self.constant(zero, self.dtype))

    def both(self, x: str, scale: float, zero: int) -> str:
        return self.dequantized(self.quantized(x, scale, zero), scale, zero)

    def weights(self, shape: tuple[int, ...], scale: np.ndarray | float, axis: int = 0) -> str:
        q = self.constant(RNG.integers(-127, 128, shape), "int8")
        zero = self.constant(np.zeros(np.shape(scale)), "int8")
        attributes = {"axis": axis} if np.ndim(scale) else {}
        return self.node("DequantizeLinear", q, self.constant(scale), zero, **attributes)

    def build(self, output: str) -> onnx.ModelProto:
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in self.inputs.items()
        ]
        graph = helper.make_graph(
            self.nodes, "graph", infos, [onnx.ValueInfoProto(name=output)], self.initializers
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def check(model: QdqModel, output: str, *, floats: bool = False) -> Counter[str]:
    """The ops of @main, once the results are those of onnxruntime, and integers but for a float result."""
    proto = model.build(output)
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, model.inputs)
    program = frontend.load(proto)
    run_pipeline(program, parse_pipeline("lower-onnx-to-tosa"))
    (actual,) = reference_model.run(program, list(model.inputs.values()))
    if floats:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(actual, expected)
    ops = _operations(program)
    assert floats or not any("f32" in types for types in ops.values())
    return Counter(name for name, _ in ops)


def _operations(program: Program) -> dict[tuple[str, int], str]:
    block = program.module.body.operations[0].regions[0].blocks[0]
    operations = [view.operation for view in block.operations]
    return {
        (op.name.removeprefix("tosa."), index): " ".join(str(value.type) for value in op.results)
        for index, op in enumerate(operations)
    }


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation", [None, "Relu", "Clip"])
def test_convolution_with_activation(dtype: str, activation: str | None) -> None:
    model = QdqModel(dtype)
    x = model.input((1, 4, 6, 6), 0.02, 100)
    bias = model.constant(RNG.normal(0, 1, 8))
    w = model.weights((8, 4, 3, 3), RNG.uniform(0.001, 0.01, 8))
    y = model.node("Conv", x, w, bias, pads=[1, 1, 1, 1])
    if activation == "Relu":
        y = model.node("Relu", y)
    if activation == "Clip":
        y = model.node("Clip", y, model.constant(-0.5), model.constant(1.5))
    ops = check(model, model.quantized(y, 0.031, 20))
    assert ops["conv2d"] == ops["rescale"] == 1


def test_chain_of_uint8_changes_signs_at_its_ends_only() -> None:
    model = QdqModel("uint8")
    x = model.input((1, 4, 6, 6), 0.02, 100)
    for _ in range(3):
        y = model.node("Conv", x, model.weights((4, 4, 1, 1), 0.02))
        x = model.both(model.node("MaxPool", model.both(y, 0.05, 7), kernel_shape=[2, 2]), 0.05, 7)
    ops = check(model, model.quantized(x, 0.05, 7))
    assert ops["bitwise_xor"] == 2
    assert ops["rescale"] == 3


def test_bias_that_is_quantized_in_units_of_the_sums() -> None:
    model = QdqModel("int8")
    x = model.input((1, 2, 4, 4), 0.5, 3)
    q = model.constant([40, -70], "int32")
    bias = model.node("DequantizeLinear", q, model.constant(0.125), model.constant(0, "int32"))
    y = model.node("Conv", x, model.weights((2, 2, 1, 1), 0.25), bias)
    check(model, model.quantized(y, 0.7, 3))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_two_operands(op: str, dtype: str) -> None:
    model = QdqModel(dtype)
    y = model.node(op, model.input((3, 40), 0.021137, 10), model.input((3, 40), 0.0133719, 90))
    check(model, model.quantized(y, 0.037193, 30))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_matrix_products(dtype: str) -> None:
    model = QdqModel(dtype)
    a = model.input((4, 16), 0.021, 10)
    y = model.node("Gemm", a, model.weights((5, 16), 0.013), model.constant(RNG.normal(0, 1, 5)), transB=1)
    y = model.node("MatMul", model.both(y, 0.11, 3), model.input((5, 7), 0.02, 40))
    ops = check(model, model.quantized(y, 0.13, 30))
    assert ops["matmul"] == ops["rescale"] == 2


def test_matrix_product_with_a_float_result_sums_integers() -> None:
    model = QdqModel("uint8")
    y = model.node("MatMul", model.input((4, 16), 0.021, 10), model.weights((16, 5), 0.013))
    ops = check(model, y, floats=True)
    assert ops["cast"] == 1


@pytest.mark.parametrize("scale", [0.01, RNG.uniform(0.001, 0.01, 8)], ids=["tensor", "channels"])
def test_convolution_with_a_float_result_sums_integers(scale: np.ndarray | float) -> None:
    model = QdqModel("uint8")
    w = model.weights((8, 4, 3, 3), scale)
    unit = np.float32(0.02) * np.asarray(scale, np.float32)
    parameters = [model.constant(unit), model.constant(np.zeros(unit.shape), "int32")]
    q = model.constant(RNG.integers(-9000, 9000, 8), "int32")
    bias = model.node("DequantizeLinear", q, *parameters, axis=0)
    y = model.node("Conv", model.input((2, 4, 6, 6), 0.02, 100), w, bias)
    ops = check(model, y, floats=True)
    assert ops["rescale"] == 0
    assert ops["cast"] == 1


def test_float_bias_of_a_float_result_keeps_the_convolution_float() -> None:
    model = QdqModel("uint8")
    bias = model.constant(RNG.normal(0, 1, 8))
    y = model.node("Conv", model.input((2, 4, 6, 6), 0.02, 100), model.weights((8, 4, 3, 3), 0.01), bias)
    check(model, y, floats=True)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("GlobalAveragePool", {}),
        ("AveragePool", {"kernel_shape": [2, 2]}),
        ("Sigmoid", {}),
        ("LeakyRelu", {"alpha": 0.2}),
    ],
    ids=str,
)
def test_one_operand(op: str, attributes: dict) -> None:
    model = QdqModel("uint8")
    y = model.node(op, model.input((1, 3, 5, 5), 0.021, 130), **attributes)
    check(model, model.quantized(y, 0.0113, 30))


def test_concatenation() -> None:
    model = QdqModel("uint8")
    y = model.node("Concat", model.input((2, 9), 0.02, 130), model.input((2, 300), 0.03, 7), axis=1)
    check(model, model.quantized(y, 0.02, 130))


def test_what_is_not_known_stays_float() -> None:
    model = QdqModel("uint8")
    y = model.node("HardSwish", model.input((2, 9), 0.02, 130))
    program = frontend.load(model.build(model.quantized(y, 0.02, 130)))
    run_pipeline(program, parse_pipeline("lower-onnx-to-tosa"))
    assert "tensor<2x9xf32>" in str(program.module)
