"""The end of integer sums that become 8 bits: up to four vectors of i32 lanes are rescaled and packed at once.

TOSA's RESCALE is ((x * multiplier + 2**(shift - 1)) >> shift) + zero point, saturated. With f = shift - 32, from 1
to 7, and t the high word of x * multiplier, that is (t + 2**(f - 1)) >> f, since the low word never carries. As i16,
saturated, t still holds more than 8 bits and a zero point can tell apart, and `i16x8.q15mulr_sat_s` by 2**(15 - f)
is the rounding shift, for each lane by its own f. Double rounding adds 2**30 with the sign of x to the product before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.wasm.function import Function
from tosaic.wasm.lanes import Push
from tosaic.wasm.math import splat_i32

REQUANTIZE = "requantize"
"""Op of an expression's last node that is finished here: (value, multiplier, factor), its attribute a `Packing`."""

MOST_VECTORS = 4
"""Vectors of lanes whose bytes fill one vector."""

_ZERO = bytes(16)

Step = tuple[str, int]
"""An operator on packed bytes, and its second operand, the same for all of them."""


@dataclass(frozen=True)
class Packing:
    """From scaled sums to bytes: plus the zero point, saturated (as unsigned numbers or not), then the steps.

    `away`, a power of two or 0, is added to each product with the sign of the sum.
    """

    zero_point: int
    is_unsigned: bool
    steps: tuple[Step, ...]
    away: int = 0


def push_bytes(
    f: Function, packing: Packing, sums: Sequence[Push], multipliers: Sequence[Push], factors: Sequence[Push]
) -> None:
    """Push the bytes of one to four vectors of i32 sums, from the low end on.

    `multipliers` are i32 lanes, one vector for each vector of sums; `factors` i16 lanes, one for each two of them.
    """
    for first, factor in zip(range(0, len(sums), 2), factors, strict=True):
        pair = slice(first, first + 2)
        _push_shorts(f, packing, sums[pair], multipliers[pair], factor)
    if len(factors) == 1:
        f.v128(_ZERO)
    f.op("i8x16.narrow_i16x8_u" if packing.is_unsigned else "i8x16.narrow_i16x8_s")
    for operator, operand in packing.steps:
        f.v128(bytes([operand & 0xFF]) * 16)
        f.op(operator)


def _push_shorts(
    f: Function, packing: Packing, sums: Sequence[Push], multipliers: Sequence[Push], factor: Push
) -> None:
    """Push one or two vectors of sums as i16 lanes, scaled and moved by the zero point."""
    x = f.local("v128")
    for push_sum, push_multiplier in zip(sums, multipliers, strict=True):
        push_sum()
        f.set(x) if packing.away else f.tee(x)
        away = _away_from_zero(f, x, packing.away) if packing.away else None
        for half in ("low", "high"):
            if half == "high" or packing.away:
                f.get(x)
            push_multiplier()
            f.op(f"i64x2.extmul_{half}_i32x4_s")
            if away is not None:
                f.get(away)
                f.op(f"i64x2.extend_{half}_i32x4_s")
                f.op("i64x2.add")
        if away is not None:
            f.release(away)
        f.op("i16x8.narrow_i32x4_s")  # the high words end up in the odd lanes
    f.release(x)
    if len(sums) == 1:
        f.v128(_ZERO)
    f.shuffle([4 * word + byte for word in range(8) for byte in (2, 3)])
    factor()
    f.op("i16x8.q15mulr_sat_s")
    if packing.zero_point:
        f.v128(packing.zero_point.to_bytes(2, "little", signed=True) * 8)
        f.op("i16x8.add")


def _away_from_zero(f: Function, x: int, amount: int) -> int:
    """A local with the amount in each lane, negative where x is."""
    away = f.local("v128")
    f.get(x)
    f.i32(31)
    f.op("i32x4.shr_s")
    splat_i32(f, -2 * amount)
    f.op("v128.and")
    splat_i32(f, amount)
    f.op("i32x4.add")
    f.set(away)
    return away
