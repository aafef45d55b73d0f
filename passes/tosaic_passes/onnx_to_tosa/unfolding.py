"""Ops that put windows or their maxima back into an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.adding_rows import add_rows
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows, resolve_windows, window_counts


@lowering("Col2Im", since=18)
def col2im(
    ctx: LoweringContext,
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """A sum of constant `tosa.gather`s, as many as blocks overlap at most in one element."""
    sizes = ctx.required_constant(image_shape, "image_shape").tolist()
    block = ctx.required_constant(block_shape, "block_shape").tolist()
    windows = resolve_windows(ctx, sizes, block, strides, dilations, pads, "NOTSET")
    taps, count = math.prod(block), x.shape[2]
    if math.prod(window_counts(sizes, windows)) != count:
        ctx.fail(f"{count} blocks do not fit an image of {sizes}")
    batch, channels = x.shape[0], x.shape[1] // taps
    columns = ctx.transpose(ctx.reshape(x, (batch, channels, taps * count)), [0, 2, 1])
    image = add_rows(ctx, columns, _places(windows, sizes), math.prod(sizes))
    return ctx.reshape(ctx.transpose(image, [0, 2, 1]), (batch, channels, *sizes))


def _places(windows: Windows, sizes: Sequence[int]) -> np.ndarray:
    """The element on which each tap of each window lies, taps first, all in row-major order; -1: a pad."""
    taps, starts = np.indices(windows.kernel), np.indices(window_counts(sizes, windows))
    place = np.zeros((), np.int64)
    is_inside = np.ones((), np.bool_)
    for axis, size in enumerate(sizes):
        tap = taps[axis].reshape(-1, 1) * windows.dilations[axis] - windows.pads[axis][0]
        along = tap + starts[axis].reshape(1, -1) * windows.strides[axis]
        place, is_inside = place * size + along, is_inside & (along >= 0) & (along < size)
    return np.where(is_inside, place, -1).reshape(-1)


@lowering("MaxUnpool", since=9)
def max_unpool(
    ctx: LoweringContext,
    x: Tensor,
    indices: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """`tosa.scatter` into zeros. Windows must not overlap, since TOSA writes each element at most once.

    Indices count in the shape that kernel, strides and pads imply; `output_shape` adds zeros behind that.
    """
    windows = resolve_windows(ctx, x.shape[2:], kernel_shape, strides, (), pads, "NOTSET")
    if any(step < size for step, size in zip(windows.strides, windows.kernel, strict=True)):
        ctx.fail("its windows overlap, so that one element may be written twice, which TOSA does not allow")
    sizes = [
        (count - 1) * stride - sum(pair) + extent
        for count, stride, pair, extent in zip(
            x.shape[2:], windows.strides, windows.pads, windows.kernel, strict=True
        )
    ]
    shape = (*x.shape[:2], *sizes)
    if any(given < size for given, size in zip(ctx.result.shape, shape, strict=True)):
        ctx.fail(f"output_shape {list(ctx.result.shape)} is smaller than the unpooled {list(shape)}")
    zeros = ctx.constant(np.zeros((1, math.prod(shape), 1), x.dtype))
    places = ctx.reshape(ctx.cast(indices, INT32), (1, indices.size))
    written = ctx.emit("scatter", [zeros, places, ctx.reshape(x, (1, x.size, 1))], zeros.shape, x.dtype)
    after = [given - size for given, size in zip(ctx.result.shape, shape, strict=True)]
    return ctx.pad(ctx.reshape(written, shape), [0] * x.rank, after)
