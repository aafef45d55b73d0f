"""Ops that keep some of the elements: how many depends on data, so that the model has to say it."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, INT32
from tosaic_passes.onnx_to_tosa.indexing import take
from tosaic_passes.onnx_to_tosa.reduction import reduce_min, reduce_sum, running
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

COMPARISON_LIMIT = 1 << 22
"""Comparisons of elements with each other that Unique may make."""


def true_positions(ctx: LoweringContext, mask: Tensor, count: int) -> Tensor:
    """The positions [count] of the first true elements of a bool vector, beyond its end where there are fewer.

    The vector is sorted, true before false: the true elements before an element say where it goes.
    """
    size = mask.size
    if count > size:
        ctx.fail(f"the model declares {count} results of {size} elements")
    places = ctx.constant(np.arange(size, dtype=np.int32))
    flags = ctx.cast(mask, INT32)
    up_to_here = running(ctx, flags, 0, "add", 0)
    total = ctx.slice(up_to_here, [size - 1], [1])
    among_false = ctx.add(total, ctx.sub(places, up_to_here))
    goes_to = ctx.select(mask, ctx.sub(up_to_here, 1), among_false)
    ordered = ctx.emit(
        "scatter",
        [
            ctx.constant(np.zeros((1, size, 1), np.int32)),
            ctx.reshape(goes_to, (1, size)),
            ctx.reshape(places, (1, size, 1)),
        ],
        (1, size, 1),
        INT32,
    )
    first = ctx.slice(ctx.reshape(ordered, (size,)), [0], [count])
    return ctx.select(ctx.greater(total, ctx.slice(places, [0], [count])), first, size)


@lowering("Compress", since=9)
def compress(ctx: LoweringContext, x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """`tosa.gather` at the true positions of the condition, as many as the model declares."""
    if axis is None:
        x, axis = ctx.reshape(x, (x.size,)), 0
    axis = ctx.axis(axis, x.rank)
    count = ctx.result.shape[axis]
    if not ctx.result.shape or 0 in ctx.result.shape:
        return ctx.constant(np.zeros(ctx.result.shape, ctx.result.onnx_dtype))
    known = ctx.constant_value(condition)
    if known is not None:
        return take(ctx, x, ctx.constant(np.flatnonzero(known).astype(np.int32)), axis)
    condition = ctx.slice(condition, [0], [min(condition.size, x.shape[axis])])
    return take(ctx, x, true_positions(ctx, condition, count), axis)


@lowering("NonZero", since=9)
def non_zero(ctx: LoweringContext, x: Tensor) -> Tensor:
    """The positions of elements that are not 0, as many as the model declares, in a table of all indices."""
    rank, count = ctx.result.shape
    if not rank or not count:
        return ctx.constant(np.zeros(ctx.result.shape, np.int64))
    mask = ctx.reshape(ctx.cast(x, BOOL), (x.size,))
    table = np.indices(x.shape, np.int32).reshape(rank, x.size).T
    return ctx.transpose(take(ctx, ctx.constant(table), true_positions(ctx, mask, count), 0), [1, 0])


@lowering("Unique", since=11)
def unique(
    ctx: LoweringContext, x: Tensor, *, axis: int | None = None, sorted: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every element is compared with every other; as many results as the model declares. No NaN."""
    if axis is None:
        x, axis = ctx.reshape(x, (x.size,)), 0
    axis = ctx.axis(axis, x.rank)
    size, count = x.shape[axis], ctx.result.shape[axis]
    items = ctx.reshape(
        ctx.transpose(x, [axis, *(i for i in range(x.rank) if i != axis)]), (size, x.size // size)
    )
    if size * x.size > COMPARISON_LIMIT:
        ctx.fail(f"the comparison of {size} slices of {x.size // size} elements needs too many operations")
    places = ctx.constant(np.arange(size, dtype=np.int32).reshape(1, size))
    same, less = _compared(ctx, items)
    first_same = reduce_min(ctx, ctx.select(same, places, size), [1])
    own = ctx.reshape(places, (size, 1))
    is_first = ctx.equal(first_same, own)
    before = less if sorted else ctx.greater(first_same, places)
    firsts_before = ctx.logical_and(before, ctx.reshape(is_first, (1, size)))
    inverse = reduce_sum(ctx, ctx.cast(firsts_before, INT32), [1])
    hits = ctx.equal(inverse, ctx.constant(np.arange(count, dtype=np.int32).reshape(1, count)))
    counts = reduce_sum(ctx, ctx.cast(hits, INT32), [0])
    indices = ctx.reshape(reduce_min(ctx, ctx.select(hits, own, size), [0]), (count,))
    return take(ctx, x, indices, axis), indices, ctx.reshape(inverse, (size,)), ctx.reshape(counts, (count,))


def _compared(ctx: LoweringContext, items: Tensor) -> tuple[Tensor, Tensor]:
    """For items [n, m]: whether item i is item j, and whether item j comes before i; both [n, n]."""
    size, width = items.shape
    own = ctx.reshape(items, (size, 1, width))
    other = ctx.reshape(items, (1, size, width))
    differs = ctx.cast(ctx.logical_not(ctx.equal(own, other)), INT32)
    differences_before = running(ctx, differs, 2, "add", 0, exclusive=True)
    decides = ctx.logical_and(ctx.equal(differences_before, 0), ctx.greater(own, other))
    less = ctx.reduce("reduce_any", decides, [2], keepdims=False)
    same = ctx.logical_not(ctx.reduce("reduce_any", ctx.cast(differs, BOOL), [2], keepdims=False))
    return same, less
