"""Scatter operators against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from single_node import check, check_model

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("axis", [0, 1])
def test_elements_into_a_corner(axis: int) -> None:
    operands = {"x": X, "i": np.array([[0, -1], [2, 1]]), "u": np.array([[50, 60], [70, 80]], np.float32)}
    check("ScatterElements", operands, axis=axis)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_elements_with_equal_indices_are_reduced(reduction: str) -> None:
    operands = {"x": X, "i": np.array([[1, 1, 3]]), "u": np.array([[-2, 7, 3]], np.float32)}
    check("ScatterElements", operands, opset=18, axis=1, reduction=reduction)


EXPANDED = """<ir_version: 8, opset_import: ["" : 18]>
main (float[4, 5, 3] x, int64[{column}] i, float[{updates}] u) => (float[4, 5, 3] y) <int64[3] s = {{{updates}}}> {{
  e = Expand (i, s)
  y = ScatterElements <axis = {axis}, reduction = "{reduction}"> (x, e, u)
}}"""


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize(
    ("axis", "column", "updates"),
    [(0, "2, 1, 1", "2, 5, 3"), (1, "1, 3, 1", "4, 3, 2"), (2, "1, 1, 2", "1, 5, 2")],
)
def test_elements_with_expanded_indices(axis: int, column: str, updates: str, reduction: str) -> None:
    model = onnx.parser.parse_model(
        EXPANDED.format(axis=axis, column=column, updates=updates, reduction=reduction)
    )
    column_shape, shape = (tuple(map(int, text.split(","))) for text in (column, updates))
    indices = {"none": [1, -1, 0], "add": [1, 1, -1]}[reduction][: max(column_shape)]
    rng = np.random.default_rng(0)
    fed = {
        "x": rng.standard_normal((4, 5, 3), np.float32),
        "i": np.reshape(indices, column_shape),
        "u": rng.standard_normal(shape, np.float32),
    }
    check_model(model, fed)


def test_constant_indices_that_repeat_along_other_axes() -> None:
    operands = {"x": X, "i": np.array([[2] * 4, [0] * 4]), "u": X[:2] + 50}
    check("ScatterElements", operands, constants=["i"], axis=0)


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
