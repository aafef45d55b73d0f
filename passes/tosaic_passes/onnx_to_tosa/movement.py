"""Ops that move elements: joining, cutting, padding, rearranging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32, narrowed
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("Concat")
def concat(ctx: LoweringContext, *operands: Tensor, axis: int = 1) -> Tensor:
    """`tosa.concat`."""
    return ctx.concat(operands, ctx.axis(axis, operands[0].rank))


@lowering("Split")
def split_sizes(
    ctx: LoweringContext,
    x: Tensor,
    sizes: Tensor | None = None,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,
    num_outputs: int | None = None,
) -> tuple[Tensor, ...]:
    """One `tosa.slice` a result."""
    axis = ctx.axis(axis, x.rank)
    parts = [r.shape[axis] for r in ctx.results if r is not None]
    if len(parts) < len(ctx.results):
        parts = _given_sizes(ctx, x.shape[axis], sizes, split, len(ctx.results))
    starts = np.cumsum([0, *parts]).tolist()
    return tuple(ctx.slice_axis(x, axis, start, size) for start, size in zip(starts, parts))


def _given_sizes(
    ctx: LoweringContext, total: int, sizes: Tensor | None, split: Sequence[int] | None, count: int
) -> list[int]:
    if sizes is not None:
        return ctx.required_constant(sizes, "split").tolist()
    largest = -(-total // count)
    return list(split) if split else [min(largest, total - i * largest) for i in range(count)]


@lowering("Slice")
def slice_attributes(
    ctx: LoweringContext,
    x: Tensor,
    *,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
) -> Tensor:
    """`tosa.slice`."""
    return _slice(ctx, x, starts, ends, axes, None)


@lowering("Slice", since=10)
def slice_operands(
    ctx: LoweringContext,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """`tosa.slice`; a step by reshaping and slicing, a negative one after `tosa.reverse`; bounds must be constant."""
    return _slice(
        ctx,
        x,
        ctx.required_constant(starts, "starts").tolist(),
        ctx.required_constant(ends, "ends").tolist(),
        None if axes is None else ctx.required_constant(axes, "axes").tolist(),
        None if steps is None else ctx.required_constant(steps, "steps").tolist(),
    )


def _slice(
    ctx: LoweringContext,
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Tensor:
    ranges = [range(size) for size in x.shape]
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts)):
        axis = ctx.axis(axis, x.rank)
        ranges[axis] = range(x.shape[axis])[slice(*_bounds(x.shape[axis], start, end, step))]
    return take_ranges(ctx, x, ranges)


def _bounds(size: int, start: int, end: int, step: int) -> tuple[int, int | None, int]:
    """ONNX's clamping of a slice to a dimension, as bounds of a Python slice."""
    start, end = (value + size if value < 0 else value for value in (start, end))
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size), step
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return start, None if end == -1 else end, step


def take_ranges(ctx: LoweringContext, x: Tensor, ranges: Sequence[range]) -> Tensor:
    """The elements at a range of positions along every dimension (a step may be negative)."""
    shape = [len(positions) for positions in ranges]
    if 0 in shape:
        return ctx.constant(np.zeros(shape, x.dtype))
    if x.array is not None:
        return ctx.constant(x.array[np.ix_(*ranges)] if ranges else x.array)
    ascending = [positions if positions.step > 0 else positions[::-1] for positions in ranges]
    starts = [positions[0] for positions in ascending]
    x = ctx.slice(x, starts, [p[-1] - p[0] + 1 for p in ascending])
    for axis, positions in enumerate(ascending):
        x = _every(ctx, x, axis, positions.step)
    for axis, positions in enumerate(ranges):
        x = ctx.reverse(x, axis) if positions.step < 0 and len(positions) > 1 else x
    return x


def _every(ctx: LoweringContext, x: Tensor, axis: int, step: int) -> Tensor:
    """Every step-th element: the axis is cut into groups of `step`, of which the first elements are kept."""
    size = x.shape[axis]
    if step == 1 or size == 1:
        return x
    groups = -(-size // step)
    outer, inner = int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis + 1 :]))
    flat = ctx.reshape(x, (outer, size * inner))
    padded = ctx.pad(flat, [0, 0], [0, (groups * step - size) * inner])
    rows = ctx.reshape(padded, (outer, groups, step * inner))
    kept = ctx.slice(rows, [0, 0, 0], [outer, groups, inner])
    return ctx.reshape(kept, (*x.shape[:axis], groups, *x.shape[axis + 1 :]))


