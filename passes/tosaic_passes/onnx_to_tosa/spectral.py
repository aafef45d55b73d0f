"""Fourier transforms as products with constant matrices.

A complex number is a pair (real, imaginary) in the last dimension.
"""

from __future__ import annotations

import math

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.convolution import convolve
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows


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
    """One `tosa.matmul` with a constant matrix; the length must be constant."""
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
    """One `tosa.matmul` with a constant matrix; the length and the axis must be constant."""
    chosen = -2 if axis is None else int(ctx.required_constant(axis, "axis").item())
    return _dft(ctx, x, length, chosen, bool(inverse), bool(onesided))


def _dft(
    ctx: LoweringContext, x: Tensor, length: Tensor | None, axis: int, inverse: bool, onesided: bool
) -> Tensor:
    axis = ctx.axis(axis, x.rank)
    given, parts = x.shape[axis], x.shape[-1]
    if axis == x.rank - 1 or parts not in (1, 2):
        ctx.fail(f"axis {axis} of {list(x.shape)} holds no real or complex signal")
    to_real = inverse and onesided
    count = 2 * (given - 1) if to_real else given
    count = count if length is None else int(ctx.required_constant(length, "dft_length").item())
    matrix = inverse_matrix(count, half=onesided) if inverse else forward_matrix(count, half=onesided)
    matrix = _for_parts(matrix, min(given, matrix.shape[0]), parts, 1 if to_real else 2)
    order = [*(i for i in range(x.rank - 1) if i != axis), axis, x.rank - 1]
    moved = ctx.transpose(ctx.cast(x, FLOAT32), order)
    used = ctx.slice_axis(moved, x.rank - 2, 0, matrix.shape[0] // parts)
    rows = ctx.reshape(used, (1, used.size // matrix.shape[0], matrix.shape[0]))
    product = ctx.matmul(rows, ctx.constant(matrix[None]))
    shape = [ctx.result.shape[i] for i in order]
    return ctx.cast(ctx.transpose(ctx.reshape(product, shape), np.argsort(order).tolist()), x.dtype)


def forward_matrix(count: int, *, half: bool) -> np.ndarray:
    """[count, frequencies]: exp(-2 pi i j k / count), the upper half of the frequencies left out on demand."""
    turns = np.outer(np.arange(count), np.arange(count // 2 + 1 if half else count)) % count
    return np.exp(-2j * np.pi * turns / count)


def inverse_matrix(count: int, *, half: bool) -> np.ndarray:
    """[frequencies, count]: exp(2 pi i j k / count) / count; the real part is meant if only half of them is given.

    Those of the lower half that have a mirror image in the upper one count twice then.
    """
    matrix = forward_matrix(count, half=half).T.conj() / count
    if half:
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

    The step and the length must be constant.
    """
    hop = int(ctx.required_constant(step, "frame_step").item())
    size = _frame_length(ctx, window, length)
    parts = signal.shape[2] if signal.rank == 3 else 1
    if parts == 2 and onesided:
        ctx.fail("the spectrum of a complex signal has no mirrored half to leave out")
    frames, taps = ctx.result.shape[1], -(-size // hop)
    weights = _windowed_waves(ctx, size, parts, bool(onesided), window)
    weights = ctx.pad(weights, [0, 0], [taps * hop - size, 0])
    by_hop = ctx.reshape(weights, (taps, hop * parts, weights.shape[1] // parts))
    hops = _in_hops(ctx, ctx.cast(signal, FLOAT32), frames + taps - 1, hop * parts)
    windows = Windows((taps,), (1,), (1,), ((0, 0),))
    spectrum = convolve(ctx, hops, ctx.transpose(by_hop, [2, 1, 0]), None, windows)
    return ctx.cast(ctx.reshape(spectrum, ctx.result.shape), signal.dtype)


def _frame_length(ctx: LoweringContext, window: Tensor | None, length: Tensor | None) -> int:
    if window is not None:
        return window.size
    if length is None:
        ctx.fail("it has neither a window nor a frame_length")
    return int(ctx.required_constant(length, "frame_length").item())


def _windowed_waves(
    ctx: LoweringContext, size: int, parts: int, onesided: bool, window: Tensor | None
) -> Tensor:
    """[samples, parts * frequencies * 2]."""
    matrix = _for_parts(forward_matrix(size, half=onesided), size, parts, 2)
    waves = ctx.constant(matrix.reshape(size, -1))
    return waves if window is None else ctx.mul(waves, ctx.reshape(ctx.cast(window, FLOAT32), (size, 1)))


def _in_hops(ctx: LoweringContext, signal: Tensor, count: int, size: int) -> Tensor:
    """The first numbers of each signal as [N, count, size], with zeros where it ends before."""
    batch = signal.shape[0]
    flat = ctx.reshape(signal, (batch, math.prod(signal.shape[1:])))
    used = ctx.slice_axis(flat, 1, 0, min(flat.shape[1], count * size))
    padded = ctx.pad(used, [0, 0], [0, count * size - used.shape[1]])
    return ctx.reshape(padded, (batch, count, size))
