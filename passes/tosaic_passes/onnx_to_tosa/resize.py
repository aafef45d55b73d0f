"""Resize and Upsample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT16, FLOAT32, is_float, limits
from tosaic_passes.onnx_to_tosa.interpolation import Axis, Kernel, ResizeAxis, matrix, outside, tosa_axis
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

MAX_TAPS = 4
"""Up to so many input elements an output element is a weighted sum of gathers, above a matrix product."""


@lowering("Upsample", since=1)
def upsample_factors(
    ctx: LoweringContext, x: Tensor, *, height_scale: float, width_scale: float, mode: str = "nearest"
) -> Tensor:
    """`tosa.resize` of the last two axes, coordinates output / scale."""
    return _upsample(ctx, x, [1.0, 1.0, height_scale, width_scale], mode)


@lowering("Upsample", since=7)
def upsample_attribute(
    ctx: LoweringContext, x: Tensor, *, scales: Sequence[float], mode: str = "nearest"
) -> Tensor:
    """`tosa.resize`, coordinates output / scale."""
    return _upsample(ctx, x, scales, mode)


@lowering("Upsample", since=9)
def upsample(ctx: LoweringContext, x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """`tosa.resize`, coordinates output / scale. The scales must be constant."""
    return _upsample(ctx, x, ctx.required_constant(scales, "scales"), mode)


@lowering("Resize", since=10)
def resize_scales(ctx: LoweringContext, x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """`tosa.resize`, coordinates output / scale. The scales must be constant."""
    return _upsample(ctx, x, ctx.required_constant(scales, "scales"), mode)


@lowering("Resize", since=11)
def resize(
    ctx: LoweringContext,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] = (),
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """`tosa.resize` where it computes the same, else gathers and sums, or products with constant matrices.

    Scales, sizes and the region of interest must be constant.
    """
    kernel = Kernel(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(antialias),
        bool(exclude_outside),
    )
    chosen = [ctx.axis(axis, x.rank) for axis in axes] or list(range(x.rank))
    factors = _scales(ctx, x, scales, sizes, chosen, keep_aspect_ratio_policy)
    regions = _regions(ctx, x, roi, chosen, coordinate_transformation_mode)
    resized = [
        Axis(size, out_size, factor, region)
        for size, out_size, factor, region in zip(x.shape, ctx.result.shape, factors, regions, strict=True)
    ]
    return _resize(ctx, x, resized, kernel, extrapolation_value)


def _upsample(ctx: LoweringContext, x: Tensor, scales: Sequence[float] | np.ndarray, mode: str) -> Tensor:
    kernel = Kernel("linear" if mode == "bilinear" else mode, "asymmetric", "floor")
    axes = [
        Axis(size, out_size, float(scale))
        for size, out_size, scale in zip(x.shape, ctx.result.shape, scales, strict=True)
    ]
    return _resize(ctx, x, axes, kernel, 0.0)


def _scales(
    ctx: LoweringContext,
    x: Tensor,
    scales: Tensor | None,
    sizes: Tensor | None,
    axes: Sequence[int],
    policy: str,
) -> list[float]:
    """The scale of every axis of x."""
    factors = [1.0] * x.rank
    if scales is not None and scales.size:
        given = ctx.required_constant(scales, "scales")
    elif sizes is not None:
        wanted = ctx.required_constant(sizes, "sizes")
        given = np.array([size / x.shape[axis] for size, axis in zip(wanted, axes, strict=True)])
        if policy == "not_larger":
            given[:] = given.min()
        elif policy == "not_smaller":
            given[:] = given.max()
    else:
        ctx.fail("it has neither scales nor sizes")
    for axis, factor in zip(axes, given, strict=True):
        factors[axis] = float(factor)
    return factors


def _regions(
    ctx: LoweringContext, x: Tensor, roi: Tensor | None, axes: Sequence[int], coordinates: str
) -> list[tuple[float, float]]:
    regions = [(0.0, 1.0)] * x.rank
    if coordinates != "tf_crop_and_resize":
        return regions
    if roi is None:
        ctx.fail("tf_crop_and_resize needs a region of interest")
        return regions
    values = ctx.required_constant(roi, "roi")
    for index, axis in enumerate(axes):
        regions[axis] = float(values[index]), float(values[len(axes) + index])
    return regions


def _resize(
    ctx: LoweringContext, x: Tensor, axes: list[Axis], kernel: Kernel, extrapolation: float
) -> Tensor:
    crop = kernel.coordinates == "tf_crop_and_resize"
    changed = [
        index
        for index, axis in enumerate(axes)
        if axis.size != axis.out_size or axis.scale != 1 or (crop and axis.roi != (0.0, 1.0))
    ]
    if not is_float(x.dtype) and kernel.mode != "nearest":
        wide = _resize(ctx, ctx.cast(x, FLOAT32), axes, kernel, extrapolation)
        return ctx.cast(ctx.clamp(wide, *limits(x.dtype)), x.dtype)
    result = _as_tosa_resize(ctx, x, axes, changed, kernel)
    if result is None:
        result = x
        for index in changed:
            result = _along(ctx, result, index, matrix(axes[index], kernel))
    return _extrapolated(ctx, result, axes, changed, kernel, extrapolation)


def _extrapolated(
    ctx: LoweringContext, x: Tensor, axes: list[Axis], changed: list[int], kernel: Kernel, value: float
) -> Tensor:
    """The extrapolation value where an output element lies outside of the input."""
    for index in changed:
        beyond = outside(axes[index], kernel.coordinates)
        if beyond.any():
            shape = [len(beyond) if axis == index else 1 for axis in range(x.rank)]
            x = ctx.select(ctx.constant(beyond.reshape(shape)), ctx.constant(np.full((), value, x.dtype)), x)
    return x


def _as_tosa_resize(
    ctx: LoweringContext, x: Tensor, axes: list[Axis], changed: list[int], kernel: Kernel
) -> Tensor | None:
    """One `tosa.resize` of the last two axes, None where it would not compute the same."""
    if x.rank not in (3, 4) or min(changed, default=2) < 2 or x.dtype not in (FLOAT16, FLOAT32):
        return None
    if kernel.mode == "cubic" or kernel.antialias or kernel.exclude_outside:
        return None
    image = axes if x.rank == 4 else [axes[0], axes[1], Axis(1, 1, 1.0), axes[2]]
    plans = [tosa_axis(axis, kernel) for axis in image[2:]]
    if any(plan is None for plan in plans) or max(axis.out_size for axis in image[2:]) >= 16384:
        return None
    y, x_plan = (plan for plan in plans if plan is not None)
    flat = ctx.reshape(x, [axis.size for axis in image])
    nhwc = ctx.transpose(flat, [0, 2, 3, 1])
    sizes = [image[0].size, image[2].out_size, image[3].out_size, image[1].size]
    resized = ctx.transpose(_emit_resize(ctx, nhwc, sizes, y, x_plan, kernel.mode), [0, 3, 1, 2])
    return ctx.reshape(resized, ctx.result.shape)


def _emit_resize(
    ctx: LoweringContext, x: Tensor, shape: Sequence[int], y: ResizeAxis, x_axis: ResizeAxis, mode: str
) -> Tensor:
    name = "NEAREST_NEIGHBOR" if mode == "nearest" else "BILINEAR"
    return ctx.emit(
        "resize",
        [
            x,
            ctx.shape_value([y.numerator, y.denominator, x_axis.numerator, x_axis.denominator]),
            ctx.shape_value([y.offset, x_axis.offset]),
            ctx.shape_value([y.border, x_axis.border]),
        ],
        shape,
        x.dtype,
        mode=ir.Attribute.parse(f"#tosa.resize_mode<{name}>"),
    )


def _along(ctx: LoweringContext, x: Tensor, axis: int, weights: np.ndarray) -> Tensor:
    """weights @ x along one axis."""
    taps = int((weights != 0).sum(1).max())
    flat = ctx.reshape(x, (math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])))
    mixed = _gathered(ctx, flat, weights, taps) if taps <= MAX_TAPS else _multiplied(ctx, flat, weights)
    return ctx.reshape(mixed, (*x.shape[:axis], len(weights), *x.shape[axis + 1 :]))


def _gathered(ctx: LoweringContext, x: Tensor, weights: np.ndarray, taps: int) -> Tensor:
    """[N, K, C]: a sum of `taps` gathers along K, each weighted."""
    order = np.argsort(weights == 0, axis=1, kind="stable")[:, :taps]
    factors = np.take_along_axis(weights, order, 1)
    total = None
    for tap in range(taps):
        places = np.broadcast_to(order[:, tap].astype(np.int32), (x.shape[0], len(weights)))
        part = ctx.gather(x, ctx.constant(places))
        if (factors[:, tap] != 1).any():
            part = ctx.mul(part, ctx.constant(factors[:, tap].astype(x.dtype).reshape(1, -1, 1)))
        total = part if total is None else ctx.add(total, part)
    assert total is not None
    return total


def _multiplied(ctx: LoweringContext, x: Tensor, weights: np.ndarray) -> Tensor:
    """[N, K, C]: one matrix product."""
    batch = np.broadcast_to(weights.astype(np.float32), (x.shape[0], *weights.shape))
    return ctx.cast(ctx.matmul(ctx.constant(batch), ctx.cast(x, FLOAT32)), x.dtype)