@lowering("Pad")
def pad_attributes(
    ctx: LoweringContext, x: Tensor, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """`tosa.pad`; edge and reflect by slices and `tosa.concat`."""
    half = len(pads) // 2
    return pad(ctx, x, pads[:half], pads[half:], mode, ctx.constant(np.asarray(value, x.dtype)))


@lowering("Pad", since=11)
def pad_operands(
    ctx: LoweringContext,
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """`tosa.pad`; edge, reflect and wrap by slices and `tosa.concat`; the widths must be constant."""
    widths = ctx.required_constant(pads, "pads").reshape(2, -1)
    chosen = range(x.rank) if axes is None else ctx.required_constant(axes, "axes").tolist()
    before, after = [0] * x.rank, [0] * x.rank
    for axis, low, high in zip(chosen, *widths.tolist()):
        before[ctx.axis(axis, x.rank)], after[ctx.axis(axis, x.rank)] = low, high
    return pad(ctx, x, before, after, mode, value)


def pad(
    ctx: LoweringContext,
    x: Tensor,
    before: Sequence[int],
    after: Sequence[int],
    mode: str,
    value: Tensor | None,
) -> Tensor:
    """Pads (a negative width cuts) by one of ONNX's modes."""
    cut = [range(max(-b, 0), size - max(-a, 0)) for b, size, a in zip(before, x.shape, after)]
    x = take_ranges(ctx, x, cut)
    before, after = [max(width, 0) for width in before], [max(width, 0) for width in after]
    if mode == "constant":
        return ctx.pad(x, before, after, 0 if value is None else value)
    for axis, (low, high) in enumerate(zip(before, after)):
        x = _pad_by_source(ctx, x, axis, _sources(x.shape[axis], low, high, mode))
    return x


def _sources(size: int, low: int, high: int, mode: str) -> np.ndarray:
    """The source position of every element of a padded dimension."""
    positions = np.arange(-low, size + high)
    if mode == "edge":
        return positions.clip(0, size - 1)
    if mode == "wrap":
        return positions % size
    period = max(2 * (size - 1), 1)
    folded = np.abs(positions) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(positions)


def _pad_by_source(ctx: LoweringContext, x: Tensor, axis: int, sources: np.ndarray) -> Tensor:
    """The positions cut into runs that go up, down or stand still, each a slice, reversed or tiled."""
    if len(sources) == x.shape[axis]:
        return x
    return ctx.concat([_run(ctx, x, axis, run) for run in runs(sources)], axis)


def runs(positions: np.ndarray) -> list[np.ndarray]:
    """Cuts positions greedily into runs whose steps are all +1, all -1 or all 0."""
    found, start = [], 0
    while start < len(positions):
        end = start + 1
        step = positions[end] - positions[start] if end < len(positions) else 0
        while end < len(positions) and abs(step) <= 1 and positions[end] - positions[end - 1] == step:
            end += 1
        found.append(positions[start:end])
        start = end
    return found


def _run(ctx: LoweringContext, x: Tensor, axis: int, positions: np.ndarray) -> Tensor:
    low, count = int(positions.min()), len(positions)
    if count > 1 and positions[0] == positions[1]:
        one = ctx.slice_axis(x, axis, low, 1)
        return ctx.tile(one, [count if i == axis else 1 for i in range(x.rank)])
    part = ctx.slice_axis(x, axis, low, count)
    return ctx.reverse(part, axis) if positions[0] > positions[-1] else part


@lowering("DepthToSpace")
def depth_to_space(ctx: LoweringContext, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """`tosa.reshape`, `tosa.transpose`, `tosa.reshape`."""
    batch, channels, height, width = x.shape
    depth = channels // blocksize**2
    if mode == "DCR":
        split, perm = (batch, blocksize, blocksize, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (batch, depth, blocksize, blocksize, height, width), (0, 1, 4, 2, 5, 3)
    return ctx.reshape(ctx.transpose(ctx.reshape(x, split), perm), ctx.result.shape)


@lowering("SpaceToDepth")
def space_to_depth(ctx: LoweringContext, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """`tosa.reshape`, `tosa.transpose`, `tosa.reshape`."""
    batch, channels, height, width = x.shape
    split = (batch, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return ctx.reshape(ctx.transpose(ctx.reshape(x, split), perm), ctx.result.shape)


@lowering("Trilu", since=14)
def trilu(ctx: LoweringContext, x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """`tosa.select` by a constant mask; the diagonal must be constant."""
    diagonal = 0 if k is None else int(ctx.required_constant(k, "k").item())
    rows, columns = x.shape[-2:]
    mask = np.tri(rows, columns, diagonal - 1 if upper else diagonal, dtype=np.bool_)
    return ctx.select(ctx.constant(~mask if upper else mask), x, np.zeros((), narrowed(x.dtype)))


@lowering("ReverseSequence", since=10)
def reverse_sequence(
    ctx: LoweringContext, x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """`tosa.gather` of the steps in their new order."""
    batch_axis, time_axis = ctx.axis(batch_axis, x.rank), ctx.axis(time_axis, x.rank)
    perm = [batch_axis, time_axis, *(i for i in range(x.rank) if i not in (batch_axis, time_axis))]
    moved = ctx.transpose(x, perm)
    batch, steps = moved.shape[:2]
    last = ctx.reshape(ctx.sub(ctx.cast(lengths, INT32), 1), (batch, 1))
    step = ctx.constant(np.arange(steps, dtype=np.int32)[None])
    order = ctx.select(ctx.greater(step, last), step, ctx.sub(last, step))
    rows = ctx.reshape(moved, (batch, steps, x.size // (batch * steps)))
    return ctx.transpose(ctx.reshape(ctx.gather(rows, order), moved.shape), np.argsort(perm).tolist())
