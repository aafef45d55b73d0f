"""Products of 8-bit integers: `tosa.matmul` and convolutions of int8 with i32 sums, and what is made of the sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.convolution import convolve
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT8, INT32
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.quantization import dynamic_quantization
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.requantization import as_int8, one_value, requantize
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows, channels_first, channels_last, resolve_windows

CONTRIB = "com.microsoft"


@lowering("MatMulInteger", since=10)
def matmul_integer(
    ctx: LoweringContext, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """`tosa.matmul` of int8 with i32 sums; zero points that are not one constant are corrected afterwards."""
    return ctx.reshape(integer_matmul(ctx, a, b, a_zero, b_zero), ctx.result.shape)


def integer_matmul(
    ctx: LoweringContext, a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None
) -> Tensor:
    """(a - a_zero) (b - b_zero) in i32, from 8-bit operands; zero points per tensor, row of a, column of b.

    Vectors are matrices with one row (a) or one column (b), and stay so in the result.
    """
    a = ctx.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    b = ctx.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    a, rows = as_int8(ctx, a, a_zero)
    b, columns = as_int8(ctx, b, b_zero)
    left, right = one_value(rows), one_value(columns)
    product = batched_matmul(ctx, a, b, zeros=(left or 0, right or 0))
    rest_a = None if left is not None else by_row(ctx, rows)
    rest_b = None if right is not None else columns
    if rest_a is not None:
        sums = ctx.reduce("reduce_sum", ctx.sub(ctx.cast(b, INT32), right or 0), [b.rank - 2])
        product = ctx.sub(product, ctx.mul(rest_a, sums))
    if rest_b is not None:
        sums = ctx.reduce("reduce_sum", ctx.sub(ctx.cast(a, INT32), left or 0), [a.rank - 1])
        product = ctx.sub(product, ctx.mul(sums, rest_b))
    if rest_a is not None and rest_b is not None:
        product = ctx.add(product, ctx.mul(ctx.mul(rest_a, rest_b), a.shape[-1]))
    return product


def by_row(ctx: LoweringContext, parameter: Tensor) -> Tensor:
    """A scale or zero point of a left operand so that it broadcasts: a vector has one for each row."""
    return (
        ctx.reshape(parameter, (*parameter.shape, 1))
        if parameter.rank == 1 and parameter.size > 1
        else parameter
    )


@lowering("QLinearMatMul", since=10)
def qlinear_matmul(
    ctx: LoweringContext,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """`tosa.matmul` of int8 with i32 sums, then `tosa.rescale`."""
    sums = integer_matmul(ctx, a, b, a_zero, b_zero)
    scale = output_scale(ctx, by_row(ctx, a_scale), b_scale, y_scale)
    return ctx.reshape(requantize(ctx, sums, _by_last_axis(ctx, scale, sums), y_zero), ctx.result.shape)


def output_scale(ctx: LoweringContext, a_scale: Tensor, b_scale: Tensor, y_scale: Tensor) -> Tensor:
    """a_scale * b_scale / y_scale in f32, rounded where onnxruntime rounds."""
    a_scale, b_scale, y_scale = ctx.cast_all([a_scale, b_scale, y_scale], FLOAT32)
    return ctx.div(ctx.mul(a_scale, b_scale), y_scale)


def _by_last_axis(ctx: LoweringContext, scale: Tensor, sums: Tensor) -> Tensor:
    return ctx.reshape(scale, ()) if scale.size == 1 else ctx.with_rank(scale, sums.rank)


@lowering("QGemm", domain=CONTRIB)
def qgemm(
    ctx: LoweringContext,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """`tosa.matmul` of int8 with i32 sums, plus C, then `tosa.rescale`; without y_scale the result is f32."""
    a = ctx.transpose(a, [1, 0]) if transA else a
    b = ctx.transpose(b, [1, 0]) if transB else b
    sums = integer_matmul(ctx, a, b, a_zero, b_zero)
    sums = sums if c is None else ctx.add(sums, c)
    a_scale = ctx.mul(a_scale, alpha) if alpha != 1 else a_scale
    if y_scale is None or y_zero is None:
        return ctx.mul(ctx.cast(sums, FLOAT32), ctx.mul(a_scale, b_scale))
    return requantize(
        ctx, sums, _by_last_axis(ctx, output_scale(ctx, a_scale, b_scale, y_scale), sums), y_zero
    )


@lowering("MatMulIntegerToFloat", domain=CONTRIB)
def matmul_integer_to_float(
    ctx: LoweringContext,
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`tosa.matmul` of int8 with i32 sums, times the scales in f32, plus the bias."""
    sums = ctx.cast(integer_matmul(ctx, a, b, a_zero, b_zero), FLOAT32)
    numbers = ctx.mul(sums, ctx.mul(by_row(ctx, a_scale), b_scale))
    return ctx.reshape(numbers if bias is None else ctx.add(numbers, bias), ctx.result.shape)


