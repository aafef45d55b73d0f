"""From floats to integers and back: q stands for (q - zero) * scale, with onnxruntime's rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT32, UINT8, is_float, limits
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.small_floats import round_to_small_float
from tosaic_passes.onnx_to_tosa.tensor import Tensor

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Quantized:
    """Integers q that stand for (q - zero) * scale; scale and zero (None: 0) broadcast against q."""

    q: Tensor
    scale: Tensor
    zero: Tensor | None


@lowering("DequantizeLinear")
@lowering("DequantizeLinear", domain=CONTRIB)
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
@lowering("QuantizeLinear", domain=CONTRIB)
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
    scale, zero = _aligned(ctx, x, scale, axis, block_size), zero and _aligned(ctx, x, zero, axis, block_size)
    x, scale = ctx.cast_all([x, scale], FLOAT32)
    return quantize(ctx, x, scale, zero, dtype, saturate=bool(saturate))


def quantize(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    dtype: np.dtype,
    *,
    saturate: bool = True,
) -> Tensor:
    """f32 numbers divided by their scale, rounded (ties to even), moved by zero, saturated.

    They are cut to the range of the result first: no quotient overflows, and i32 holds every rounded one.
    """
    low, high = limits(dtype)
    span = float(2 * (high - low + 1))
    if scale.array is not None and scale.size == 1:
        reach = span * float(scale.array.item())
        return _quantize_within(ctx, ctx.clamp(x, -reach, reach), scale, zero, dtype, saturate)
    scale = ctx.with_rank(scale, x.rank)
    bound = ctx.mul(scale, span)
    cut = ctx.minimum(ctx.maximum(x, ctx.negate(bound)), bound)
    return _quantize_within(ctx, cut, scale, zero, dtype, saturate)


def _quantize_within(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    dtype: np.dtype,
    saturate: bool = True,
) -> Tensor:
    """As `quantize`, for numbers that are not far outside of the range of the result."""
    quotient = exact_quotient(ctx, x, scale)
    if not is_float(dtype):
        return to_quantized(ctx, quotient, zero, dtype)
    shifted = quotient if zero is None else ctx.add(quotient, ctx.cast(zero, FLOAT32))
    return round_to_small_float(ctx, shifted, dtype, saturate=saturate)


def exact_quotient(ctx: LoweringContext, x: Tensor, divisor: Tensor) -> Tensor:
    """x / divisor in f32 as a division rounds it, where neither overflows; TOSA has no division of floats.

    x * (1 / divisor) is up to two steps off, which moves rounding ties. With x and the inverse split into a
    part of 12 bits and a rest, the product of the first parts is exact and the others are 2^-12 of it, so that
    only the last sum rounds (Dekker 1971, "A floating-point technique for extending the available precision").
    """
    if divisor.array is not None and (np.frexp(divisor.array)[0] == 0.5).all():
        return ctx.mul(x, ctx.reciprocal(divisor))
    inverse, inverse_rest = _inverse(ctx, divisor)
    high, low = _halves(ctx, x)
    return ctx.add(ctx.mul(high, inverse), ctx.add(ctx.mul(low, inverse), ctx.mul(x, inverse_rest)))


def _inverse(ctx: LoweringContext, divisor: Tensor) -> tuple[Tensor, Tensor]:
    """1 / divisor as a f32 number of 12 bits and a rest, together accurate to 35 bits.

    A constant divisor may be any normal number, a computed one must be at least 2^-110.
    """
    if divisor.array is not None:
        exact = 1 / divisor.array.astype(np.float64)
        mantissa, exponent = np.frexp(exact)
        first = np.ldexp(np.rint(mantissa * 2**12), exponent - 12)
        return ctx.constant(first.astype(np.float32)), ctx.constant((exact - first).astype(np.float32))
    inverse = ctx.reciprocal(divisor)
    high, _ = _halves(ctx, inverse)
    divisor_high, divisor_low = _halves(ctx, divisor)
    residual = ctx.sub(ctx.sub(1.0, ctx.mul(divisor_high, high)), ctx.mul(divisor_low, high))
    return high, ctx.mul(residual, inverse)


def _halves(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, Tensor]:
    """A f32 number as a sum of two of 12 bits each (Veltkamp's splitting)."""
    scaled = ctx.mul(x, 4097.0)
    high = ctx.sub(scaled, ctx.sub(scaled, x))
    return high, ctx.sub(x, high)


def to_quantized(ctx: LoweringContext, scaled: Tensor, zero: Tensor | None, dtype: np.dtype) -> Tensor:
    """Rounds f32 numbers that are divided by their scale already; `tosa.cast` rounds ties to even."""
    low, high = limits(dtype)
    rounded = ctx.cast(scaled, INT32)  # saturates
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
    return dynamic_quantization(ctx, x)


def dynamic_quantization(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x as uint8, with the (scalar) scale and zero point by which its range, and 0, fit."""
    low = ctx.clamp(ctx.reduce("reduce_min", x, range(x.rank)), None, 0)
    high = ctx.clamp(ctx.reduce("reduce_max", x, range(x.rank)), 0, None)
    scale = exact_quotient(ctx, ctx.sub(high, low), ctx.constant(np.array(255, np.float32)))
    safe = ctx.select(ctx.equal(scale, 0), 1, scale)
    zero = _quantize_within(ctx, ctx.negate(low), safe, None, UINT8)
    q = _quantize_within(ctx, x, safe, zero, UINT8)
    return q, ctx.reshape(safe, ()), ctx.reshape(zero, ())
