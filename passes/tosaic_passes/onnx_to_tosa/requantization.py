"""From i32 sums back to 8 bits: `tosa.rescale` with the rounding of ONNX."""

from __future__ import annotations

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT8, INT32, UINT8, limits
from tosaic_passes.onnx_to_tosa.quantization import to_quantized
from tosaic_passes.onnx_to_tosa.tensor import Tensor

FLIP = 128
"""uint8 q is held as int8 q - 128: the highest bit flipped, the zero point moved along."""

_SUM_BITS = 32
_LARGEST_TIE = 512
"""Results are saturated beyond 255, so that no larger odd multiple of a half is a tie to be resolved."""


def one_value(x: Tensor) -> int | None:
    """The value of an integer tensor that is constant and the same everywhere, None for any other."""
    if x.array is None or x.size == 0 or (x.array != x.array.flat[0]).any():
        return None
    return int(x.array.flat[0])


def as_int8(ctx: LoweringContext, q: Tensor, zero: Tensor | None) -> tuple[Tensor, Tensor]:
    """8-bit integers as int8, with the int32 zero point that belongs to them."""
    zero = ctx.constant(np.zeros((), np.int32)) if zero is None else ctx.cast(zero, INT32)
    if q.dtype == INT8:
        return q, zero
    if q.dtype != UINT8:
        ctx.fail(f"TOSA multiplies 8-bit integers, not {q.dtype}")
    flipped = ctx.elementwise("bitwise_xor", q, FLIP)
    return ctx.reinterpret(flipped, INT8), ctx.sub(zero, FLIP)


def from_int8(ctx: LoweringContext, q: Tensor, dtype: np.dtype) -> Tensor:
    """The inverse of `as_int8`, for a zero point that was moved already."""
    return ctx.reinterpret(ctx.elementwise("bitwise_xor", q, -FLIP), UINT8) if dtype == UINT8 else q


def requantize(
    ctx: LoweringContext,
    sums: Tensor,
    scale: Tensor,
    zero: Tensor,
    *,
    rounds_last: bool = False,
    exact: bool = True,
) -> Tensor:
    """round(i32 sums * scale) + zero, saturated to the dtype of the zero point; `rounds_last`: zero added before.

    `scale` (f32) is one number, or has the rank of the sums and one number for each index of their last axis. With a
    constant scale and zero point: `tosa.rescale`. It computes the exact product and rounds ties to even, where
    onnxruntime rounds the product to f32 first; a result is one step off where that rounding meets a tie. Sums that
    are not `exact` have no true ties.
    """
    factors = None if scale.array is None else scale.array.astype(np.float64).reshape(-1)
    offset = one_value(zero)
    if factors is None or offset is None or not _rescalable(factors, scale, sums):
        return _requantize_in_floats(ctx, sums, scale, zero, rounds_last)
    moved = offset - FLIP if zero.dtype == UINT8 else offset
    factors = factors[:1] if (factors == factors[0]).all() else factors
    ties = None if not exact else int(rounds_last and offset % 2)
    return from_int8(ctx, rescale(ctx, sums, factors, moved, ties), zero.dtype)


def _requantize_in_floats(
    ctx: LoweringContext, sums: Tensor, scale: Tensor, zero: Tensor, rounds_last: bool
) -> Tensor:
    low, high = limits(zero.dtype)
    span = float(2 * (high - low + 1))
    scaled = ctx.clamp(ctx.mul(ctx.cast(sums, FLOAT32), scale), -span, span)
    if rounds_last:
        return to_quantized(ctx, ctx.add(scaled, ctx.cast(zero, FLOAT32)), None, zero.dtype)
    return to_quantized(ctx, scaled, zero, zero.dtype)


def _rescalable(factors: np.ndarray, scale: Tensor, sums: Tensor) -> bool:
    """Factors that `tosa.rescale` takes: one or one a channel, with a shift from 2 to 62."""
    by_channel = scale.rank == sums.rank and scale.shape[-1:] == sums.shape[-1:] == (scale.size,)
    in_range = (factors > 2.0**-31).all() and (factors < 2.0**29).all()
    return bool((scale.size == 1 or by_channel) and in_range)


def rescale(ctx: LoweringContext, sums: Tensor, factors: np.ndarray, zero: int, ties: int | None) -> Tensor:
    """round(i32 sums * factors) + zero as int8; ties go to even (0), odd (1) or up (None).

    `factors` (f64, positive) is one number or one for each index of the last axis.
    """
    mantissa, exponent = np.frexp(factors)
    multiplier = np.round(mantissa * 2**31).astype(np.int64)
    carried = multiplier == 2**31
    multiplier, exponent = np.where(carried, 2**30, multiplier), exponent + carried
    return ctx.emit(
        "rescale",
        [
            sums if ties is None else _ties_lowered(ctx, sums, multiplier, 31 - exponent, ties),
            ctx.constant(multiplier.astype(np.int32)),
            ctx.constant((31 - exponent).astype(np.int8)),
            ctx.constant(np.zeros(1, np.int32)),
            ctx.constant(np.full(1, zero, np.int8)),
        ],
        sums.shape,
        INT8,
        scale32=True,
        rounding_mode=ir.Attribute.parse("#tosa.rounding_mode<SINGLE_ROUND>"),
        per_channel=len(factors) > 1,
        input_unsigned=False,
        output_unsigned=False,
    )


def _ties_lowered(
    ctx: LoweringContext, sums: Tensor, multiplier: np.ndarray, shift: np.ndarray, parity: int
) -> Tensor:
    """Sums less one where `tosa.rescale` would round a tie up to a number of the other parity; factors up to 1.

    With multiplier * 2^-shift = m * 2^-s and m odd, the sums that give ties are u * 2^(s-1) with u odd, and the
    number below is even exactly where u * m = 1 modulo 4. Few scales have such sums where the result
    is not saturated: m / 2 is the smallest tie.
    """
    trailing = np.array([(int(m) & -int(m)).bit_length() - 1 for m in multiplier])
    odd, bits = multiplier >> trailing, shift - trailing
    possible = (bits >= 1) & (bits < _SUM_BITS - 1) & (odd <= 1 << np.maximum(bits, 0)) & (odd < _LARGEST_TIE)
    if not possible.any():
        return sums
    bits = np.where(possible, bits, 1)
    mask = np.where(possible, (1 << bits + 1) - 1, 0).astype(np.int32)
    tie = np.where(possible, ((-odd if parity else odd) & 3) << bits - 1, 1).astype(np.int32)
    low_bits = ctx.elementwise("bitwise_and", sums, ctx.constant(mask))
    return ctx.sub(sums, ctx.cast(ctx.equal(low_bits, ctx.constant(tie)), INT32))