@lowering("DynamicQuantizeMatMul", domain=CONTRIB)
def dynamic_quantize_matmul(
    ctx: LoweringContext,
    a: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """DynamicQuantizeLinear of A, then as MatMulIntegerToFloat."""
    q, scale, zero = dynamic_quantization(ctx, a)
    return matmul_integer_to_float(ctx, q, b, scale, b_scale, zero, b_zero, bias)


@lowering("MatMulNBits", domain=CONTRIB)
def matmul_n_bits(
    ctx: LoweringContext,
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    group: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
) -> Tensor:
    """`tosa.matmul` in floats with constant weights, which are unpacked and dequantized here. No group indices."""
    if group is not None:
        ctx.fail("group indices are not supported", "quantise without act-order")
    blocks = -(-K // block_size) if block_size > 0 else 0
    if not blocks or a.shape[-1] != K or scales.size != N * blocks or b.size % (N * blocks):
        ctx.fail(f"its operands are no {N} rows of {K} numbers in blocks of {block_size}")
    packed = ctx.required_constant(b, "the weights").reshape(N, blocks, -1)
    scale = ctx.required_constant(scales, "the scales").astype(np.float32).reshape(N, blocks, 1)
    zero: np.ndarray | float = 2.0 ** (bits - 1)
    if zeros is not None:
        zero = _unpacked_zeros(ctx.required_constant(zeros, "the zero points"), bits, N, blocks)
    numbers = ((_unpacked(packed, bits)[..., :block_size] - zero) * scale).reshape(N, -1)[:, :K]
    product = batched_matmul(ctx, a, ctx.constant(np.ascontiguousarray(numbers.T).astype(a.dtype)))
    return product if bias is None else ctx.add(product, bias)


def _unpacked_zeros(zeros: np.ndarray, bits: int, rows: int, blocks: int) -> np.ndarray:
    """Zero points [rows, blocks, 1]: packed as the weights are, each row from a new byte on, or floats."""
    if zeros.dtype != np.uint8:
        return zeros.astype(np.float32).reshape(rows, blocks, 1)
    return _unpacked(zeros.reshape(rows, -1), bits)[:, :blocks, None]


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of so many bits out of bytes, the lowest bits first, along the last axis."""
    parts = [packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(*packed.shape[:-1], -1).astype(np.float32)


@lowering("ConvInteger", since=10)
def conv_integer(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """A convolution of int8 with i32 sums; zero points that are not one constant are corrected afterwards."""
    kernel = kernel_shape or w.shape[2:]
    windows = resolve_windows(ctx, x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    return channels_first(ctx, _Convolution(windows, group).sums(ctx, x, x_zero, w, w_zero, None))


@lowering("QLinearConv", since=10)
def qlinear_conv(
    ctx: LoweringContext,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """A convolution of int8 with i32 sums, then `tosa.rescale`."""
    kernel = kernel_shape or w.shape[2:]
    windows = resolve_windows(ctx, x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    sums = _Convolution(windows, group).sums(ctx, x, x_zero, w, w_zero, b)
    scale = _by_last_axis(ctx, output_scale(ctx, w_scale, x_scale, y_scale), sums)
    return channels_first(ctx, requantize(ctx, sums, scale, y_zero))


@dataclass(frozen=True)
class _Convolution:
    """The geometry of an integer convolution."""

    windows: Windows
    group: int

    def sums(
        self,
        ctx: LoweringContext,
        x: Tensor,
        x_zero: Tensor | None,
        w: Tensor,
        w_zero: Tensor | None,
        b: Tensor | None,
    ) -> Tensor:
        """Sums of (x - x_zero) (w - w_zero) plus b in i32, channels last; padding counts as x_zero.

        x [N, C, spatial...], w [O, C / group, kernel...]. TOSA takes one constant zero point for the input and one
        for the weights. A computed one of the input is taken off the sums, which needs the weights' sums only if the
        padding is part of the input; different ones of the weights take windows' sums of the input off.
        """
        x, x_zero = as_int8(ctx, channels_last(ctx, x), x_zero)
        w, w_zero = as_int8(ctx, w, w_zero)
        x_known, w_known = one_value(x_zero), one_value(w_zero)
        windows = self.windows
        if x_known is None:
            x, windows = _padded(ctx, x, ctx.reshape(ctx.cast(x_zero, INT8), ()), windows), _unpadded(windows)
        zeros = (x_known or 0, w_known or 0)
        sums = convolve(ctx, x, w, b, windows, self.group, zeros=zeros)
        centred = ctx.sub(
            ctx.cast(w, INT32), w_known if w_known is not None else _by_first_axis(ctx, w_zero, w)
        )
        if x_known is None:
            totals = ctx.reduce("reduce_sum", centred, range(1, w.rank), keepdims=False)
            sums = ctx.sub(sums, ctx.mul(totals, ctx.reshape(x_zero, ())))
        if w_known is None:
            sums = ctx.sub(sums, ctx.mul(self._window_sums(ctx, x, w, windows, x_known or 0), w_zero))
        return sums

    def _window_sums(self, ctx: LoweringContext, x: Tensor, w: Tensor, windows: Windows, zero: int) -> Tensor:
        """The sum of x - zero under each window, of the channels that each output channel sees."""
        ones = ctx.constant(np.ones((self.group, *w.shape[1:]), np.int8))
        sums = convolve(ctx, x, ones, None, windows, self.group, zeros=(zero, 0))
        channels = w.shape[0] // self.group
        spread = ctx.broadcast_to(ctx.reshape(sums, (*sums.shape, 1)), (*sums.shape, channels))
        return ctx.reshape(spread, (*sums.shape[:-1], w.shape[0])) if self.group > 1 else sums


def _padded(ctx: LoweringContext, x: Tensor, fill: Tensor, windows: Windows) -> Tensor:
    before = [0, *(max(0, begin) for begin, _ in windows.pads), 0]
    after = [0, *(max(0, end) for _, end in windows.pads), 0]
    return ctx.pad(x, before, after, fill)


def _unpadded(windows: Windows) -> Windows:
    return windows.with_pads([(min(0, begin), min(0, end)) for begin, end in windows.pads])


def _by_first_axis(ctx: LoweringContext, parameter: Tensor, w: Tensor) -> Tensor:
    return ctx.reshape(parameter, (parameter.size, *(1,) * (w.rank - 1)))
