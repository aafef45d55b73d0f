"""Gather and scatter against numpy, by constant indices and by indices that are only known at run time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.errors import TosaicError
from tosaic.replica.instance import Trapped
from tosaic.wasm.kernel import Expression, Kernel, KernelRequest, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, PRICES, operand_of, run_kernel


def gather(values, indices, element="f32", constant=False, extra=(), epilogue=None) -> np.ndarray:
    shape = (*indices.shape, values.shape[2])
    operands = [operand_of(values, element), operand_of(indices, "i32", constant)]
    operands += [operand_of(array, kind) for kind, array in extra]
    request = KernelRequest(
        "gather", tuple(operands), (View.contiguous(element, shape),), {}, element, epilogue
    )
    return run_kernel(build(request, PRICES), request, [values, indices, *(array for _, array in extra)])[0]


def taken(values, indices) -> np.ndarray:
    return np.stack([values[n][row] for n, row in enumerate(indices)])


def values_of(shape, element="f32") -> np.ndarray:
    return np.random.default_rng(1).integers(-100, 100, shape).astype(DTYPES[element])


INDICES = {
    "any": [[3, 0, 7, 7, 2, 9, 1, 5, 8, 8, 4, 6, 0, 9, 2, 2, 5, 1, 9, 7, 3, 6, 6, 1, 0, 4, 8, 3, 3, 2]],
    "one": [[4]],
    "steps": [[0, 2, 4, 6, 8]],
    "backwards": [[9, 8, 7, 6, 5, 4]],
    "each twice": [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]],
}


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 64])
@pytest.mark.parametrize("case", INDICES)
def test_gather(case: str, channels: int, constant: bool) -> None:
    values, indices = values_of((1, 10, channels)), np.array(INDICES[case], np.int32)
    np.testing.assert_array_equal(gather(values, indices, constant=constant), taken(values, indices))


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("element", ["i1", "i8", "bf16", "i32", "i64"])
def test_gather_of_batches(element: str, constant: bool) -> None:
    values = values_of((3, 5, 6), element)
    indices = np.array([[4, 0], [1, 1], [2, 3]], np.int32)
    np.testing.assert_array_equal(gather(values, indices, element, constant), taken(values, indices))


@given(st.data(), st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_any_gather(data, batch, size, channels, alike) -> None:
    count = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    indices = rng.integers(0, size, (1 if alike else batch, count)).astype(np.int32)
    indices = np.ascontiguousarray(np.broadcast_to(indices, (batch, count)))
    values = values_of((batch, size, channels))
    for constant in (False, True):
        np.testing.assert_array_equal(gather(values, indices, constant=constant), taken(values, indices))


@pytest.mark.parametrize("constant", [False, True])
def test_epilogue_on_what_is_gathered(constant: bool) -> None:
    values, indices = values_of((2, 6, 5)), np.array([[0, 5, 1], [0, 5, 1]], np.int32)
    bias = values_of((1, 3, 5))
    nodes = (("result", (), ()), ("input", (2,), ()), ("add", (0, 1), ()))
    found = gather(values, indices, "f32", constant, [("f32", bias)], Expression(nodes, ("f32",) * 3))
    np.testing.assert_array_equal(found, taken(values, indices) + bias)


def test_constant_indices_touch_only_their_rows() -> None:
    values = values_of((1, 6, 40_000))
    for rows in ([[1, 4]], [[4, 1, 1, 4, 1]]):
        indices = np.array(rows, np.int32)
        np.testing.assert_array_equal(gather(values, indices, constant=True), taken(values, indices))


@pytest.mark.parametrize("index", [-1, 10, 1 << 30])
def test_an_index_out_of_range_ends_the_message(index: int) -> None:
    values = values_of((1, 10, 4))
    with pytest.raises(Trapped, match="unreachable"):
        gather(values, np.array([[0, index]], np.int32))
    with pytest.raises(TosaicError, match="lies outside of its 10 rows"):
        gather(values, np.array([[0, index]], np.int32), constant=True)


@pytest.mark.parametrize("element", ["f32", "i8"])
@pytest.mark.parametrize("channels", [1, 7])
def test_scatter(element: str, channels: int) -> None:
    values, rows = values_of((2, 9, channels), element), -values_of((2, 3, channels), element)
    indices = np.array([[8, 0, 3], [1, 2, 4]], np.int32)
    operands = (operand_of(values, element), operand_of(indices, "i32"), operand_of(rows, element))
    request = KernelRequest("scatter", operands, (View.contiguous(element, values.shape),), {}, element)
    expected = values.copy()
    for n in range(2):
        expected[n][indices[n]] = rows[n]
    np.testing.assert_array_equal(
        run_kernel(build(request, PRICES), request, [values, indices, rows])[0], expected
    )


def looked_up(values: np.ndarray, indices: np.ndarray, constant_table: bool) -> Kernel:
    """Look rows up; the kernel is checked against what it promises, its result against numpy."""
    operands = (operand_of(values, "f32", constant_table), operand_of(indices, "i32"))
    output = View.contiguous("f32", (*indices.shape, values.shape[2]))
    request = KernelRequest("gather", operands, (output,), {}, "f32")
    kernel = build(request, PRICES)
    np.testing.assert_array_equal(run_kernel(kernel, request, [values, indices])[0], taken(values, indices))
    return kernel


@pytest.mark.parametrize("channels", [128, 300, 16_384, 20_000, 32_768])
@pytest.mark.parametrize("case", ["alike", "apart", "any", "last"])
def test_a_large_table_always_costs_the_same(case: str, channels: int) -> None:
    """Rows that divide pages, straddle them, fill one, and are larger than one."""
    rows = 40 * 65_536 // (4 * channels) + 1
    values = values_of((1, rows, channels))
    indices = {
        "alike": [5, 5, 5, 5],
        "apart": [0, rows // 3, rows // 2, rows - 1],
        "any": list(np.random.default_rng(3).integers(0, rows, 4)),
        "last": [rows - 1, rows - 1, rows - 2, rows - 3],
    }[case]
    kernel = looked_up(values, np.array([indices], np.int32), constant_table=True)
    assert kernel.exact
    assert kernel.sample is not None


@pytest.mark.parametrize("constant_table", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_all_pages_of_a_table_are_touched_where_that_is_cheaper(constant_table: bool, batch: int) -> None:
    values = values_of((batch, 100, 1000))
    indices = np.random.default_rng(2).integers(0, 100, (batch, 30)).astype(np.int32)
    kernel = looked_up(values, indices, constant_table)
    assert kernel.exact
    assert kernel.sample is None


def row_gather(values: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    batch, width = indices.shape
    output = View.contiguous("f32", (batch, width * count, values.shape[2]))
    operands = (operand_of(values, "f32"), operand_of(indices, "i32"))
    request = KernelRequest("row_gather", operands, (output,), {"row_count": count}, "f32")
    return run_kernel(build(request, PRICES), request, [values, indices])[0]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_blocks_of_rows_are_gathered(count: int) -> None:
    values = values_of((2, 9, 5))
    indices = np.random.default_rng(3).integers(0, 9 - count + 1, (2, 4)).astype(np.int32)
    rows = (indices[:, :, None] + np.arange(count)).reshape(2, -1)
    np.testing.assert_array_equal(row_gather(values, indices, count), taken(values, rows))


def test_a_block_that_reaches_behind_the_values_ends_the_message() -> None:
    with pytest.raises(Trapped):
        row_gather(values_of((1, 9, 5)), np.array([[7]], np.int32), 3)
