"""Scatter operators against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("axis", [0, 1])
def test_elements_into_a_corner(axis: int) -> None:
    operands = {"x": X, "i": np.array([[0, -1], [2, 1]]), "u": np.array([[50, 60], [70, 80]], np.float32)}
    check("ScatterElements", operands, axis=axis)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_elements_with_equal_indices_are_reduced(reduction: str) -> None:
    operands = {"x": X, "i": np.array([[1, 1, 3]]), "u": np.array([[-2, 7, 3]], np.float32)}
    check("ScatterElements", operands, opset=18, axis=1, reduction=reduction)


def test_nd_writes_rows() -> None:
    operands = {"x": X, "i": np.array([[2], [0]]), "u": -X[:2]}
    check("ScatterND", operands)


def test_nd_with_constant_equal_indices_keeps_the_last() -> None:
    operands = {"x": X, "i": np.array([[1, 1], [1, 1], [-1, 0]]), "u": np.array([5, 6, 7], np.float32)}
    check("ScatterND", operands, constants=["i"])


@pytest.mark.parametrize("reduction", ["add", "mul"])
def test_nd_reduces(reduction: str) -> None:
    operands = {"x": X, "i": np.array([[1], [1]]), "u": X[:2] + 1}
    check("ScatterND", operands, reduction=reduction)


def test_nd_of_bool() -> None:
    check("ScatterND", {"x": X > 5, "i": np.array([[0, 0]]), "u": np.array([True])})
