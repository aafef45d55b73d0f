"""Ops that read or write elements at computed positions."""

from __future__ import annotations

import math

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32, is_float
from tosaic_passes.onnx_to_tosa.movement import take_ranges
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("Gather")
def gather(ctx: LoweringContext, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """`tosa.gather` on [outer, size, inner]; constant indices at equal distances by `tosa.slice`."""
    axis = ctx.axis(axis, x.rank)
    size = x.shape[axis]
    if indices.array is not None:
        indices = ctx.constant(_in_range(ctx, indices.array, size))
        if x.array is not None:
            return ctx.constant(np.take(x.array, np.asarray(indices.array), axis))
        evenly = _as_range(np.asarray(indices.array).reshape(-1))
        if evenly is not None:
            ranges = [evenly if i == axis else range(n) for i, n in enumerate(x.shape)]
            return ctx.reshape(take_ranges(ctx, x, ranges), ctx.result.shape)
    if 0 in ctx.result.shape:
        return ctx.constant(np.zeros(ctx.result.shape, x.dtype))
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    rows = ctx.reshape(from_front(ctx, indices, size), (1, indices.size))
    taken = ctx.gather(ctx.reshape(x, (outer, size, inner)), ctx.broadcast_to(rows, (outer, indices.size)))
    return ctx.reshape(taken, ctx.result.shape)


def take(ctx: LoweringContext, x: Tensor, positions: Tensor, axis: int) -> Tensor:
    """The slices of x at positions [K] along an axis."""
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    rows = ctx.broadcast_to(ctx.reshape(positions, (1, positions.size)), (outer, positions.size))
    taken = ctx.gather(ctx.reshape(x, (outer, x.shape[axis], inner)), rows)
    return ctx.reshape(taken, (*x.shape[:axis], positions.size, *x.shape[axis + 1 :]))


def from_front(ctx: LoweringContext, indices: Tensor, size: int) -> Tensor:
    """Negative indices, which count from the end, as int32 positions from the front."""
    indices = ctx.cast(indices, INT32)
    return ctx.select(ctx.greater(0, indices), ctx.add(indices, size), indices)


def _in_range(ctx: LoweringContext, indices: np.ndarray, size: int) -> np.ndarray:
    if indices.size and (indices.min() < -size or indices.max() >= size):
        ctx.fail(f"an index is outside of a dimension of size {size}")
    return np.where(indices < 0, indices + size, indices).astype(np.int32)


def _as_range(indices: np.ndarray) -> range | None:
    """Indices as a range, None if their distances differ."""
    if len(indices) == 0:
        return range(0)
    if len(indices) == 1:
        return range(int(indices[0]), int(indices[0]) + 1)
    steps = np.diff(indices)
    step = int(steps[0])
    if step == 0 or (steps != step).any():
        return None
    return range(int(indices[0]), int(indices[-1]) + (1 if step > 0 else -1), step)


@lowering("GatherElements", since=11)
def gather_elements(ctx: LoweringContext, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """`tosa.gather` of single elements with the axis brought to the end."""
    axis = ctx.axis(axis, x.rank)
    size = x.shape[axis]
    shape = [size if i == axis else n for i, n in enumerate(indices.shape)]
    x = ctx.slice(x, [0] * x.rank, shape)
    last = [*(i for i in range(x.rank) if i != axis), axis]
    rows = ctx.transpose(from_front(ctx, indices, size), last)
    count = x.size // size
    values = ctx.reshape(ctx.transpose(x, last), (count, size, 1))
    taken = ctx.gather(values, ctx.reshape(rows, (count, rows.shape[-1])))
    return ctx.transpose(ctx.reshape(taken, rows.shape), np.argsort(last).tolist())


@lowering("GatherND", since=11)
def gather_nd(ctx: LoweringContext, x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """`tosa.gather` at positions computed from the index tuples."""
    depth = indices.shape[-1]
    sizes = x.shape[batch_dims : batch_dims + depth]
    batch, inner = math.prod(x.shape[:batch_dims]), math.prod(x.shape[batch_dims + depth :])
    rows = ctx.reshape(linear_index(ctx, indices, sizes), (batch, indices.size // (batch * depth)))
    taken = ctx.gather(ctx.reshape(x, (batch, math.prod(sizes), inner)), rows)
    return ctx.reshape(taken, ctx.result.shape)


def linear_index(ctx: LoweringContext, indices: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Index tuples (last dimension) into a shape -> positions in row-major order, last dimension 1."""
    limits = ctx.constant(np.array(sizes, np.int32))
    indices = ctx.cast(indices, INT32)
    front = ctx.select(ctx.greater(0, indices), ctx.add(indices, limits), indices)
    strides = np.cumprod([1, *sizes[:0:-1]])[::-1].astype(np.int32)
    return ctx.reduce("reduce_sum", ctx.mul(front, ctx.constant(strides)), [indices.rank - 1])


@lowering("OneHot", since=9)
def one_hot(
    ctx: LoweringContext, indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1
) -> Tensor:
    """`tosa.select` where `tosa.equal` to the positions; an index out of range gives off values."""
    rank = indices.rank + 1
    axis = ctx.axis(axis, rank)
    count = ctx.result.shape[axis]
    if is_float(indices.dtype):
        indices = ctx.floor(indices)
    wanted = from_front(ctx, indices, count)
    column = ctx.reshape(wanted, (*indices.shape[:axis], 1, *indices.shape[axis:]))
    positions = ctx.constant(
        np.arange(count, dtype=np.int32).reshape([-1 if i == axis else 1 for i in range(rank)])
    )
    off, on = (ctx.reshape(ctx.slice(values, [i], [1]), ()) for i in (0, 1))
    return ctx.select(ctx.equal(column, positions), on, off)
