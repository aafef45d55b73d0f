"""Reductions against numpy: any axis, any strides, the order of summation bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import Expression, KernelRequest, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, PRICES, operand_of, run_kernel

FOLDS = {"sum": np.add, "product": np.multiply, "max": np.maximum, "min": np.minimum}


def reduce(
    op: str, x: np.ndarray, element: str, axis: int, result: str = "", extra=(), epilogue=None, **attributes
):
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    if op == "argmax":
        shape = shape[:axis] + shape[axis + 1 :]
    operands = [operand_of(x, element), *(operand_of(array, kind) for kind, array in extra)]
    request = KernelRequest(
        op, tuple(operands), (View.contiguous(result or element, shape),), {"axis": axis, **attributes},
        result or element, epilogue,
    )  # fmt: skip
    return run_kernel(build(request, PRICES), request, [x, *(array for _, array in extra)])[0]


def ordered_sum(x: np.ndarray, axis: int) -> np.ndarray:
    """f32 sums in the order that `fold.py` states."""
    rows = np.moveaxis(x, axis, 0)
    n = rows.shape[0]
    innermost = all(size == 1 for size in x.shape[axis + 1 :])
    if not innermost or n < 8:
        return np.expand_dims(in_order(rows), axis)
    lanes = [in_order(rows[j : n // 4 * 4 : 4]) for j in range(4)]
    total = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
    for k in range(n // 4 * 4, n):
        total = total + rows[k]
    return np.expand_dims(total, axis)


def in_order(rows: np.ndarray) -> np.ndarray:
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def normal(shape, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5, 7), 0), ((5, 7), 1), ((3, 8), 1), ((2, 33), 1), ((1, 1000), 1), ((7, 130), 1), ((100, 6), 0),
        ((2, 3, 70, 5), 2), ((4, 9, 1), 1), ((3, 4), 0), ((1, 5), 0),
    ],
)  # fmt: skip
def test_sums_in_the_stated_order(shape, axis: int) -> None:
    x = normal(shape)
    np.testing.assert_array_equal(reduce("reduce_sum", x, "f32", axis), ordered_sum(x, axis))


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 3), st.booleans(),
    st.sampled_from(["f32", "i32", "i64"]), st.sampled_from(list(FOLDS)),
)  # fmt: skip
def test_any_axis_and_strides(shape, axis, reverse, element, fold) -> None:
    axis %= len(shape)
    x = np.random.default_rng(2).integers(-3, 4, shape[::-1]).astype(DTYPES[element]).T
    if reverse:
        x = x[::-1, ..., ::-1] if x.ndim > 1 else x[::-1]
    expected = FOLDS[fold].reduce(x, axis=axis, keepdims=True, dtype=x.dtype)
    np.testing.assert_array_equal(reduce(f"reduce_{fold}", x, element, axis), expected)


@pytest.mark.parametrize(("op", "numpy_op"), [("reduce_any", np.any), ("reduce_all", np.all)])
@pytest.mark.parametrize("axis", [0, 1])
def test_logical_reductions(op: str, numpy_op, axis: int) -> None:
    x = np.random.default_rng(3).integers(0, 6, (9, 17)) > (0 if op == "reduce_all" else 4)
    np.testing.assert_array_equal(reduce(op, x, "i1", axis), numpy_op(x, axis=axis, keepdims=True))


@pytest.mark.parametrize("element", ["i8", "i16"])
def test_extrema_of_narrow_integers(element: str) -> None:
    x = np.random.default_rng(4).integers(-128, 128, (5, 37)).astype(DTYPES[element])
    np.testing.assert_array_equal(reduce("reduce_max", x, element, 1), x.max(1, keepdims=True))
    np.testing.assert_array_equal(reduce("reduce_min", x, element, 0), x.min(0, keepdims=True))


@pytest.mark.parametrize("element", ["f16", "bf16"])
def test_narrow_floats_are_summed_in_f32(element: str) -> None:
    x = normal((3, 40)).astype(DTYPES[element])
    expected = ordered_sum(x.astype(np.float32), 1).astype(x.dtype)
    np.testing.assert_array_equal(reduce("reduce_sum", x, element, 1), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_extrema_and_nan(axis: int) -> None:
    x = normal((12, 12))
    x[3, 4] = np.nan
    np.testing.assert_array_equal(reduce("reduce_max", x, "f32", axis), x.max(axis, keepdims=True))
    found = reduce("reduce_min", x, "f32", axis, nan_mode="IGNORE")
    np.testing.assert_array_equal(found, np.nanmin(x, axis, keepdims=True))


@pytest.mark.parametrize("result", ["i32", "i64"])
@pytest.mark.parametrize("element", ["f32", "i8", "i32", "bf16", "i64"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 50), 1), ((1, 1000), 1), ((40, 9), 0), ((2, 5, 6), 1), ((6,), 0), ((3, 1), 1)]
)
def test_argmax_takes_the_first(shape, axis: int, element: str, result: str) -> None:
    x = np.random.default_rng(5).integers(-9, 9, shape).astype(DTYPES[element])
    found = reduce("argmax", x, element, axis, result)
    np.testing.assert_array_equal(found, x.astype(np.float32).argmax(axis))
    assert found.dtype == DTYPES[result]


def test_argmax_and_nan() -> None:
    x = np.array([[1, np.nan, 3, np.nan], [np.nan, 2, 5, 5], [np.nan] * 4, [-np.inf] * 4], np.float32)
    np.testing.assert_array_equal(reduce("argmax", x, "f32", 1, "i32"), [1, 0, 0, 0])
    np.testing.assert_array_equal(reduce("argmax", x, "f32", 1, "i32", nan_mode="IGNORE"), [2, 2, 0, 0])


def test_epilogue_on_a_reduction() -> None:
    """The mean with an offset per row: sum * 1/n + b."""
    x, b = normal((6, 32)), normal((6, 1), 2)
    nodes = (
        ("result", (), ()),
        ("constant", (), (("value", 1 / 32),)),
        ("mul", (0, 1), ()),
        ("input", (1,), ()),
        ("add", (2, 3), ()),
    )
    found = reduce("reduce_sum", x, "f32", 1, extra=[("f32", b)], epilogue=Expression(nodes, ("f32",) * 5))
    np.testing.assert_array_equal(found, ordered_sum(x, 1) * np.float32(1 / 32) + b)


SQUARE_OF_DIFFERENCE = Expression(
    (("input", (0,), ()), ("input", (1,), ()), ("sub", (0, 1), ()), ("mul", (2, 2), ())), ("f32",) * 4
)
WHERE = Expression(
    (
        ("input", (0,), ()),
        ("input", (1,), ()),
        ("constant", (), (("element", "f32"), ("value", 0.0))),
        ("select", (0, 1, 2), ()),
    ),
    ("i1", "f32", "f32", "f32"),
)


def reduced(op: str, prologue: Expression, axis: int, *given: tuple[np.ndarray, str]) -> np.ndarray:
    """A reduction of what a prologue computes from operands of one shape."""
    shape = tuple(1 if i == axis else n for i, n in enumerate(given[0][0].shape))
    request = KernelRequest(
        op, tuple(operand_of(x, element) for x, element in given), (View.contiguous("f32", shape),),
        {"axis": axis}, "f32", prologue=prologue,
    )  # fmt: skip
    return run_kernel(build(request, PRICES), request, [x for x, _ in given])[0]


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 6, 7), 1), ((9, 70), 1), ((3, 200, 5), 1), ((130, 3), 0), ((2, 5), 1)]
)
def test_sums_of_what_a_prologue_computes(shape: tuple[int, ...], axis: int) -> None:
    x, mean = normal(shape), np.broadcast_to(normal((shape[0],) + (1,) * (len(shape) - 1), 2), shape)
    found = reduced("reduce_sum", SQUARE_OF_DIFFERENCE, axis, (x, "f32"), (mean, "f32"))
    np.testing.assert_array_equal(found, ordered_sum((x - mean) ** 2, axis))


def test_prologue_over_strides_and_element_types() -> None:
    rng = np.random.default_rng(3)
    x, mask = (
        normal((40, 90)).T[::-1, 1:18],
        np.broadcast_to(rng.integers(0, 2, (90, 1)).astype(bool), (90, 17)),
    )
    for axis in (0, 1):
        found = reduced("reduce_sum", WHERE, axis, (mask, "i1"), (x, "f32"))
        np.testing.assert_array_equal(found, ordered_sum(np.where(mask, x, np.float32(0)), axis))


def test_prologue_of_64_bits() -> None:
    x = np.arange(60, dtype=np.int64).reshape(3, 20) * (1 << 30)
    prologue = Expression((("input", (0,), ()), ("cast", (0,), ())), ("i64", "f32"))
    found = reduced("reduce_max", prologue, 1, (x, "i64"))
    np.testing.assert_array_equal(found, x.astype(np.float32).max(1, keepdims=True))


def test_a_prologue_costs_less_than_a_pass_over_memory() -> None:
    x = operand_of(np.zeros((64, 1024), np.float32), "f32")
    square = Expression((("input", (0,), ()), ("mul", (0, 0), ())), ("f32",) * 2)
    sums, whole = View.contiguous("f32", (64, 1)), View.contiguous("f32", (64, 1024))
    fused = KernelRequest("reduce_sum", (x,), (sums,), {"axis": 1}, "f32", prologue=square)
    apart = (
        KernelRequest("elementwise", (x,), (whole,), epilogue=square),
        KernelRequest("reduce_sum", (x,), (sums,), {"axis": 1}, "f32"),
    )
    assert build(fused, PRICES).cost < 0.75 * sum(build(request, PRICES).cost for request in apart)


def test_the_cost_of_long_sums() -> None:
    """About 4 instructions for each vector of four elements: address, load, addition (2)."""
    x = np.zeros((64, 1024), np.float32)
    for axis in (0, 1):
        shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
        request = KernelRequest(
            "reduce_sum", (operand_of(x, "f32"),), (View.contiguous("f32", shape),), {"axis": axis}
        )
        assert build(request, PRICES).cost <= 1.3 * x.size
