"""Ops that read an image at computed points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, is_float
from tosaic_passes.onnx_to_tosa.points import (
    Tap,
    cubic_taps,
    image,
    linear_taps,
    nearest_tap,
    sample,
)
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows, resolve_windows, window_counts

_TAPS: dict[str, Callable[[LoweringContext, Tensor], list[Tap]]] = {
    "nearest": nearest_tap,
    "linear": linear_taps,
    "bilinear": linear_taps,
    "cubic": cubic_taps,
    "bicubic": cubic_taps,
}


@lowering("GridSample", since=16)
def grid_sample(
    ctx: LoweringContext,
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    """One `tosa.gather` for each of the 1, 2^n or 4^n elements around a point, weighted and added up."""
    if mode not in _TAPS or padding_mode not in ("zeros", "border", "reflection"):
        ctx.fail(f"mode '{mode}' with padding '{padding_mode}' is not known")
    if mode != "nearest" and not is_float(x.dtype):
        ctx.fail(f"interpolation of {x.dtype} is not defined")
    border = 1 if padding_mode == "zeros" else 0
    exact = ctx.cast(x, FLOAT32) if mode != "nearest" else x
    source = image(ctx, exact, border=border)
    points = grid.shape[:-1]
    taps = []
    for axis, size in enumerate(x.shape[2:]):
        u = ctx.slice_axis(ctx.cast(grid, FLOAT32), grid.rank - 1, x.rank - 3 - axis, 1)
        position = _denormalized(ctx, ctx.reshape(u, points), size, bool(align_corners))
        taps.append(
            [
                Tap(_padded(ctx, tap.position, size, padding_mode, bool(align_corners)), tap.weight)
                for tap in _TAPS[mode](ctx, position)
            ]
        )
    sampled = ctx.reshape(sample(ctx, source, taps, points), (*points, x.shape[1]))
    return ctx.cast(ctx.transpose(sampled, [0, x.rank - 1, *range(1, x.rank - 1)]), x.dtype)


def _denormalized(ctx: LoweringContext, u: Tensor, size: int, align_corners: bool) -> Tensor:
    """-1..1 as positions: from centre to centre of the outer elements, or from edge to edge."""
    if align_corners:
        return ctx.mul(ctx.add(u, 1), (size - 1) / 2)
    return ctx.mul(ctx.sub(ctx.mul(ctx.add(u, 1), size), 1), 0.5)


def _padded(ctx: LoweringContext, position: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Where the element at a whole position is found in the image (which has a border for 'zeros')."""
    if mode == "border":
        return position
    if mode == "zeros":
        return ctx.add(position, 1)
    if size == 1:
        return ctx.mul(position, 0)
    period = 2 * (size - 1) if align_corners else 2 * size
    turns = ctx.floor(ctx.mul(ctx.add(position, 0.5), 1 / period))
    rest = ctx.sub(position, ctx.mul(turns, period))
    return ctx.minimum(rest, ctx.sub(period if align_corners else period - 1, rest))


@lowering("AffineGrid", since=20)
def affine_grid(ctx: LoweringContext, theta: Tensor, size: Tensor, *, align_corners: int = 0) -> Tensor:
    """One `tosa.matmul` of the (constant) points of a plain grid with the matrices."""
    sizes = ctx.result.shape[1:-1]
    if align_corners and 1 in sizes:
        ctx.fail("with align_corners, ONNX divides by zero where a dimension of the grid has one point")
    ends = [(size - 1) / size if not align_corners and size else 1.0 for size in sizes]
    axes = [np.linspace(-end, end, size) for end, size in zip(ends, sizes, strict=True)]
    places = [*reversed(np.meshgrid(*axes, indexing="ij")), np.ones(sizes)]
    points = np.stack(places, -1).reshape(1, -1, len(places)).astype(np.float32)
    batch = np.broadcast_to(points, (theta.shape[0], *points.shape[1:]))
    matrices = ctx.transpose(ctx.cast(theta, FLOAT32), [0, 2, 1])
    product = ctx.matmul(ctx.constant(batch), matrices)
    return ctx.cast(ctx.reshape(product, ctx.result.shape), theta.dtype)


