"""Rounding f32 numbers to the floats of 8 and 4 bits, those that TOSA has no type for included.

The kinds that TOSA lacks are held in f32; they are rounded by the casts of a kind with as many bits of mantissa.
The rules for what is out of range are those of ONNX's Cast.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT8, FLOAT32, INT32
from tosaic_passes.onnx_to_tosa.tensor import Tensor

E4M3FN, E5M2 = FLOAT8
FLOAT4 = np.dtype(ml_dtypes.float4_e2m1fn)
E8M0 = np.dtype(ml_dtypes.float8_e8m0fnu)


@dataclass(frozen=True)
class _Kind:
    """A kind of 8-bit float: its greatest number, and what the first number that would be rounded above it gives.

    `twice_below`: numbers below this are rounded as their doubles, which the kind that casts holds with one
    exponent more.
    """

    cast: np.dtype
    greatest: float
    overflows_from: float
    overflow: float
    twice_below: float | None = None


_KINDS = {
    E4M3FN: _Kind(E4M3FN, 448.0, float(np.nextafter(np.float32(464), np.float32(np.inf))), np.nan),
    E5M2: _Kind(E5M2, 57344.0, 61440.0, np.inf),
    np.dtype(ml_dtypes.float8_e4m3fnuz): _Kind(E4M3FN, 240.0, 248.0, np.nan, twice_below=128.0),
    np.dtype(ml_dtypes.float8_e5m2fnuz): _Kind(E5M2, 57344.0, 61440.0, np.nan, twice_below=1.0),
}
SMALL_FLOATS = frozenset((*_KINDS, FLOAT4, E8M0))


def round_to_small_float(
    ctx: LoweringContext, x: Tensor, dtype: np.dtype, *, saturate: bool = True, round_mode: str = "up"
) -> Tensor:
    """f32 numbers rounded to a kind of SMALL_FLOATS, ties to even; as that kind, or in f32 if TOSA has no such type."""
    if dtype == FLOAT4:
        return _round_to_float4(ctx, x)
    if dtype == E8M0:
        return _round_to_power_of_two(ctx, x, saturate, round_mode)
    kind = _KINDS[dtype]
    cut = ctx.clamp(x, -kind.greatest, kind.greatest)
    if not saturate:
        over = _either(ctx, ctx.greater(x, 0), kind.overflow, -kind.overflow)
        cut = ctx.select(ctx.greater_equal(ctx.abs(x), kind.overflows_from), over, cut)
    if kind.twice_below is None:
        return ctx.cast(cut, kind.cast)
    small = ctx.greater(kind.twice_below, ctx.abs(cut))
    doubled = ctx.mul(cut, _either(ctx, small, 2.0, 1.0))
    return ctx.mul(ctx.cast(ctx.cast(doubled, kind.cast), FLOAT32), _either(ctx, small, 0.5, 1.0))


def _either(ctx: LoweringContext, condition: Tensor, on_true: float, on_false: float) -> Tensor:
    return ctx.select(condition, ctx.constant(np.float32(on_true)), on_false)


def _round_to_float4(ctx: LoweringContext, x: Tensor) -> Tensor:
    """Multiples of 0.5 below 2, of 1 below 4, of 2 up to 6; NaN is 0."""
    cut = ctx.select(ctx.equal(x, x), ctx.clamp(x, -6.0, 6.0), 0)
    size = ctx.abs(cut)
    step = ctx.select(ctx.greater(2.0, size), 0.5, _either(ctx, ctx.greater(4.0, size), 1.0, 2.0))
    inverse = ctx.select(ctx.greater(2.0, size), 2.0, _either(ctx, ctx.greater(4.0, size), 1.0, 0.5))
    return ctx.mul(ctx.cast(ctx.cast(ctx.mul(cut, inverse), INT32), FLOAT32), step)


def _round_to_power_of_two(ctx: LoweringContext, x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    if not saturate:
        ctx.fail("float8_e8m0 is rounded with saturation only", "set saturate to 1")
    first_rounded_up = {"up": np.nextafter(np.float32(1), np.float32(2)), "nearest": 1.5, "down": 2.0}
    if round_mode not in first_rounded_up:
        ctx.fail(f"the rounding mode '{round_mode}' is not known")
    power, _, mantissa = split_exponent(ctx, ctx.clamp(x, 2.0**-127, 2.0**127))
    up = ctx.greater_equal(mantissa, float(first_rounded_up[round_mode]))
    return ctx.clamp(ctx.mul(power, _either(ctx, up, 2.0, 1.0)), None, 2.0**127)


def split_exponent(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A power of two, its exponent (i32), and the number from 1 to 2 (exclusive) whose product with it is x.

    x are positive finite f32 numbers.

    TOSA has no operation for it: the exponent is found bit by bit, in exact products with powers of two.
    """
    power, exponent = ctx.constant(np.float32(1)), ctx.constant(np.int32(0))
    for bit in (64, 32, 16, 8, 4, 2, 1):
        large, small = ctx.greater_equal(x, 2.0**bit), ctx.greater(2.0 ** (1 - bit), x)
        x = ctx.mul(x, ctx.select(large, 2.0**-bit, _either(ctx, small, 2.0**bit, 1.0)))
        power = ctx.mul(power, ctx.select(large, 2.0**bit, _either(ctx, small, 2.0**-bit, 1.0)))
        added = ctx.select(large, bit, ctx.select(small, ctx.constant(np.int32(-bit)), 0))
        exponent = ctx.add(exponent, added)
    return power, exponent, x
