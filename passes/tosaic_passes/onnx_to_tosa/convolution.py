"""Convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, is_float, storage_type
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import (
    Windows,
    channels_first,
    channels_last,
    check_level,
    fit,
    flat_pads,
    padded,
    reaches,
    resolve_windows,
    window_counts,
)

_DTYPES = {FLOAT16, BFLOAT16, FLOAT32}


@lowering("Conv")
def conv(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """`tosa.conv2d`, `tosa.depthwise_conv2d` or `tosa.conv3d` between transposes to and from channels-last.

    Groups other than depthwise ones are sliced apart and concatenated. 1 to 3 spatial axes, floats.
    """
    check_dtype(ctx, x)
    if w.rank != x.rank or x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        ctx.fail(f"weights {list(w.shape)} and {group} groups do not fit an input {list(x.shape)}")
    windows = resolve_windows(
        ctx, x.shape[2:], kernel_shape or w.shape[2:], strides, dilations, pads, auto_pad
    )
    return channels_first(ctx, convolve(ctx, channels_last(ctx, x), w, b, windows, group))


@lowering("ConvTranspose")
def conv_transpose(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """`tosa.transpose_conv2d`; with groups or three spatial axes a convolution of the input spread by zeros."""
    check_dtype(ctx, x)
    if w.rank != x.rank or x.shape[1] != w.shape[0] or x.shape[1] % group:
        ctx.fail(f"weights {list(w.shape)} and {group} groups do not fit an input {list(x.shape)}")
    windows = resolve_windows(
        ctx, x.shape[2:], kernel_shape or w.shape[2:], strides, dilations, pads, "NOTSET"
    )
    extra = tuple(output_padding) or (0,) * windows.rank
    windows = _transposed_pads(
        ctx, x.shape[2:], windows, extra, tuple(output_shape)[-windows.rank :], auto_pad
    )
    x = channels_last(ctx, x)
    transposed = _transpose_conv2d if group == 1 and windows.rank <= 2 else _spread_and_convolve
    return channels_first(ctx, transposed(ctx, x, w, b, windows, extra, group))


def check_dtype(ctx: LoweringContext, x: Tensor) -> None:
    """Fails for dtypes that TOSA does not convolve."""
    if x.dtype not in _DTYPES:
        ctx.fail(f"TOSA has no convolution of {x.dtype}")
    if not 3 <= x.rank <= 5:
        ctx.fail(f"TOSA has no convolution with {x.rank - 2} spatial axes")


def convolve(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    windows: Windows,
    group: int = 1,
    *,
    zeros: tuple[int, int] = (0, 0),
) -> Tensor:
    """Channels-last x [N, spatial..., C] with ONNX weights [O, C / group, kernel...] -> [N, spatial..., O].

    Floats, or i8 with i32 results; `zeros` are the zero points of x and w.
    """
    if windows.rank == 1:
        x, w, windows = _as_2d(ctx, x, w, windows)
        result = convolve(ctx, x, w, b, windows, group, zeros=zeros)
        return ctx.reshape(result, (result.shape[0], *result.shape[2:]))
    counts = window_counts(x.shape[1:-1], windows)
    if any(reach <= begin for reach, (begin, _) in zip(reaches(windows, counts), windows.pads, strict=True)):
        x, windows = padded(ctx, x, windows, zeros[0])
    x, windows = fit(ctx, x, windows, counts, first=1)
    if group == 1:
        return _dense(ctx, x, w, b, windows, zeros)
    if group == x.shape[-1] and windows.rank == 2:
        return _depthwise(ctx, x, w, b, windows, zeros)
    return _grouped(ctx, x, w, b, windows, group, zeros)


def _as_2d(ctx: LoweringContext, x: Tensor, w: Tensor, windows: Windows) -> tuple[Tensor, Tensor, Windows]:
    """One spatial axis as two, the first of size 1."""
    flat = Windows(
        (1, *windows.kernel), (1, *windows.strides), (1, *windows.dilations), ((0, 0), *windows.pads)
    )
    x = ctx.reshape(x, (x.shape[0], 1, *x.shape[1:]))
    return x, ctx.reshape(w, (*w.shape[:2], 1, *w.shape[2:])), flat


def _dense(
    ctx: LoweringContext, x: Tensor, w: Tensor, b: Tensor | None, windows: Windows, zeros: tuple[int, int]
) -> Tensor:
    name = "conv2d" if windows.rank == 2 else "conv3d"
    return _emit(ctx, name, x, channels_last(ctx, w), b, windows, w.shape[0], zeros)


def _depthwise(
    ctx: LoweringContext, x: Tensor, w: Tensor, b: Tensor | None, windows: Windows, zeros: tuple[int, int]
) -> Tensor:
    channels, out_channels = x.shape[-1], w.shape[0]
    grouped = ctx.reshape(w, (channels, out_channels // channels, *windows.kernel))
    return _emit(
        ctx, "depthwise_conv2d", x, ctx.transpose(grouped, [2, 3, 0, 1]), b, windows, out_channels, zeros
    )


def _grouped(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    windows: Windows,
    group: int,
    zeros: tuple[int, int],
) -> Tensor:
    inputs, outputs = x.shape[-1] // group, w.shape[0] // group
    parts = []
    for index in range(group):
        part = ctx.slice_axis(x, x.rank - 1, index * inputs, inputs)
        weights = ctx.slice_axis(w, 0, index * outputs, outputs)
        bias = b and ctx.slice_axis(b, 0, index * outputs, outputs)
        parts.append(_dense(ctx, part, weights, bias, windows, zeros))
    return ctx.concat(parts, x.rank - 1)


def _emit(
    ctx: LoweringContext,
    name: str,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    windows: Windows,
    out_channels: int,
    zeros: tuple[int, int],
) -> Tensor:
    accumulator = FLOAT32 if is_float(x.dtype) else INT32
    out_dtype = x.dtype if is_float(x.dtype) else INT32
    spatial = window_counts(x.shape[1:-1], windows)
    return ctx.emit(
        name,
        [x, w, *_bias_and_zeros(ctx, x, w, b, out_channels, out_dtype, zeros)],
        (x.shape[0], *spatial, out_channels),
        out_dtype,
        pad=flat_pads(windows),
        stride=windows.strides,
        dilation=windows.dilations,
        acc_type=ir.TypeAttr.get(storage_type([], accumulator).element_type),
    )


def _bias_and_zeros(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    out_channels: int,
    out_dtype: np.dtype,
    zeros: tuple[int, int],
) -> list[Tensor]:
    bias = b if b is not None else ctx.constant(np.zeros(out_channels, out_dtype))
    x_zero, w_zero = zeros if x.dtype == INT8 else (0, 0)
    return [bias, ctx.constant(np.full(1, x_zero, x.dtype)), ctx.constant(np.full(1, w_zero, w.dtype))]


def _transposed_pads(
    ctx: LoweringContext,
    sizes: Sequence[int],
    windows: Windows,
    extra: Sequence[int],
    output_shape: Sequence[int],
    auto_pad: str,
) -> Windows:
    """Pads of a transposed convolution: what is cut off its whole result at either side."""
    if len(extra) != windows.rank or (output_shape and len(output_shape) != windows.rank):
        ctx.fail(f"output_padding and output_shape do not fit {windows.rank} spatial axes")
    if auto_pad == "VALID":
        windows = windows.with_pads([(0, 0)] * windows.rank)
    if not output_shape:
        if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
            return windows
        output_shape = [size * stride for size, stride in zip(sizes, windows.strides, strict=True)]
    upper = auto_pad == "SAME_UPPER"
    pads = []
    for size, stride, extent, more, wanted in zip(
        sizes, windows.strides, windows.extents, extra, output_shape, strict=True
    ):
        total = stride * (size - 1) + more + extent - wanted
        small, large = total // 2, total - total // 2
        pads.append((small, large) if upper else (large, small))
    return windows.with_pads(pads)


def _transpose_conv2d(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    windows: Windows,
    extra: Sequence[int],
    group: int,
) -> Tensor:
    """x [N, spatial..., C], w [C, O, kernel...]: one op; what its pads cannot cut off is sliced off."""
    if windows.rank == 1:
        x, w, windows = _as_2d(ctx, x, w, windows)
        result = _transpose_conv2d(ctx, x, w, b, windows, (0, *extra), group)
        return ctx.reshape(result, (result.shape[0], *result.shape[2:]))
    check_level(ctx, windows)
    w = _dilated(ctx, ctx.transpose(w, [1, 2, 3, 0]), windows.dilations)
    ends = [(-begin, more - end) for (begin, end), more in zip(windows.pads, extra, strict=True)]
    out_pads = [
        tuple(max(width, 1 - extent) for width in pair)
        for pair, extent in zip(ends, windows.extents, strict=True)
    ]
    spatial = [
        (size - 1) * stride + extent + sum(pair)
        for size, stride, extent, pair in zip(
            x.shape[1:3], windows.strides, windows.extents, out_pads, strict=True
        )
    ]
    accumulator = storage_type([], FLOAT32).element_type
    whole = ctx.emit(
        "transpose_conv2d",
        [x, w, *_bias_and_zeros(ctx, x, w, b, w.shape[0], x.dtype, (0, 0))],
        (x.shape[0], *spatial, w.shape[0]),
        x.dtype,
        out_pad=[width for pair in out_pads for width in pair],
        stride=windows.strides,
        acc_type=ir.TypeAttr.get(accumulator),
    )
    cut = [
        tuple(done - want for done, want in zip(*pair, strict=True))
        for pair in zip(out_pads, ends, strict=True)
    ]
    starts = [0, *(begin for begin, _ in cut), 0]
    sizes = [size - begin - end for size, (begin, end) in zip(spatial, cut, strict=True)]
    return ctx.slice(whole, starts, [x.shape[0], *sizes, w.shape[0]])


def _dilated(ctx: LoweringContext, w: Tensor, dilations: Sequence[int]) -> Tensor:
    """[O, kernel..., C] with zeros between the taps: TOSA has no dilation for transposed convolutions."""
    for axis, dilation in enumerate(dilations, 1):
        w = _spread(ctx, w, axis, dilation)
    return w


def _spread(ctx: LoweringContext, x: Tensor, axis: int, step: int) -> Tensor:
    """`step - 1` zeros between neighbours along an axis."""
    count = x.shape[axis]
    if step == 1 or count == 1:
        return x
    outer, inner = x.shape[:axis], x.shape[axis + 1 :]
    flat = ctx.reshape(x, (int(np.prod(outer)), count, 1, int(np.prod(inner))))
    spread = ctx.reshape(ctx.pad(flat, [0, 0, 0, 0], [0, 0, step - 1, 0]), (*outer, count * step, *inner))
    return ctx.slice_axis(spread, axis, 0, count * step - step + 1)


def _spread_and_convolve(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    windows: Windows,
    extra: Sequence[int],
    group: int,
) -> Tensor:
    """A transposed convolution by its definition: the input spread by zeros, the kernel turned around."""
    for axis, stride in enumerate(windows.strides, 1):
        x = _spread(ctx, x, axis, stride)
    inputs, outputs = w.shape[0] // group, w.shape[1]
    w = ctx.reshape(w, (group, inputs, outputs, int(np.prod(windows.kernel))))
    w = ctx.transpose(w, [0, 2, 1, 3])
    w = ctx.reshape(w, (group * outputs, inputs, *windows.kernel))
    for axis in range(2, w.rank):
        w = ctx.reverse(w, axis)
    pads = [
        (extent - 1 - begin, extent - 1 - end + more)
        for extent, (begin, end), more in zip(windows.extents, windows.pads, extra, strict=True)
    ]
    ones = (1,) * windows.rank
    return convolve(ctx, x, w, b, Windows(windows.kernel, ones, windows.dilations, tuple(pads)), group)