@lowering("DeformConv", since=19)
def deform_conv(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    offset_group: int = 1,
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """The elements under every tap by weighted `tosa.gather`s, then one `tosa.matmul` a group with the weights."""
    windows = resolve_windows(
        ctx, x.shape[2:], kernel_shape or w.shape[2:], strides, dilations, pads, "NOTSET"
    )
    counts = window_counts(x.shape[2:], windows)
    if w.shape[1] * group != x.shape[1] or x.shape[1] % offset_group or w.shape[0] % group:
        ctx.fail(f"{group} groups and {offset_group} offset groups do not fit an input {list(x.shape)}")
    columns = _deformed_columns(ctx, x, offset, mask, windows, counts, offset_group)
    result = _times_weights(ctx, columns, ctx.cast(w, FLOAT32), group)
    result = ctx.reshape(result, (x.shape[0], w.shape[0], *counts))
    if b is not None:
        result = ctx.add(result, ctx.reshape(ctx.cast(b, FLOAT32), (w.shape[0], *(1,) * len(counts))))
    return ctx.cast(result, x.dtype)


def _deformed_columns(
    ctx: LoweringContext,
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    windows: Windows,
    counts: Sequence[int],
    groups: int,
) -> Tensor:
    """What each tap of each window sees, [N, windows, taps, C]."""
    batch, channels = x.shape[:2]
    places, taps = math.prod(counts), math.prod(windows.kernel)
    shape = (batch * groups, places, taps)
    split = ctx.reshape(ctx.cast(x, FLOAT32), (batch * groups, channels // groups, *x.shape[2:]))
    shifts = ctx.reshape(ctx.cast(offset, FLOAT32), (batch * groups, taps, windows.rank, places))
    shifts = ctx.transpose(shifts, [2, 0, 3, 1])
    chosen = []
    for axis, size in enumerate(x.shape[2:]):
        shift = ctx.reshape(ctx.slice_axis(shifts, 0, axis, 1), shape)
        position = ctx.add(shift, ctx.constant(_tap_positions(windows, counts, axis)))
        chosen.append(
            [
                Tap(_padded(ctx, tap.position, size, "zeros", False), tap.weight)
                for tap in linear_taps(ctx, position)
            ]
        )
    seen = sample(ctx, image(ctx, split, border=1), chosen, shape)
    if mask is not None:
        factors = ctx.transpose(
            ctx.reshape(ctx.cast(mask, FLOAT32), (batch * groups, taps, places)), [0, 2, 1]
        )
        seen = ctx.mul(seen, ctx.reshape(factors, (batch * groups, places * taps, 1)))
    seen = ctx.reshape(seen, (batch, groups, places, taps, channels // groups))
    seen = seen if groups == 1 else ctx.transpose(seen, [0, 2, 3, 1, 4])
    return ctx.reshape(seen, (batch, places, taps, channels))


def _tap_positions(windows: Windows, counts: Sequence[int], axis: int) -> np.ndarray:
    """Where the taps lie along an axis without offsets, [windows, taps]."""
    starts = np.indices(counts)[axis].reshape(-1, 1) * windows.strides[axis] - windows.pads[axis][0]
    taps = np.indices(windows.kernel)[axis].reshape(1, -1) * windows.dilations[axis]
    return (starts + taps).astype(np.float32)


def _times_weights(ctx: LoweringContext, columns: Tensor, w: Tensor, groups: int) -> Tensor:
    """[N, windows, taps, C] by weights [O, C / groups, taps...] as [N, O, windows]."""
    batch, places, taps, channels = columns.shape
    inputs, outputs = channels // groups, w.shape[0] // groups
    left = ctx.reshape(columns, (batch * places, taps, groups, inputs))
    left = left if groups == 1 else ctx.transpose(left, [2, 0, 1, 3])
    right = ctx.transpose(ctx.reshape(w, (groups, outputs, inputs, taps)), [0, 3, 2, 1])
    product = ctx.matmul(
        ctx.reshape(left, (groups, batch * places, taps * inputs)),
        ctx.reshape(right, (groups, taps * inputs, outputs)),
    )
    split = ctx.reshape(product, (groups, batch, places, outputs))
    return ctx.reshape(ctx.transpose(split, [1, 0, 3, 2]), (batch, w.shape[0], places))
