"""Quantised ops: integers stay integers, with onnxruntime's formulas (q - zero) * scale and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.convolution import convolve
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT8, INT32, UINT8, is_float, limits, narrowed
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows, channels_first, channels_last, resolve_windows

FLIP = 128
"""uint8 q is held as int8 q - 128: the highest bit flipped, the zero point moved along."""

BOUND = 2.0**100
"""Numbers beyond it are cut before they are quantised: their products would overflow."""


@dataclass(frozen=True)
class Quantized:
    """Integers q that stand for (q - zero) * scale; scale and zero broadcast against q."""

    q: Tensor
    scale: Tensor
    zero: Tensor | None


@lowering("DequantizeLinear")
def dequantize_linear(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """(x - zero) * scale in f32, per tensor, axis or block."""
    scale, zero = _aligned(ctx, x, scale, axis, block_size), zero and _aligned(ctx, x, zero, axis, block_size)
    return ctx.cast(dequantize(ctx, Quantized(x, scale, zero)), ctx.result.dtype)


def dequantize(ctx: LoweringContext, x: Quantized) -> Tensor:
    """The numbers that quantised ones stand for, in f32."""
    return ctx.mul(_centred(ctx, x.q, x.zero), ctx.cast(x.scale, FLOAT32))


def _centred(ctx: LoweringContext, q: Tensor, zero: Tensor | None) -> Tensor:
    if is_float(q.dtype):
        wide = ctx.cast(q, FLOAT32)
        return wide if zero is None else ctx.sub(wide, ctx.cast(zero, FLOAT32))
    if zero is None or (zero.array is not None and not zero.array.any()):
        return ctx.cast(q, FLOAT32)
    return ctx.cast(ctx.sub(ctx.cast(q, INT32), ctx.cast(zero, INT32)), FLOAT32)


@lowering("QuantizeLinear")
def quantize_linear(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
    precision: int = 0,
) -> Tensor:
    """x / scale rounded to the nearest (ties to even) plus zero, saturated; per tensor, axis or block."""
    dtype = ctx.result.onnx_dtype
    if narrowed(dtype) == FLOAT32:
        ctx.fail(f"TOSA cannot round to {dtype}")
    scale, zero = _aligned(ctx, x, scale, axis, block_size), zero and _aligned(ctx, x, zero, axis, block_size)
    return quantize(ctx, ctx.cast(x, FLOAT32), ctx.cast(scale, FLOAT32), zero, dtype)


def quantize(ctx: LoweringContext, x: Tensor, scale: Tensor, zero: Tensor | None, dtype: np.dtype) -> Tensor:
    """f32 numbers divided by their scale, rounded, moved by zero, saturated."""
    quotient = exact_quotient(ctx, ctx.clamp(x, -BOUND, BOUND), scale)
    return to_quantized(ctx, quotient, zero, dtype)


def exact_quotient(ctx: LoweringContext, x: Tensor, divisor: Tensor) -> Tensor:
    """x / divisor in f32, rounded as a division is, for quotients below 2^115.

    x * (1 / divisor) may be one step off, which moves ties. Its exact residual, from products of 12-bit
    halves (Dekker 1971, "A floating-point technique for extending the available precision"), corrects it.
    """
    inverse = ctx.reciprocal(divisor)
    quotient = ctx.mul(x, inverse)
    if divisor.array is not None and (np.frexp(divisor.array)[0] == 0.5).all():
        return quotient
    q_high, q_low = _halves(ctx, quotient)
    d_high, d_low = _halves(ctx, divisor)
    product = ctx.mul(quotient, divisor)
    rest = ctx.sub(x, product)
    error = ctx.sub(ctx.mul(q_high, d_high), product)
    for left, right in ((q_high, d_low), (q_low, d_high), (q_low, d_low)):
        error = ctx.add(error, ctx.mul(left, right))
    return ctx.add(quotient, ctx.mul(ctx.sub(rest, error), inverse))


def _halves(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, Tensor]:
    """A f32 number as a sum of two of 12 bits each (Veltkamp's splitting)."""
    scaled = ctx.mul(x, 4097.0)
    high = ctx.sub(scaled, ctx.sub(scaled, x))
    return high, ctx.sub(x, high)


def to_quantized(ctx: LoweringContext, scaled: Tensor, zero: Tensor | None, dtype: np.dtype) -> Tensor:
    """Rounds f32 numbers that are divided by their scale already; `tosa.cast` rounds ties to even."""
    low, high = limits(dtype)
    if is_float(dtype):
        shifted = scaled if zero is None else ctx.add(scaled, ctx.cast(zero, FLOAT32))
        return ctx.cast(ctx.clamp(shifted, low, high), dtype)
    span = float(2 * (high - low + 1))
    rounded = ctx.cast(ctx.clamp(scaled, -span, span), INT32)
    shifted = rounded if zero is None else ctx.add(rounded, ctx.cast(zero, INT32))
    return ctx.cast(ctx.clamp(shifted, low, high), dtype)


def _aligned(ctx: LoweringContext, x: Tensor, parameter: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts against x."""
    if parameter.size == 1:
        return ctx.reshape(parameter, ())
    axis = ctx.axis(axis, x.rank)
    if block_size:
        return _per_block(ctx, x, parameter, axis, block_size)
    return ctx.reshape(parameter, [size if i == axis else 1 for i, size in enumerate(x.shape)])


def _per_block(ctx: LoweringContext, x: Tensor, parameter: Tensor, axis: int, block_size: int) -> Tensor:
    """Every parameter repeated `block_size` times along the axis (the last block may be shorter)."""
    blocks = parameter.shape[axis]
    flat = (math.prod(x.shape[:axis]) * blocks, 1, math.prod(x.shape[axis + 1 :]))
    repeated = ctx.broadcast_to(ctx.reshape(parameter, flat), (flat[0], block_size, flat[2]))
    whole = ctx.reshape(repeated, (*x.shape[:axis], blocks * block_size, *x.shape[axis + 1 :]))
    return ctx.slice_axis(whole, axis, 0, x.shape[axis])


@lowering("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and zero point of uint8 from the range of x, then as QuantizeLinear."""
    axes = range(x.rank)
    low = ctx.clamp(ctx.reduce("reduce_min", x, axes, keepdims=False), None, 0)
    high = ctx.clamp(ctx.reduce("reduce_max", x, axes, keepdims=False), 0, None)
    scale = exact_quotient(ctx, ctx.sub(high, low), ctx.constant(np.array(255, np.float32)))
    safe = ctx.select(ctx.equal(scale, 0), 1, scale)
    zero = quantize(ctx, ctx.negate(low), safe, None, UINT8)
    return quantize(ctx, x, safe, zero, UINT8), safe, zero


@lowering("MatMulInteger", since=10)
def matmul_integer(
    ctx: LoweringContext, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """`tosa.matmul` of int8 with i32 sums; zero points that are not one constant are corrected afterwards."""
    left = ctx.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    right = ctx.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    return ctx.reshape(integer_matmul(ctx, left, right, a_zero, b_zero), ctx.result.shape)


def integer_matmul(
    ctx: LoweringContext, a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None
) -> Tensor:
    """(a - a_zero) (b - b_zero) in i32, from 8-bit operands; zero points per tensor, row of a, column of b."""
    a, rows = _as_int8(ctx, a, a_zero)
    b, columns = _as_int8(ctx, b, b_zero)
    left, right = _scalar(rows), _scalar(columns)
    product = batched_matmul(ctx, a, b, zeros=(left or 0, right or 0))
    rest_a = None if left is not None else _per_row(ctx, rows)
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


def _per_row(ctx: LoweringContext, zero: Tensor) -> Tensor:
    return zero if zero.size == 1 or zero.rank > 1 else ctx.reshape(zero, (*zero.shape, 1))


def _as_int8(ctx: LoweringContext, q: Tensor, zero: Tensor | None) -> tuple[Tensor, Tensor]:
    """8-bit integers as int8, with the int32 zero point that belongs to them."""
    zero = ctx.constant(np.zeros((), np.int32)) if zero is None else ctx.cast(zero, INT32)
    if q.dtype == INT8:
        return q, zero
    if q.dtype != UINT8:
        ctx.fail(f"TOSA multiplies 8-bit integers, not {q.dtype}")
    flipped = ctx.elementwise("bitwise_xor", q, FLIP)
    return ctx.reinterpret(flipped, INT8), ctx.sub(zero, FLIP)


def _scalar(zero: Tensor) -> int | None:
    """A zero point that TOSA takes as it is: one constant for all elements."""
    if zero.array is None or zero.size == 0 or (zero.array != zero.array.flat[0]).any():
        return None
    return int(zero.array.flat[0])


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
    """`tosa.matmul` of int8 with i32 sums, then `tosa.rescale` (one step off at ties at most)."""
    left = ctx.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    right = ctx.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    sums = integer_matmul(ctx, left, right, a_zero, b_zero)
    rows = ctx.reshape(a_scale, (*a_scale.shape, 1)) if a_scale.rank == 1 and a_scale.size > 1 else a_scale
    scale = ctx.div(ctx.mul(ctx.cast(rows, FLOAT32), ctx.cast(b_scale, FLOAT32)), ctx.cast(y_scale, FLOAT32))
    return ctx.reshape(requantize(ctx, sums, scale, y_zero), ctx.result.shape)


def requantize(ctx: LoweringContext, sums: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """i32 sums * scale + zero in the dtype of the zero point: `tosa.rescale`, in f32 for a computed scale."""
    factors = None if scale.array is None else np.atleast_1d(np.squeeze(scale.array)).astype(np.float64)
    by_channel = factors is not None and len(factors) > 1
    offset = _scalar(zero)
    if factors is None or offset is None or not _rescalable(factors, scale, sums):
        return to_quantized(ctx, ctx.mul(ctx.cast(sums, FLOAT32), scale), zero, zero.dtype)
    unsigned = zero.dtype == UINT8
    narrow = _rescale(ctx, sums, factors, offset - FLIP if unsigned else offset, by_channel)
    if not unsigned:
        return narrow
    return ctx.reinterpret(ctx.elementwise("bitwise_xor", narrow, -FLIP), UINT8)


def _rescalable(factors: np.ndarray, scale: Tensor, sums: Tensor) -> bool:
    """Factors that `tosa.rescale` takes: one or one a channel, with a shift from 2 to 62."""
    along_channels = factors.ndim == 1 and (len(factors) == 1 or scale.shape[-1] == sums.shape[-1])
    return bool(along_channels and (factors > 2.0**-31).all() and (factors < 2.0**29).all())


def _rescale(ctx: LoweringContext, sums: Tensor, factors: np.ndarray, zero: int, by_channel: bool) -> Tensor:
    """round(sums * factor) + zero saturated to int8, with factor = multiplier * 2^-shift (31 bits)."""
    mantissa, exponent = np.frexp(factors)
    multiplier = np.round(mantissa * 2**31).astype(np.int64)
    carried = multiplier == 2**31
    multiplier, exponent = np.where(carried, 2**30, multiplier), exponent + carried
    return ctx.emit(
        "rescale",
        [
            sums,
            ctx.constant(multiplier.astype(np.int32)),
            ctx.constant((31 - exponent).astype(np.int8)),
            ctx.constant(np.zeros(1, np.int32)),
            ctx.constant(np.full(1, zero, np.int8)),
        ],
        sums.shape,
        INT8,
        scale32=True,
        rounding_mode=ir.Attribute.parse("#tosa.rounding_mode<SINGLE_ROUND>"),
        per_channel=by_channel,
        input_unsigned=False,
        output_unsigned=False,
    )


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
    convolution = Convolution(windows, group)
    return channels_first(ctx, convolution.sums(ctx, channels_last(ctx, x), x_zero, w, w_zero, None))


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
    """As ConvInteger, then `tosa.rescale` (one step off at ties at most)."""
    kernel = kernel_shape or w.shape[2:]
    windows = resolve_windows(ctx, x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    convolution = Convolution(windows, group)
    sums = convolution.sums(ctx, channels_last(ctx, x), x_zero, w, w_zero, b)
    scale = ctx.div(ctx.mul(w_scale, x_scale), y_scale)
    return channels_first(ctx, requantize(ctx, sums, scale, y_zero))


@dataclass(frozen=True)
class Convolution:
    """The geometry of an integer convolution, channels last."""

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
        """Sums of (x - x_zero) (w - w_zero) in i32; padding counts as x_zero.

        TOSA takes one constant zero point for the input and one for the weights; for others the sums are
        x * w - w_zero * (sums of x - x_zero).
        """
        x, offset = _as_int8(ctx, x, x_zero)
        w, w_offset = _as_int8(ctx, w, w_zero)
        known = _scalar(w_offset)
        sums = self._input_centred(ctx, x, offset, w, known or 0, b)
        if known is not None:
            return sums
        ones = ctx.constant(np.ones(w.shape, np.int8))
        return ctx.sub(sums, ctx.mul(self._input_centred(ctx, x, offset, ones, 0, None), w_offset))

    def _input_centred(
        self, ctx: LoweringContext, x: Tensor, zero: Tensor, w: Tensor, w_zero: int, b: Tensor | None
    ) -> Tensor:
        known = _scalar(zero)
        sums = convolve(ctx, x, w, b, self.windows, self.group, zeros=(known or 0, w_zero))
        if known is not None:
            return sums
        ones = ctx.constant(np.ones((1, *x.shape[1:]), np.int8))
        share = convolve(ctx, ones, w, None, self.windows, self.group, zeros=(0, w_zero))
        return ctx.sub(sums, ctx.mul(share, ctx.reshape(zero, ())))
