"""The Fourier transforms of ONNX, where a complex number is a pair (real, imaginary) in the last dimension."""

from __future__ import annotations

import math

import numpy as np

from tosaic_passes.onnx_to_tosa import fourier
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.convolution import convolve
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows

_CUTTING = 8
"""What cutting a sample out for its frame costs, in multiply-adds."""


@lowering("DFT", since=17)
def dft_attribute(
    ctx: LoweringContext,
    x: Tensor,
    length: Tensor | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """One `tosa.matmul` with a constant matrix, several small ones for long signals; the length must be constant."""
    return _dft(ctx, x, length, axis, bool(inverse), bool(onesided))


@lowering("DFT", since=20)
def dft(
    ctx: LoweringContext,
    x: Tensor,
    length: Tensor | None = None,
    axis: Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """One `tosa.matmul` with a constant matrix, several small ones for long signals.

    The length and the axis must be constant.
    """
    chosen = -2 if axis is None else int(ctx.required_constant(axis, "axis").item())
    return _dft(ctx, x, length, chosen, bool(inverse), bool(onesided))


def _dft(
    ctx: LoweringContext, x: Tensor, length: Tensor | None, axis: int, inverse: bool, onesided: bool
) -> Tensor:
    axis = ctx.axis(axis, x.rank)
    given, parts = x.shape[axis], x.shape[-1]
    if axis == x.rank - 1 or parts not in (1, 2):
        ctx.fail(f"axis {axis} of {list(x.shape)} holds no real or complex signal")
    count = 2 * (given - 1) if inverse and onesided else given
    count = count if length is None else int(ctx.required_constant(length, "dft_length").item())
    order = [*(i for i in range(x.rank - 1) if i != axis), axis, x.rank - 1]
    moved = ctx.transpose(ctx.cast(x, FLOAT32), order)
    rows = ctx.reshape(moved, (x.size // (given * parts), given, parts))
    if inverse and onesided:
        result = _product(ctx, rows, _real_inverse(count), 1)
    else:
        result = _transform(ctx, rows, count, count // 2 + 1 if onesided else count, 1 if inverse else -1)
    shape = [ctx.result.shape[i] for i in order]
    return ctx.cast(ctx.transpose(ctx.reshape(result, shape), np.argsort(order).tolist()), x.dtype)


def _transform(ctx: LoweringContext, x: Tensor, count: int, frequencies: int, sign: int) -> Tensor:
    """[rows, n, parts], cut or filled with zeros to `count` numbers -> [rows, frequencies, 2]."""
    rows, given, parts = x.shape
    used = ctx.slice_axis(x, 1, 0, min(given, count))
    scale = 1 / count if sign > 0 else 1.0
    if fourier.cost(count, parts, frequencies) >= used.shape[1] * parts * frequencies * 2:
        return _product(ctx, used, fourier.waves(count, frequencies, sign) * scale, 2)
    filled = ctx.pad(used, [0, 0, 0], [0, count - used.shape[1], 0])
    planes = ctx.transpose(filled, [0, 2, 1]) if parts == 2 else ctx.reshape(filled, (rows, 1, count))
    spectrum = ctx.transpose(fourier.transform(ctx, planes, frequencies, sign), [0, 2, 1])
    return spectrum if scale == 1 else ctx.mul(spectrum, scale)


def _product(ctx: LoweringContext, x: Tensor, matrix: np.ndarray, out_parts: int) -> Tensor:
    """[rows, n, parts] by the first rows of a complex matrix -> [rows, columns, out_parts]."""
    rows, given, parts = x.shape
    used = min(given, len(matrix))
    flat = ctx.reshape(ctx.slice_axis(x, 1, 0, used), (1, rows, used * parts))
    product = ctx.matmul(flat, ctx.constant(_for_parts(matrix, used, parts, out_parts)[None]))
    return ctx.reshape(product, (rows, matrix.shape[1], out_parts))


def _real_inverse(count: int) -> np.ndarray:
    """[frequencies, count]: what half a spectrum gives of a real signal, as the real part of the product.

    The frequencies that have a mirror image in the half that is not given count twice.
    """
    matrix = fourier.waves(count, count // 2 + 1, 1).T / count
    matrix[1 : (count + 1) // 2] *= 2
    return matrix


def _for_parts(matrix: np.ndarray, rows: int, parts: int, out_parts: int) -> np.ndarray:
    """A complex matrix as a real one on (real, imaginary) pairs: [rows * parts, columns * out_parts] in f32."""
    used = matrix[:rows]
    by_part = np.stack([used, 1j * used][:parts], 1)
    split = np.stack([by_part.real, by_part.imag][:out_parts], -1)
    return split.reshape(rows * parts, -1).astype(np.float32)


@lowering("STFT", since=17)
def stft(
    ctx: LoweringContext,
    signal: Tensor,
    step: Tensor,
    window: Tensor | None = None,
    length: Tensor | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """One `tosa.conv2d`: its input channels are the samples of a hop, its weights the waves under the window.

    Long frames are cut out and transformed as DFT does. The step and the length must be constant.
    """
    hop = int(ctx.required_constant(step, "frame_step").item())
    size = _frame_length(ctx, window, length)
    parts = signal.shape[2] if signal.rank == 3 else 1
    if parts == 2 and onesided:
        ctx.fail("the spectrum of a complex signal has no mirrored half to leave out")
    frames, frequencies = ctx.result.shape[1:3]
    hops = _in_hops(ctx, ctx.cast(signal, FLOAT32), frames + -(-size // hop) - 1, hop * parts)
    if fourier.cost(size, parts, frequencies) + _CUTTING * size < size * parts * frequencies * 2:
        cut = _windowed_frames(ctx, hops, frames, size, parts, window)
        spectrum = _transform(ctx, cut, size, frequencies, -1)
    else:
        weights = _windowed_waves(ctx, size, parts, frequencies, window)
        spectrum = _convolve(ctx, hops, weights, frames)
    return ctx.cast(ctx.reshape(spectrum, ctx.result.shape), signal.dtype)


def _convolve(ctx: LoweringContext, hops: Tensor, weights: Tensor, frames: int) -> Tensor:
    """hops [N, count, numbers a hop] by weights [numbers a frame, outputs]: one window a frame."""
    taps = hops.shape[1] - frames + 1
    filled = ctx.pad(weights, [0, 0], [taps * hops.shape[2] - weights.shape[0], 0])
    by_hop = ctx.reshape(filled, (taps, hops.shape[2], weights.shape[1]))
    windows = Windows((taps,), (1,), (1,), ((0, 0),))
    return convolve(ctx, hops, ctx.transpose(by_hop, [2, 1, 0]), None, windows)


def _windowed_frames(
    ctx: LoweringContext, hops: Tensor, frames: int, size: int, parts: int, window: Tensor | None
) -> Tensor:
    """The frames under the window, [N * frames, samples, parts]."""
    batch, taps = hops.shape[0], hops.shape[1] - frames + 1
    shifted = ctx.concat([ctx.slice_axis(hops, 1, tap, frames) for tap in range(taps)], 2)
    cut = ctx.slice_axis(shifted, 2, 0, size * parts)
    samples = ctx.reshape(cut, (batch * frames, size, parts))
    return samples if window is None else ctx.mul(samples, ctx.reshape(ctx.cast(window, FLOAT32), (size, 1)))


def _frame_length(ctx: LoweringContext, window: Tensor | None, length: Tensor | None) -> int:
    if window is not None:
        return window.size
    if length is None:
        ctx.fail("it has neither a window nor a frame_length")
    return int(ctx.required_constant(length, "frame_length").item())


def _windowed_waves(
    ctx: LoweringContext, size: int, parts: int, frequencies: int, window: Tensor | None
) -> Tensor:
    """[samples * parts, frequencies * 2]."""
    matrix = _for_parts(fourier.waves(size, frequencies), size, parts, 2)
    waves = ctx.constant(matrix.reshape(size, -1))
    under = waves if window is None else ctx.mul(waves, ctx.reshape(ctx.cast(window, FLOAT32), (size, 1)))
    return ctx.reshape(under, (size * parts, frequencies * 2))


def _in_hops(ctx: LoweringContext, signal: Tensor, count: int, size: int) -> Tensor:
    """The first numbers of each signal as [N, count, size], with zeros where it ends before."""
    batch = signal.shape[0]
    flat = ctx.reshape(signal, (batch, math.prod(signal.shape[1:])))
    used = ctx.slice_axis(flat, 1, 0, min(flat.shape[1], count * size))
    padded = ctx.pad(used, [0, 0], [0, count * size - used.shape[1]])
    return ctx.reshape(padded, (batch, count, size))
