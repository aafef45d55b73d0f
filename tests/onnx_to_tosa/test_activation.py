"""Activation functions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

import reference_model
from single_node import check, lower, node_model

X = np.array([[-88.0, -3.5, -1.0, -0.25], [0.0, 0.3, 2.5, 90.0]], np.float32)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.1}),
        ("LeakyRelu", {"alpha": -0.5}),
        ("LeakyRelu", {"alpha": 1.5}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("HardSwish", {}),
        ("Elu", {"alpha": 0.7}),
        ("Selu", {}),
        ("Celu", {"alpha": 2.0}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("ThresholdedRelu", {"alpha": 0.3}),
        ("Mish", {"opset": 18}),
        ("Gelu", {"opset": 20}),
        ("Gelu", {"opset": 20, "approximate": "tanh"}),
        ("Shrink", {"bias": 0.5, "lambd": 1.0}),
    ],
    ids=str,
)
def test_function(op: str, attributes: dict) -> None:
    check(op, {"x": X}, **attributes)


@pytest.mark.parametrize("opset", [6, 11, 13])
def test_clip_keeps_its_bounds_in_every_opset(opset: int) -> None:
    bounds = {"min": np.float32(-1), "max": np.float32(0.5)}
    if opset < 11:
        check("Clip", {"x": X}, opset=opset, **{name: float(value) for name, value in bounds.items()})
    else:
        check("Clip", {"x": X, **{k: np.array(v) for k, v in bounds.items()}}, opset=opset, constants=bounds)


def test_clip_with_computed_bounds() -> None:
    check("Clip", {"x": X, "min": np.array(-1, np.float32), "max": np.array(2, np.float32)})


def test_clip_without_minimum() -> None:
    check("Clip", {"x": X, " ": np.zeros(0), "max": np.array(2, np.float32)}, constants=["max"])


def test_clip_whose_bound_is_that_of_int64() -> None:
    x, limits = np.array([-3, 7], np.int64), np.iinfo(np.int64)
    bounds = {"min": np.array(0), "max": np.array(limits.max)}
    check("Clip", {"x": x, **bounds}, constants=["min", "max"])
    bounds = {"min": np.array(limits.min), "max": np.array(5)}
    check("Clip", {"x": x, **bounds}, constants=["min", "max"])


def test_clip_with_minimum_above_maximum_gives_the_maximum() -> None:
    bounds = {"min": np.array(2, np.float32), "max": np.array(1, np.float32)}
    check("Clip", {"x": X, **bounds}, constants=bounds)


def test_clip_of_int8() -> None:
    bounds = {"min": np.array(-3, np.int8), "max": np.array(100, np.int8)}
    check("Clip", {"x": np.array([-128, -4, 5, 127], np.int8), **bounds}, constants=bounds)


def test_prelu_broadcasts_its_slope() -> None:
    check("PRelu", {"x": X, "slope": np.array([[0.1], [2.0]], np.float32)})


@pytest.mark.parametrize("slope", [[0.25], [0.1, 2.0, -1.0]], ids=["shared", "by_channel"])
def test_prelu_of_opset_6(slope: list[float]) -> None:
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(1, 3, 2, 2)
    operands = {"x": x, "slope": np.array(slope, np.float32)}
    program = lower(node_model("PRelu", operands, opset=6))
    (actual,) = reference_model.run(program, list(operands.values()))
    factors = np.array(slope, np.float32).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(actual, np.where(x < 0, factors * x, x))
