"""Ops on regions of interest of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT32
from tosaic_passes.onnx_to_tosa.points import Image, Tap, image, linear_taps, sample
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("RoiAlign", since=10)
def roi_align_unshifted(
    ctx: LoweringContext,
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """As from opset 16 on with `output_half_pixel`."""
    return roi_align(
        ctx,
        x,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


@lowering("RoiAlign", since=16)
def roi_align(
    ctx: LoweringContext,
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Four weighted `tosa.gather`s of all sampling points, then their mean or maximum in every bin.

    With `sampling_ratio` 0 the number of points depends on the regions, which must be constant then.
    """
    if mode not in ("avg", "max"):
        ctx.fail(f"mode '{mode}' is not known")
    unshifted = coordinate_transformation_mode == "output_half_pixel"
    scaled = ctx.mul(ctx.cast(rois, FLOAT32), spatial_scale)
    corners = scaled if unshifted else ctx.sub(scaled, 0.5)
    starts, ends = ctx.slice_axis(corners, 1, 0, 2), ctx.slice_axis(corners, 1, 2, 2)
    extents = ctx.sub(ends, starts)
    extents = ctx.maximum(extents, 1) if unshifted else extents
    bins = (output_height, output_width)
    regions = _Regions(starts, extents, ctx.cast(batch_indices, INT32), bins)
    if sampling_ratio > 0:
        aligned = _align(ctx, x, regions, (sampling_ratio, sampling_ratio), mode)
    else:
        aligned = _align_adaptively(ctx, x, regions, mode)
    return ctx.cast(ctx.transpose(aligned, [0, 3, 1, 2]), x.dtype)


@dataclass(frozen=True)
class _Regions:
    """R regions of interest as (x, y): starts and extents [R, 2] in elements, image numbers [R]; bins (y, x)."""

    starts: Tensor
    extents: Tensor
    images: Tensor
    bins: tuple[int, int]

    def take(self, ctx: LoweringContext, chosen: np.ndarray) -> _Regions:
        starts, extents, images = (_take(ctx, x, chosen) for x in (self.starts, self.extents, self.images))
        return _Regions(starts, extents, images, self.bins)


def _align_adaptively(ctx: LoweringContext, x: Tensor, regions: _Regions, mode: str) -> Tensor:
    """As many sampling points a bin as it has elements, rounded up: regions with equally many go together."""
    if regions.extents.array is None:
        ctx.fail(
            "with sampling_ratio 0 the regions decide how many points are read, and they are computed at run time",
            "set sampling_ratio, or bind the regions with --constant",
        )
    samples = np.ceil(regions.extents.array[:, ::-1] / np.array(regions.bins, np.float32)).clip(0).astype(int)
    kinds, members = np.unique(samples, axis=0, return_inverse=True)
    members_of = [np.flatnonzero(members.reshape(-1) == kind) for kind in range(len(kinds))]
    parts = [
        _align(ctx, x, regions.take(ctx, chosen), (int(kind[0]), int(kind[1])), mode)
        for kind, chosen in zip(kinds, members_of, strict=True)
    ]
    return _take(ctx, ctx.concat(parts, 0), np.argsort(np.concatenate(members_of)))


def _take(ctx: LoweringContext, x: Tensor, rows: np.ndarray) -> Tensor:
    """The elements at these positions of the first axis."""
    if x.array is not None:
        return ctx.constant(x.array[rows])
    if np.array_equal(rows, np.arange(x.shape[0])):
        return x
    flat = ctx.reshape(x, (1, x.shape[0], x.size // x.shape[0]))
    taken = ctx.gather(flat, ctx.constant(rows[None].astype(np.int32)))
    return ctx.reshape(taken, (len(rows), *x.shape[1:]))


def _align(ctx: LoweringContext, x: Tensor, regions: _Regions, samples: tuple[int, int], mode: str) -> Tensor:
    """[R, bins y, bins x, C] from `samples` (y, x) points a bin; without points a bin is zero."""
    count, (height, width), (rows, columns) = regions.images.size, regions.bins, samples
    if not rows * columns:
        return ctx.constant(np.zeros((count, height, width, x.shape[1]), np.float32))
    source = image(ctx, ctx.cast(x, FLOAT32))
    elements = math.prod(source.sizes)
    together = Image(ctx.reshape(source.rows, (1, x.shape[0] * elements, x.shape[1])), source.sizes)
    y = _bin_taps(ctx, regions, 1, height * rows, x.shape[2])
    x_taps = _bin_taps(ctx, regions, 0, width * columns, x.shape[3])
    first = ctx.mul(ctx.reshape(regions.images, (count, 1, 1)), elements)
    shape = (1, count, height * rows, width * columns)
    combine = "add" if mode == "avg" else "maximum"
    points = sample(ctx, together, [y, x_taps], shape, first=first, combine=combine)
    cells = ctx.reshape(points, (count, height, rows, width, columns, x.shape[1]))
    if mode == "max":
        return ctx.reduce("reduce_max", cells, [2, 4], keepdims=False)
    total = ctx.reduce("reduce_sum", cells, [2, 4], keepdims=False)
    return ctx.mul(total, 1 / (rows * columns))


def _bin_taps(ctx: LoweringContext, regions: _Regions, axis: int, count: int, size: int) -> list[Tap]:
    """Taps of `count` points at equal distances in each region, [R, count, 1] for y and [R, 1, count] for x.

    A point more than one element outside of the image weighs nothing.
    """
    shape = (regions.images.size, 1, 1)
    start = ctx.reshape(ctx.slice_axis(regions.starts, 1, axis, 1), shape)
    extent = ctx.reshape(ctx.slice_axis(regions.extents, 1, axis, 1), shape)
    centres = ((np.arange(count) + 0.5) / count).astype(np.float32)
    position = ctx.add(start, ctx.mul(extent, centres.reshape((-1, 1) if axis == 1 else (1, -1))))
    outside = ctx.logical_or(ctx.greater(-1, position), ctx.greater(position, size))
    taps = linear_taps(ctx, ctx.clamp(position, 0, size - 1))
    return [Tap(tap.position, tap.weight and ctx.select(outside, 0, tap.weight)) for tap in taps]
