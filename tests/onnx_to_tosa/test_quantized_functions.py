"""Functions of quantised tensors against onnxruntime: equal integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import reference_model
from single_node import check, lower

RNG = np.random.default_rng(5)
CONTRIB = "com.microsoft"


def integers(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def scalar(value: float, dtype: str = "float32") -> np.ndarray:
    return np.array(value, dtype)


@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_sum_and_product(op: str, dtype: str, known: bool) -> None:
    parameters = {
        "as": scalar(0.021),
        "az": scalar(10, dtype),
        "b": integers(dtype, 16),
        "bs": scalar(0.0133),
        "bz": scalar(100, dtype),
        "cs": scalar(0.0317),
        "cz": scalar(31, dtype),
    }
    constants = [name for name in parameters if name != "b"] if known else []
    check(op, {"a": integers(dtype, 4, 16)} | parameters, domain=CONTRIB, constants=constants)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_sum_and_product_of_scalars(op: str) -> None:
    parameters = {
        "as": scalar(0.034),
        "az": scalar(35, "int8"),
        "b": scalar(-50, "int8"),
        "bs": scalar(0.0115),
        "bz": scalar(-118, "int8"),
        "cs": scalar(0.083),
        "cz": scalar(38, "int8"),
    }
    constants = [name for name in parameters if name != "b"]
    check(op, {"a": scalar(89, "int8")} | parameters, domain=CONTRIB, constants=constants)


@pytest.mark.parametrize("scales", [(1e-6, 2e-7, 3.0), (4e6, 1.0, 0.3), (-0.1037, 0.0513, 0.2)], ids=str)
def test_sum_with_unusual_scales(scales: tuple[float, float, float]) -> None:
    parameters = {
        "as": scalar(scales[0]),
        "az": scalar(-3, "int8"),
        "b": integers("int8", 16, 16),
        "bs": scalar(scales[1]),
        "bz": scalar(0, "int8"),
        "cs": scalar(scales[2]),
        "cz": scalar(7, "int8"),
    }
    operands = {"a": integers("int8", 16, 16)} | parameters
    constants = [name for name in parameters if name != "b"]
    check("QLinearAdd", operands, domain=CONTRIB, constants=constants)


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize("scales", [(1, 1, 2), (0.5, 0.75, 1), (0.25, 1, 16)], ids=str)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_ties_round_to_even(op: str, scales: tuple[float, float, float], zero: int) -> None:
    parameters = {
        "as": scalar(scales[0]),
        "az": scalar(-3, "int8"),
        "b": integers("int8", 16, 16),
        "bs": scalar(scales[1]),
        "bz": scalar(0, "int8"),
        "cs": scalar(scales[2]),
        "cz": scalar(zero, "int8"),
    }
    operands = {"a": integers("int8", 16, 16)} | parameters
    check(op, operands, domain=CONTRIB, constants=[name for name in parameters if name != "b"])


@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("op", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.2})])
def test_unary_function(op: str, attributes: dict, dtype: str, known: bool) -> None:
    info = np.iinfo(dtype)
    parameters = {
        "xs": scalar(0.037),
        "xz": scalar(50, dtype),
        "ys": scalar(0.0043),
        "yz": scalar(info.min, dtype),
    }
    x = {"x": np.arange(info.min, info.max + 1).astype(dtype)}
    check(op, x | parameters, domain=CONTRIB, constants=parameters if known else [], **attributes)


SOFTMAX = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
main (uint8[3, 7] x) => (uint8[3, 7] y)
<float xs = {0.037}, uint8 xz = {50}, float ys = {0.00390625}, uint8 yz = {0}> {
  y = com.microsoft.QLinearSoftmax <axis = -1, opset = 13> (x, xs, xz, ys, yz)
}"""


def test_softmax_is_one_step_off_at_most() -> None:
    model, x = onnx.parser.parse_model(SOFTMAX), integers("uint8", 3, 7)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (actual,) = reference_model.run(lower(model), [x])
    assert np.abs(actual.astype(int) - expected).max() <= 1
    assert expected.max() > 100


def test_concatenation_brings_operands_to_the_scale_of_the_result() -> None:
    operands = {
        "ys": scalar(0.05),
        "yz": scalar(3, "uint8"),
        "a": integers("uint8", 2, 256),
        "as": scalar(0.05),
        "az": scalar(3, "uint8"),
        "b": integers("uint8", 2, 256),
        "bs": scalar(0.025),
        "bz": scalar(130, "uint8"),
    }
    constants = [name for name in operands if len(name) == 2]
    check("QLinearConcat", operands, domain=CONTRIB, constants=constants, axis=1)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_mean_over_the_image(dtype: str) -> None:
    parameters = {
        "xs": scalar(0.037),
        "xz": scalar(50, dtype),
        "ys": scalar(0.0143),
        "yz": scalar(7, dtype),
    }
    x = {"x": integers(dtype, 2, 3, 7, 5)}
    check("QLinearGlobalAveragePool", x | parameters, domain=CONTRIB, constants=parameters, channels_last=0)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    ],
    ids=str,
)
def test_mean_under_windows(attributes: dict) -> None:
    parameters = {
        "xs": scalar(0.25),
        "xz": scalar(50, "uint8"),
        "ys": scalar(0.125),
        "yz": scalar(51, "uint8"),
    }
    x = {"x": integers("uint8", 2, 3, 7, 6)}
    check("QLinearAveragePool", x | parameters, domain=CONTRIB, constants=parameters, **attributes)
