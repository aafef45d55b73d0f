"""Inverse trigonometric and hyperbolic functions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

UNIT = [-1.0, -0.99, -0.5001, -0.5, -1e-4, 0.0, 1e-6, 0.3, 0.7, 1.0]
WIDE = [-80.0, -3.0, -1.0, -0.4, -1e-5, 0.0, 1e-3, 0.42, 2.0, 2.5, 88.0]


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("Acos", UNIT),
        ("Asin", UNIT),
        ("Atanh", UNIT[1:-1]),
        ("Atan", [*WIDE, 1e30, np.inf]),
        ("Sinh", WIDE),
        ("Cosh", WIDE),
        ("Asinh", [*WIDE, 1e4, 2e4, 1e30]),
        ("Acosh", [1.0, 1.0001, 1.4, 1.6, 30.0, 2e4, 1e30]),
    ],
)
def test_whole_range(op: str, values: list[float]) -> None:
    check(op, {"x": np.array(values, np.float32)}, opset=22 if op != "Atan" else 17, rtol=2e-6, atol=0)
