"""Pooling over windows and over whole images."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    INT32,
    UINT8,
    is_float,
    limits,
    storage_type,
)
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import (
    Windows,
    channels_first,
    channels_last,
    every_nth,
    fit,
    flat_pads,
    pad_spatial,
    resolve_windows,
    window_counts,
)

_POOLED = {INT8, FLOAT16, BFLOAT16, FLOAT32}
"""Dtypes that TOSA's poolings take; others are widened or narrowed around them."""


@lowering("MaxPool")
def max_pool(
    ctx: LoweringContext,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    storage_order: int = 0,
    strides: Sequence[int] = (),
) -> Tensor | tuple[Tensor, Tensor]:
    """`tosa.max_pool2d`, two for three spatial axes; dilated or with indices, `tosa.maximum` of shifted slices."""
    windows = resolve_windows(ctx, x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    counts = resolve_counts(ctx, x, windows, ceil_mode=bool(ceil_mode))
    if len(ctx.results) > 1 and ctx.results[1] is not None:
        return _max_with_indices(ctx, x, windows, counts, bool(storage_order))
    if x.dtype == UINT8:
        shifted = ctx.cast(ctx.sub(ctx.cast(x, INT32), 128), INT8)
        pooled = ctx.cast(_max_pool(ctx, shifted, windows, counts), INT32)
        return ctx.cast(ctx.add(pooled, 128), UINT8)
    return _max_pool(ctx, x, windows, counts)


@lowering("AveragePool")
def average_pool(
    ctx: LoweringContext,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """`tosa.avg_pool2d`, two for three spatial axes; dilated, shifted slices added up and divided by their count."""
    windows = resolve_windows(ctx, x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    counts = resolve_counts(ctx, x, windows, ceil_mode=bool(ceil_mode))
    if count_include_pad:
        x = pad_spatial(ctx, x, windows.pads, first=2)
        windows = windows.with_pads([(0, 0)] * windows.rank)
    return _average_pool(ctx, x, windows, counts)


@lowering("LpPool")
def lp_pool(
    ctx: LoweringContext,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """(sum |x|^p)^(1/p): `tosa.avg_pool2d` of the powers over the padded input, times the window's size."""
    windows = resolve_windows(ctx, x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    counts = resolve_counts(ctx, x, windows, ceil_mode=bool(ceil_mode))
    x, windows = fit(ctx, x, windows, counts, first=2)
    padded = pad_spatial(ctx, _power(ctx, x, p), windows.pads, first=2)
    mean = _average_pool(ctx, padded, windows.with_pads([(0, 0)] * windows.rank), counts)
    return _root(ctx, ctx.mul(mean, math.prod(windows.kernel)), p)


@lowering("GlobalAveragePool")
def global_average_pool(ctx: LoweringContext, x: Tensor) -> Tensor:
    """The mean over all spatial axes: one `tosa.reduce_sum` and a `tosa.mul`."""
    return ctx.mul(_over_image(ctx, "reduce_sum", x), 1 / math.prod(x.shape[2:]))


@lowering("GlobalMaxPool")
def global_max_pool(ctx: LoweringContext, x: Tensor) -> Tensor:
    """The greatest element over all spatial axes: one `tosa.reduce_max`."""
    return _over_image(ctx, "reduce_max", x)


@lowering("GlobalLpPool")
def global_lp_pool(ctx: LoweringContext, x: Tensor, *, p: int = 2) -> Tensor:
    """(sum |x|^p)^(1/p) over all spatial axes: one `tosa.reduce_sum` of the powers."""
    return _root(ctx, _over_image(ctx, "reduce_sum", _power(ctx, x, p)), p)


def resolve_counts(ctx: LoweringContext, x: Tensor, windows: Windows, *, ceil_mode: bool) -> tuple[int, ...]:
    """Windows along each axis of [N, C, spatial...]: fails where onnxruntime and onnx count differently."""
    counts = window_counts(x.shape[2:], windows, ceil_mode=ceil_mode)
    if counts != ctx.result.shape[2:]:
        ctx.fail(
            f"it has {list(counts)} windows as onnxruntime counts them, {list(ctx.result.shape[2:])} as onnx does",
            "pad the input so that no window starts behind it",
        )
    return counts


def _over_image(ctx: LoweringContext, name: str, x: Tensor) -> Tensor:
    flat = ctx.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))
    return ctx.reshape(ctx.reduce(name, flat, [2]), (*x.shape[:2], *(1,) * (x.rank - 2)))


def _power(ctx: LoweringContext, x: Tensor, p: int) -> Tensor:
    """|x|^p."""
    if p == 2:
        return ctx.mul(x, x)
    return ctx.abs(x) if p == 1 else ctx.elementwise("pow", ctx.abs(x), p)


def _root(ctx: LoweringContext, x: Tensor, p: int) -> Tensor:
    """x^(1/p) for x >= 0."""
    if p == 2:
        return ctx.sqrt(x)
    return x if p == 1 else ctx.elementwise("pow", x, 1 / p)


def _max_pool(ctx: LoweringContext, x: Tensor, windows: Windows, counts: Sequence[int]) -> Tensor:
    lowest = -math.inf if is_float(x.dtype) else limits(x.dtype)[0]
    if max(windows.dilations) > 1 or x.dtype not in _POOLED:
        return _over_windows(ctx, x, windows, counts, ctx.maximum, lowest)
    x, windows = fit(ctx, x, windows, counts, first=2)
    if any(max(pair) >= kernel for pair, kernel in zip(windows.pads, windows.kernel, strict=True)):
        x = pad_spatial(ctx, x, windows.pads, 2, lowest)
        windows = windows.with_pads([(0, 0)] * windows.rank)

    def pool(image: Tensor, part: Windows) -> Tensor:
        return _emit_pool(ctx, "max_pool2d", image, part, [])

    return _pool_images(ctx, x, windows, pool)


def _average_pool(ctx: LoweringContext, x: Tensor, windows: Windows, counts: Sequence[int]) -> Tensor:
    """The mean of the elements under each window, pads not counted."""
    dtype = x.dtype
    if max(windows.dilations) > 1 or dtype not in _POOLED:
        total = _over_windows(ctx, x, windows, counts, ctx.add, 0)
        return ctx.mul(total, ctx.constant((1 / elements_under(x.shape[2:], windows, counts)).astype(dtype)))
    x, windows = fit(ctx, x, windows, counts, first=2)
    if any(max(pair) >= kernel for pair, kernel in zip(windows.pads, windows.kernel, strict=True)):
        ctx.fail("a padding as large as the kernel leaves windows without elements")
    zero = ctx.constant(np.zeros(1, dtype))
    accumulator = ir.TypeAttr.get(storage_type([], FLOAT32).element_type)

    def pool(image: Tensor, part: Windows) -> Tensor:
        return _emit_pool(ctx, "avg_pool2d", image, part, [zero, zero], acc_type=accumulator)

    return _pool_images(ctx, x, windows, pool)


def elements_under(sizes: Sequence[int], windows: Windows, counts: Sequence[int]) -> np.ndarray:
    """How many taps of each window lie inside of the input, [1, 1, counts...]."""
    result = np.ones((1, 1), np.float64)
    for index, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        stride, dilation, begin = windows.strides[index], windows.dilations[index], windows.pads[index][0]
        taps = np.arange(count)[:, None] * stride - begin + np.arange(windows.kernel[index]) * dilation
        result = result[..., None] * ((taps >= 0) & (taps < size)).sum(1)
    return result


def _pool_images(
    ctx: LoweringContext, x: Tensor, windows: Windows, pool: Callable[[Tensor, Windows], Tensor]
) -> Tensor:
    """Pools [N, C, spatial...] as images [N, H, W, C]; of three spatial axes the last two first."""
    x = channels_last(ctx, x)
    if windows.rank == 2:
        return channels_first(ctx, pool(x, windows))
    if windows.rank == 1:
        batch, length, channels = x.shape
        column = Windows((1, *windows.kernel), (1, *windows.strides), (1, 1), ((0, 0), *windows.pads))
        pooled = pool(ctx.reshape(x, (batch, 1, length, channels)), column)
        return channels_first(ctx, ctx.reshape(pooled, (batch, *pooled.shape[2:])))
    if windows.rank != 3:
        ctx.fail(f"pooling with {windows.rank} spatial axes is not supported")
    batch, depth, height, width, channels = x.shape
    planes = pool(ctx.reshape(x, (batch * depth, height, width, channels)), windows.axes(1, 3))
    height, width = planes.shape[1:3]
    first = windows.axis(0)
    row = Windows((*first.kernel, 1), (*first.strides, 1), (1, 1), (*first.pads, (0, 0)))
    pooled = pool(ctx.reshape(planes, (batch, depth, height * width, channels)), row)
    return channels_first(ctx, ctx.reshape(pooled, (batch, pooled.shape[1], height, width, channels)))


def _emit_pool(
    ctx: LoweringContext,
    name: str,
    x: Tensor,
    windows: Windows,
    zeros: Sequence[Tensor],
    **attributes: ir.Attribute,
) -> Tensor:
    spatial = window_counts(x.shape[1:3], windows)
    return ctx.emit(
        name,
        [x, *zeros],
        (x.shape[0], *spatial, x.shape[3]),
        x.dtype,
        kernel=windows.kernel,
        stride=windows.strides,
        pad=flat_pads(windows),
        **attributes,
    )


def _over_windows(
    ctx: LoweringContext,
    x: Tensor,
    windows: Windows,
    counts: Sequence[int],
    combine: Callable[[Tensor, Tensor], Tensor],
    neutral: float,
) -> Tensor:
    """[N, C, spatial...] combined over each window, one axis after the other: any dilation, dtype and rank."""
    x, windows = fit(ctx, x, windows, counts, first=2)
    x = pad_spatial(ctx, x, windows.pads, 2, neutral)
    for index, count in enumerate(counts):
        x = functools.reduce(combine, _taps(ctx, x, windows, index, count))
    return x


def _taps(ctx: LoweringContext, x: Tensor, windows: Windows, index: int, count: int) -> list[Tensor]:
    """What each tap along a spatial axis sees, one element a window."""
    stride, dilation = windows.strides[index], windows.dilations[index]
    reach = (count - 1) * stride + 1
    return [
        every_nth(ctx, ctx.slice_axis(x, index + 2, tap * dilation, reach), index + 2, stride)
        for tap in range(windows.kernel[index])
    ]


def _max_with_indices(
    ctx: LoweringContext, x: Tensor, windows: Windows, counts: Sequence[int], column_major: bool
) -> tuple[Tensor, Tensor]:
    """The greatest element of each window and where it is in the flattened input: the first one of equals."""
    spatial = x.shape[2:]
    places = np.arange(math.prod(spatial), dtype=np.int32).reshape(
        spatial, order="F" if column_major else "C"
    )
    planes = np.arange(x.shape[0] * x.shape[1], dtype=np.int32) * math.prod(spatial)
    index = ctx.constant(planes.reshape(*x.shape[:2], *(1,) * len(spatial)) + places)
    index, _ = fit(ctx, index, windows, counts, first=2)
    x, windows = fit(ctx, x, windows, counts, first=2)
    x = pad_spatial(ctx, x, windows.pads, 2, -math.inf if is_float(x.dtype) else limits(x.dtype)[0])
    index = pad_spatial(ctx, index, windows.pads, 2)
    for axis in reversed(range(windows.rank)):  # the last axis first: ties go to the first in row-major order
        values = _taps(ctx, x, windows, axis, counts[axis])
        indices = _taps(ctx, index, windows, axis, counts[axis])
        x, index = values[0], indices[0]
        for value, place in zip(values[1:], indices[1:], strict=True):
            larger = ctx.greater(value, x)
            x, index = ctx.select(larger, value, x), ctx.select(larger, place, index)
    return x, index
