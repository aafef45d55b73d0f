"""Ops that order elements."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32, is_float, limits
from tosaic_passes.onnx_to_tosa.reduction import reduce_max, reduce_min, reduce_sum
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

RANKING_LIMIT = 1 << 22
"""Pairs that may be compared to rank the elements of all rows."""
SELECTION_LIMIT = 256
"""Elements that are selected one after the other."""


@lowering("TopK")
def top_k_attribute(ctx: LoweringContext, x: Tensor, *, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """As from opset 10 on, the greatest elements."""
    return _top_k(ctx, x, axis, largest=True)


@lowering("TopK", since=10)
def top_k(
    ctx: LoweringContext, x: Tensor, k: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """Few elements by selecting one after the other, many by counting for each element those before it.

    Equal elements come in the order of their indices. No NaN.
    """
    return _top_k(ctx, x, axis, largest=bool(largest))


def _top_k(ctx: LoweringContext, x: Tensor, axis: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    axis = ctx.axis(axis, x.rank)
    count, size = ctx.result.shape[axis], x.shape[axis]
    last = [*(i for i in range(x.rank) if i != axis), axis]
    moved = ctx.transpose(x, last)
    rows = ctx.reshape(moved, (x.size // size, size))
    shape = (*moved.shape[:-1], count)
    if not count:
        return ctx.constant(np.zeros(ctx.result.shape, x.dtype)), ctx.constant(
            np.zeros(ctx.result.shape, np.int64)
        )
    positions = order(ctx, rows, count, largest=largest)
    values = ctx.gather(ctx.reshape(rows, (*rows.shape, 1)), positions)
    back = np.argsort(last).tolist()
    return ctx.transpose(ctx.reshape(values, shape), back), ctx.transpose(ctx.reshape(positions, shape), back)


def order(ctx: LoweringContext, rows: Tensor, count: int, *, largest: bool) -> Tensor:
    """Indices [N, count] of the first elements of each row [N, size] in order, ties by index."""
    number, size = rows.shape
    pairs = number * size * size
    if count * 8 < size or pairs > RANKING_LIMIT:
        if count > SELECTION_LIMIT:
            ctx.fail(f"ordering {count} of {size} elements in {number} rows needs too many operations")
        return _selected(ctx, rows, count, largest=largest)
    return _ranked(ctx, rows, count, largest=largest)


def _selected(ctx: LoweringContext, rows: Tensor, count: int, *, largest: bool) -> Tensor:
    size = rows.shape[1]
    extreme = reduce_max if largest else reduce_min
    low, high = (-np.inf, np.inf) if is_float(rows.dtype) else limits(rows.dtype)
    never = np.array(low if largest else high).astype(rows.dtype)
    columns = ctx.constant(np.arange(size, dtype=np.int32).reshape(1, size))
    free, found = ctx.constant(np.ones((1, size), np.bool_)), []
    for _ in range(count):
        best = extreme(ctx, ctx.select(free, rows, never), [1])
        hits = ctx.logical_and(free, ctx.equal(rows, best))
        found.append(reduce_min(ctx, ctx.select(hits, columns, np.array(size - 1, np.int32)), [1]))
        free = ctx.logical_and(free, ctx.logical_not(ctx.equal(columns, found[-1])))
    return ctx.concat(found, 1)


def _ranked(ctx: LoweringContext, rows: Tensor, count: int, *, largest: bool) -> Tensor:
    number, size = rows.shape
    own, other = ctx.reshape(rows, (number, size, 1)), ctx.reshape(rows, (number, 1, size))
    ahead = ctx.greater(other, own) if largest else ctx.greater(own, other)
    earlier = ctx.constant(np.tri(size, k=-1, dtype=np.bool_)[None])
    before = ctx.logical_or(ahead, ctx.logical_and(ctx.equal(own, other), earlier))
    ranks = reduce_sum(ctx, ctx.cast(before, INT32), [2])
    wanted = ctx.constant(np.arange(count, dtype=np.int32).reshape(1, 1, count))
    columns = ctx.constant(np.arange(size, dtype=np.int32).reshape(1, size, 1))
    chosen = ctx.select(ctx.equal(ranks, wanted), columns, 0)
    return ctx.reshape(reduce_sum(ctx, chosen, [1]), (number, count))
