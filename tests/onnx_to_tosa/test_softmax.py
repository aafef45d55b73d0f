"""Softmax and its kin against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

X = np.random.default_rng(5).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_along(op: str, opset: int, axis: int) -> None:
    check(op, {"x": X}, opset=opset, axis=axis)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_large_numbers_do_not_overflow(op: str) -> None:
    check(op, {"x": X * 1000})


def test_hardmax_takes_the_first_of_equals() -> None:
    check("Hardmax", {"x": np.array([[1, 3, 3, 2], [5, 5, 5, 5]], np.float32)})
