"""Scales and offsets fold into weights, and the reference model still agrees with onnxruntime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from torch_mlir.passmanager import PassManager

import reference_model
from single_node import lower
from tosaic_passes.fold_batch_norms import FoldBatchNormsPass
from tosaic_passes.fold_transposes import FoldTransposesPass

RNG = np.random.default_rng(3)


def model(text: str, shape: str, result: str, **weights: np.ndarray) -> onnx.ModelProto:
    header = (
        f'<ir_version: 8, opset_import: ["": 17]> g (float[{shape}] x) => (float[{result}] y) {{ {text} }}'
    )
    parsed = onnx.parser.parse_model(header)
    parsed.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()
    )
    return parsed


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def batch_norm(channels: int) -> dict[str, np.ndarray]:
    return {name: normal(channels) for name in ("scale", "bias", "mean")} | {
        "var": normal(channels) ** 2 + 0.5
    }


def folded_ops(proto: onnx.ModelProto, shape: tuple[int, ...]) -> Counter[str]:
    """The ops after folding, once the numbers are checked."""
    program = lower(proto)
    FoldTransposesPass().run(program)
    FoldBatchNormsPass().run(program)
    PassManager.parse("builtin.module(canonicalize,cse,tosa-validate)", program.context).run(
        program.module.operation
    )
    x = normal(*shape).astype(np.float32)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    for got, want in zip(reference_model.run(program, [x]), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    block = program.module.body.operations[0].regions[0].blocks[0]
    return Counter(view.operation.name.removeprefix("tosa.") for view in block.operations)


CONVOLUTIONS = [
    ("conv2d", "Conv(x, w)", {"w": normal(5, 4, 3, 3)}),
    ("conv2d", "Conv(x, w, b)", {"w": normal(5, 4, 3, 3), "b": normal(5)}),
    ("depthwise_conv2d", "Conv <group = 4> (x, w)", {"w": normal(8, 1, 3, 3)}),
    ("transpose_conv2d", "ConvTranspose(x, w)", {"w": normal(4, 6, 3, 3)}),
]


@pytest.mark.parametrize(("op", "call", "weights"), CONVOLUTIONS, ids=[call for _, call, _ in CONVOLUTIONS])
def test_batch_norm_goes_into_the_weights(op: str, call: str, weights: dict[str, np.ndarray]) -> None:
    transposed = op == "transpose_conv2d"
    channels = weights["w"].shape[1 if transposed else 0]
    size = 8 if transposed else 4
    text = f"c = {call} r = BatchNormalization(c, scale, bias, mean, var) y = Relu(r)"
    proto = model(text, "1, 4, 6, 6", f"1, {channels}, {size}, {size}", **weights, **batch_norm(channels))
    ops = folded_ops(proto, (1, 4, 6, 6))
    assert ops[op] == 1
    assert not ops["mul"] + ops["add"]


def test_scale_of_a_matrix_product_goes_into_the_weights_and_its_offsets_are_one() -> None:
    text = "p = MatMul(x, w) a = Add(p, b) r = Mul(a, s) y = Sub(r, b)"
    ops = folded_ops(model(text, "3, 4", "3, 5", w=normal(4, 5), b=normal(5), s=normal(5)), (3, 4))
    assert (ops["matmul"], ops["mul"], ops["add"]) == (1, 0, 1)


def test_run_without_weights_before_it_becomes_one_mul_and_one_add() -> None:
    text = "a = Mul(x, s) b = Add(a, s) c = Mul(b, s) d = Sub(s, c) e = Add(d, s) y = Relu(e)"
    ops = folded_ops(model(text, "3, 4", "3, 4", s=normal(4)), (3, 4))
    assert (ops["mul"], ops["add"], ops["sub"]) == (1, 1, 0)


def test_result_that_is_read_twice_keeps_its_weights() -> None:
    text = "c = Conv(x, w) r = Mul(c, s) y = Add(r, c)"
    ops = folded_ops(
        model(text, "1, 4, 6, 6", "1, 5, 4, 4", w=normal(5, 4, 3, 3), s=normal(5, 1, 1)), (1, 4, 6, 6)
    )
    assert (ops["conv2d"], ops["mul"], ops["add"]) == (1, 1, 1)


def test_run_that_is_read_twice_ends_there() -> None:
    text = "c = Conv(x, w) r = Mul(c, s) a = Add(r, s) y = Mul(r, a)"
    ops = folded_ops(
        model(text, "1, 4, 6, 6", "1, 5, 4, 4", w=normal(5, 4, 3, 3), s=normal(5, 1, 1)), (1, 4, 6, 6)
    )
    assert (ops["conv2d"], ops["mul"], ops["add"]) == (1, 1, 1)


def test_scale_along_another_axis_stays() -> None:
    text = "c = Conv(x, w) y = Mul(c, s)"
    ops = folded_ops(model(text, "1, 4, 6, 6", "1, 5, 4, 4", w=normal(5, 4, 3, 3), s=normal(4)), (1, 4, 6, 6))
    assert ops["mul"] == 1


def test_rounding_by_a_large_number_is_kept() -> None:
    text = "a = Add(x, big) y = Sub(a, big)"
    ops = folded_ops(model(text, "3, 4", "3, 4", big=np.float32(12582912)), (3, 4))
    assert ops["add"] + ops["sub"] == 2


@pytest.mark.parametrize(
    ("x", "factors"),
    [(1e-30, (1e30, 1e30)), (1e30, (1e-30, 1e-30)), (1e-30, (1e25, 1e25, 1e-20))],
    ids=["overflow", "underflow", "overflow_on_the_way"],
)
def test_factors_whose_product_float32_cannot_hold_stay_apart(x: float, factors: tuple[float, ...]) -> None:
    names = "abc"[: len(factors)]
    values = ["x", *"uvw"[: len(factors) - 1], "y"]
    text = " ".join(
        f"{after} = Mul({before}, {name})" for before, after, name in zip(values, values[1:], names)
    )
    proto = model(text, "2", "2", **{name: np.array(f) for name, f in zip(names, factors)})
    fed = np.full(2, x, np.float32)
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString(), _options_without_folding()).run(
        None, {"x": fed}
    )
    program = lower(proto)
    FoldBatchNormsPass().run(program)
    np.testing.assert_allclose(reference_model.run(program, [fed])[0], expected, rtol=1e-5)


def _options_without_folding() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options
