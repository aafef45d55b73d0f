"""Reductions and arg-reductions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

RNG = np.random.default_rng(7)
X = RNG.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)
REDUCTIONS = [f"Reduce{kind}" for kind in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()]


@pytest.mark.parametrize("op", REDUCTIONS)
def test_axes_as_attribute(op: str) -> None:
    check(op, {"x": X}, opset=11, axes=[-1, 0], keepdims=0)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_axes_as_operand(op: str) -> None:
    check(op, {"x": X, "axes": np.array([1])}, opset=18, constants=["axes"])


def test_no_axes_means_all() -> None:
    check("ReduceSum", {"x": X}, opset=13, keepdims=0)


def test_empty_axes_may_mean_none() -> None:
    empty = np.zeros(0, np.int64)
    check("ReduceMean", {"x": X, "axes": empty}, opset=18, constants=["axes"], noop_with_empty_axes=1)


def test_log_sum_exp_does_not_overflow() -> None:
    check("ReduceLogSumExp", {"x": np.array([[1000.0, 1000.0], [-1000.0, -1001.0]], np.float32)}, axes=[1])


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean"])
def test_integers(op: str) -> None:
    check(op, {"x": RNG.integers(1, 9, (2, 5)).astype(np.int32)}, opset=11, axes=[1])


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "int8"])
def test_arg_reduction_breaks_ties(op: str, last: int, dtype: str) -> None:
    x = np.array([[3, 1, 3, 1], [2, 2, 0, 0]], dtype)
    check(op, {"x": x}, axis=1, select_last_index=last)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sum(exclusive: int, reverse: int) -> None:
    operands = {"x": X, "axis": np.array(2)}
    check("CumSum", operands, constants=["axis"], exclusive=exclusive, reverse=reverse)
