"""Activation functions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

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


def test_clip_with_minimum_above_maximum_gives_the_maximum() -> None:
    bounds = {"min": np.array(2, np.float32), "max": np.array(1, np.float32)}
    check("Clip", {"x": X, **bounds}, constants=bounds)


def test_clip_of_int8() -> None:
    bounds = {"min": np.array(-3, np.int8), "max": np.array(100, np.int8)}
    check("Clip", {"x": np.array([-128, -4, 5, 127], np.int8), **bounds}, constants=bounds)


def test_prelu_broadcasts_its_slope() -> None:
    check("PRelu", {"x": X, "slope": np.array([[0.1], [2.0]], np.float32)})
