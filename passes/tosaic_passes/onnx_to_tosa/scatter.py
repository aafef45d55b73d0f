"""Ops that write elements at computed positions."""

from __future__ import annotations

import math

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, INT8, INT32, is_float, limits
from tosaic_passes.onnx_to_tosa.indexing import from_front, linear_index
from tosaic_passes.onnx_to_tosa.reduction import reduce_max, reduce_min, reduce_prod, reduce_sum
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

MASK_LIMIT = 1 << 24
"""Elements of the largest comparison of positions with indices that a scatter with reduction may need."""

_REDUCTIONS = {
    "add": ("add", reduce_sum),
    "mul": ("mul", reduce_prod),
    "max": ("maximum", reduce_max),
    "min": ("minimum", reduce_min),
}


@lowering("Scatter")
def scatter(ctx: LoweringContext, x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    """As ScatterElements."""
    return scatter_elements(ctx, x, indices, updates, axis=axis)


@lowering("ScatterElements", since=11)
def scatter_elements(
    ctx: LoweringContext,
    x: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    axis: int = 0,
    reduction: str = "none",
) -> Tensor:
    """`tosa.scatter` with the axis brought to the end, or to the front if the indices repeat along all others; with
    a reduction by comparing all positions and indices."""
    axis = ctx.axis(axis, x.rank)
    if not updates.size:
        return x
    box = [size if i == axis else n for i, (size, n) in enumerate(zip(x.shape, indices.shape))]
    others, column = [i for i in range(x.rank) if i != axis], _repeated_column(indices, axis)
    size, count, elements = x.shape[axis], indices.shape[axis], math.prod(box[i] for i in others)
    rows, inner, order = (elements, 1, [*others, axis]) if column is None else (1, elements, [axis, *others])
    part = ctx.transpose(ctx.slice(x, [0] * x.rank, box), order)
    positions = from_front(ctx, indices if column is None else column, size)
    positions = ctx.reshape(ctx.transpose(positions, order), (rows, count))
    new = ctx.reshape(ctx.transpose(updates, order), (rows, count, inner))
    written = write_rows(ctx, ctx.reshape(part, (rows, size, inner)), positions, new, reduction)
    written = ctx.transpose(ctx.reshape(written, part.shape), np.argsort(order).tolist())
    return _into_corner(ctx, x, written)


def _repeated_column(indices: Tensor, axis: int) -> Tensor | None:
    """One index for each place along the axis, if all other axes only repeat it, as Expand and Tile do."""
    shape = tuple(size if i == axis else 1 for i, size in enumerate(indices.shape))
    if shape == indices.shape:
        return None
    if indices.array is not None:
        column = indices.array[tuple(slice(size) for size in shape)]
        return Tensor.constant(column) if (indices.array == column).all() else None
    assert indices.value is not None
    owner = indices.value.owner
    if isinstance(owner, ir.Block) or owner.name != "tosa.tile":
        return None
    source = owner.operands[0]
    repeats = tuple(ir.RankedTensorType(source.type).shape) == shape
    return Tensor(shape, indices.dtype, value=source) if repeats else None


def _into_corner(ctx: LoweringContext, x: Tensor, corner: Tensor) -> Tensor:
    """x with its first elements along every axis replaced by a box."""
    for axis in range(x.rank):
        size = corner.shape[axis]
        if size == x.shape[axis]:
            continue
        others = [corner.shape[i] if i > axis else x.shape[i] for i in range(x.rank)]
        starts = [size if i == axis else 0 for i in range(x.rank)]
        sizes = [x.shape[axis] - size if i == axis else others[i] for i in range(x.rank)]
        corner = ctx.concat([corner, ctx.slice(x, starts, sizes)], axis)
    return corner


@lowering("ScatterND", since=11)
def scatter_nd(
    ctx: LoweringContext, x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none"
) -> Tensor:
    """`tosa.scatter` at positions computed from the index tuples; with a reduction as ScatterElements."""
    if not updates.size:
        return x
    depth = indices.shape[-1]
    sizes = x.shape[:depth]
    inner, count = math.prod(x.shape[depth:]), math.prod(indices.shape[:-1])
    positions = ctx.reshape(linear_index(ctx, indices, sizes), (1, count))
    new = ctx.reshape(updates, (1, count, inner))
    values = ctx.reshape(x, (1, math.prod(sizes), inner))
    return ctx.reshape(write_rows(ctx, values, positions, new, reduction), x.shape)


@lowering("TensorScatter", since=24)
def tensor_scatter(
    ctx: LoweringContext,
    past: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    """`tosa.scatter` of the update's rows, from a row on that each batch element has its own."""
    axis = ctx.axis(axis, past.rank)
    batch, size, count = past.shape[0], past.shape[axis], update.shape[axis]
    middle, inner = math.prod(past.shape[1:axis]), math.prod(past.shape[axis + 1 :])
    first = ctx.constant(np.zeros(batch, np.int32)) if write_indices is None else write_indices
    steps = ctx.constant(np.arange(count, dtype=np.int32))
    positions = ctx.add(ctx.reshape(ctx.cast(first, INT32), (batch, 1, 1)), steps)
    if mode == "circular":
        positions = ctx.select(ctx.greater_equal(positions, size), ctx.sub(positions, size), positions)
    positions = ctx.reshape(ctx.broadcast_to(positions, (batch, middle, count)), (batch * middle, count))
    rows = ctx.reshape(past, (batch * middle, size, inner))
    new = ctx.reshape(update, (batch * middle, count, inner))
    return ctx.reshape(write_rows(ctx, rows, positions, new, "none"), past.shape)


def write_rows(
    ctx: LoweringContext, values: Tensor, positions: Tensor, new: Tensor, reduction: str
) -> Tensor:
    """values [N, K, C] with new [N, W, C] at i32 positions [N, W]; equal positions only with a reduction."""
    if reduction != "none":
        return _reduce_into(ctx, values, positions, new, reduction)
    if values.dtype == BOOL:
        return ctx.cast(
            write_rows(ctx, ctx.cast(values, INT8), positions, ctx.cast(new, INT8), reduction), BOOL
        )
    if positions.array is not None and positions.shape[0] == 1:
        positions, new = _last_writers(ctx, positions, new)
    return ctx.emit("scatter", [values, positions, new], values.shape, values.dtype)


def _last_writers(ctx: LoweringContext, positions: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Of constant positions that are equal only the last is kept: TOSA leaves open which one wins."""
    row = np.asarray(positions.array).reshape(-1)
    last = {int(position): index for index, position in enumerate(row)}
    kept = np.array(sorted(last.values()), np.int32)
    if len(kept) == len(row):
        return positions, new
    return ctx.constant(row[kept].reshape(1, -1)), ctx.gather(new, ctx.constant(kept.reshape(1, -1)))


def _reduce_into(
    ctx: LoweringContext, values: Tensor, positions: Tensor, new: Tensor, reduction: str
) -> Tensor:
    if reduction not in _REDUCTIONS:
        ctx.fail(f"the reduction '{reduction}' is not known")
    rows, size, inner = values.shape
    count = positions.shape[1]
    if rows * size * inner * count > MASK_LIMIT:
        ctx.fail(f"a scatter of {count} rows into {size} with reduction '{reduction}' needs too much memory")
    op, reduce = _REDUCTIONS[reduction]
    columns = ctx.constant(np.arange(size, dtype=np.int32).reshape(1, 1, size, 1))
    hits = ctx.equal(ctx.reshape(ctx.cast(positions, INT32), (rows, count, 1, 1)), columns)
    spread = ctx.select(hits, ctx.reshape(new, (rows, count, 1, inner)), _neutral(reduction, values.dtype))
    return ctx.elementwise(op, values, ctx.reshape(reduce(ctx, spread, [1]), values.shape))


def _neutral(reduction: str, dtype: np.dtype) -> np.ndarray:
    low, high = (-np.inf, np.inf) if is_float(dtype) else limits(dtype)
    return np.array({"add": 0, "mul": 1, "max": low, "min": high}[reduction]).astype(dtype)
