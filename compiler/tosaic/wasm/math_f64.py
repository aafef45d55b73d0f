"""Elementary functions on four f32 lanes that need more than f32 on the way: sine, cosine, power.

The rules are those of `math.py`; errors are below 2 units in the last place (power: 1).
"""

from __future__ import annotations

import math
import struct

from tosaic.wasm.function import Function
from tosaic.wasm.math import polynomial, splat_f32, splat_f64, splat_i32, splat_i64

_ROUNDING_F64 = 1.5 * 2.0**52


# sin r = r + r**3 * s(r**2), cos r = 1 - r**2 / 2 + r**4 * c(r**2), |r| <= pi / 4
_SIN = (-0.1666665458958998, 0.008332155034704412, -0.0001951408301842482)


_COS = (0.04166664626799386, -0.0013887337054920026, 2.4434843233335564e-05)


# log2 m = s * l(s**2), s = (m - 1) / (m + 1), m from sqrt(1/2) to sqrt(2); in f64
_LOG2 = (2.8853900817778446, 0.9617966941237768, 0.5770779391187865, 0.41220960039635024, 0.3198906729409915,
         0.28312466448776613)  # fmt: skip


# 2**r, |r| <= 1/2; in f64
_EXP2 = (0.9999999999616827, 0.6931471807284616, 0.24022651198154968, 0.055504103534007254, 0.009618027253941133,
         0.0013333922602003093, 0.00015469291069081847, 1.5201912724341035e-05)  # fmt: skip


def sin(f: Function) -> None:
    """Sine of radians."""
    _sine(f, 0)


def cos(f: Function) -> None:
    """Cosine of radians."""
    _sine(f, 1)


def pow(f: Function, lanes: int = 4) -> None:
    """x**y with x below y on the stack: 2**(y * log2 |x|) in f64, then C's special cases."""
    x, y, power = (f.local("v128") for _ in range(3))
    f.set(y)
    f.set(x)
    _power_half(f, x, y, high=False)
    if lanes > 2:
        _power_half(f, x, y, high=True)
        join_low_halves(f)
    f.set(power)
    # 1 where y = 0 or x = 1 or |x| = 1 and y is infinite.
    splat_f32(f, 1.0)
    f.get(power)
    _compare(f, "f32x4.eq", y, 0.0)
    _compare(f, "f32x4.eq", x, 1.0)
    f.op("v128.or")
    for operand, magnitude in ((x, 1.0), (y, math.inf)):
        f.get(operand)
        f.op("f32x4.abs")
        splat_f32(f, magnitude)
        f.op("f32x4.eq")
    f.op("v128.and")
    f.op("v128.or")
    f.op("v128.bitselect")
    # The sign of x where y is odd; NaN where x is negative and finite and y is no integer.
    fraction = f.local("v128")
    f.get(y)
    splat_f32(f, 0.5)
    f.op("f32x4.mul")
    f.tee(fraction)
    f.get(fraction)
    f.op("f32x4.nearest")
    f.op("f32x4.ne")
    _is_integer(f, y)
    f.op("v128.and")
    f.get(x)
    f.op("v128.and")
    splat_i32(f, 0x80000000)
    f.op("v128.and")
    f.op("v128.or")
    _compare(f, "f32x4.lt", x, 0.0)
    _compare(f, "f32x4.ne", x, -math.inf)
    f.op("v128.and")
    _is_integer(f, y)
    f.op("v128.andnot")
    f.op("v128.or")
    f.release(x, y, power, fraction)


def _sine(f: Function, quarter_turns: int) -> None:
    """sin(x + quarter_turns * pi / 2)."""
    x, magnitude, r, z, turns = (f.local("v128") for _ in range(5))
    f.tee(x)
    f.op("f32x4.abs")
    f.set(magnitude)
    _reduce_by_half_pi(f, magnitude, r, turns)
    if quarter_turns:
        f.get(turns)
        splat_i32(f, quarter_turns)
        f.op("i32x4.add")
        f.set(turns)
    # cos r = 1 - r**2 / 2 + r**4 c(r**2)
    f.get(r)
    f.get(r)
    f.op("f32x4.mul")
    f.tee(z)
    f.get(z)
    f.op("f32x4.mul")
    polynomial(f, z, _COS)
    f.op("f32x4.mul")
    f.get(z)
    splat_f32(f, 0.5)
    f.op("f32x4.mul")
    f.op("f32x4.sub")
    splat_f32(f, 1.0)
    f.op("f32x4.add")
    # sin r = r + r**3 s(r**2)
    f.get(r)
    f.get(z)
    f.op("f32x4.mul")
    polynomial(f, z, _SIN)
    f.op("f32x4.mul")
    f.get(r)
    f.op("f32x4.add")
    # Odd quarters take the cosine; quarters 2 and 3 the other sign, and the sine that of its argument.
    f.get(turns)
    f.i32(31)
    f.op("i32x4.shl")
    f.i32(31)
    f.op("i32x4.shr_s")
    f.op("v128.bitselect")
    f.get(turns)
    splat_i32(f, 2)
    f.op("v128.and")
    f.i32(30)
    f.op("i32x4.shl")
    if not quarter_turns:
        f.get(x)
        splat_i32(f, 0x80000000)
        f.op("v128.and")
        f.op("v128.xor")
    f.op("v128.xor")
    # NaN where infinite or NaN.
    _compare(f, "f32x4.lt", magnitude, math.inf)
    f.op("v128.not")
    f.op("v128.or")
    f.release(x, magnitude, r, z, turns)


_TURN_BITS = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041
"""1 / (2 pi) with 194 bits behind the binary point: enough for the largest f32."""
_SMALL = 0.5
_SMALL_STEP = 15
_STEPS = 17
"""An f32 is m * 2**(8 q - 150) with m below 2**31; q is from 15 on where it is not small, and 31 at most."""


def _reduce_by_half_pi(f: Function, x: int, r: int, turns: int) -> None:
    """Set locals: r = x - n pi / 2 with |r| <= pi / 4, turns = n modulo 4 (i32), for x >= 0.

    In integers (Payne and Hanek, 1983): of m * 2**(8 q - 150) / (2 pi) only the 96 bits of 2**(8 q - 150) / (2 pi)
    behind the binary point matter for its fraction, which is right to 2**-65 of a turn. The multiple of pi / 2 that
    is nearest to an f32 is 2**-32 of a turn away.
    """
    mantissa, high, low = (f.local("v128") for _ in range(3))
    f.get(x)
    splat_i32(f, 0x03FFFFFF)
    f.op("v128.and")
    splat_f32(f, 2.0**23)
    f.op("i32x4.add")
    f.op("i32x4.trunc_sat_f32x4_u")
    f.set(mantissa)
    fractions = _fraction_of_turn(f, x, mantissa)
    for words, target in ((range(4, 8), high), (range(4), low)):
        for fraction in fractions:
            f.get(fraction)
        f.shuffle([lane + byte for lane in (0, 8, 16, 24) for byte in words])
        f.set(target)
    f.get(high)
    splat_i32(f, 1 << 29)
    f.op("i32x4.add")
    f.i32(30)
    f.op("i32x4.shr_u")
    _compare(f, "f32x4.ge", x, _SMALL)
    f.op("v128.and")
    f.set(turns)
    f.get(high)
    f.i32(2)
    f.op("i32x4.shl")
    f.set(high)
    f.get(x)
    for upper in (False, True):
        _quarter_in_radians(f, high, low, upper)
    join_low_halves(f)
    _compare(f, "f32x4.lt", x, _SMALL)
    f.op("v128.bitselect")
    f.set(r)
    f.release(mantissa, high, low, *fractions)


def _fraction_of_turn(f: Function, x: int, mantissa: int) -> tuple[int, int]:
    """Locals (i64x2) with the fractions of a turn that the low and the high two lanes of x are, in units of 2**-64."""
    index, beyond, first, second, third = (f.local("v128") for _ in range(5))
    f.get(x)
    f.i32(26)
    f.op("i32x4.shr_u")
    f.v128(bytes(lane for lane in (0, 4, 8, 12) for _ in range(4)))
    f.op("i8x16.swizzle")
    f.v128(bytes(3 - byte - _SMALL_STEP & 0xFF for byte in range(4)) * 4)
    f.op("i8x16.add")
    f.tee(index)
    f.v128(bytes([16] * 16))
    f.op("v128.xor")
    f.set(beyond)
    for limb, target in enumerate((first, second, third)):
        table = _limbs(limb)
        for part, selector in ((table[:16], index), (table[16:], beyond)):
            f.v128(part)
            f.get(selector)
            f.op("i8x16.swizzle")
        f.op("v128.or")
        if limb == 0:
            f.get(mantissa)
            f.op("i32x4.mul")
        f.set(target)
    fractions = f.local("v128"), f.local("v128")
    for half, fraction, lanes in zip(("low", "high"), fractions, (range(8), range(8, 16))):
        f.get(mantissa)
        f.get(third)
        f.op(f"i64x2.extmul_{half}_i32x4_u")
        f.i32(32)
        f.op("i64x2.shr_u")
        f.get(mantissa)
        f.get(second)
        f.op(f"i64x2.extmul_{half}_i32x4_u")
        f.op("i64x2.add")
        f.get(first)
        f.v128(bytes(16))
        f.shuffle([16, 17, 18, 19, *lanes[:4], 16, 17, 18, 19, *lanes[4:]])
        f.op("i64x2.add")
        f.set(fraction)
    f.release(index, beyond, first, second, third)
    return fractions


def _limbs(limb: int) -> bytes:
    """Bytes of 1 / (2 pi), 32 of them, of which the four from q - 15 on are 32 of the 96 bits, as `limb` says."""
    digits = _TURN_BITS.to_bytes(_STEPS + 11, "big")
    return digits[4 * limb :][: _STEPS + 3].ljust(32, b"\0")


def _quarter_in_radians(f: Function, high: int, low: int, upper: bool) -> None:
    """Push two lanes of (high * 2**32 + 4 low) * 2**-64 * pi / 2 as f32, high with sign, in the low lanes."""
    for words, kind, unit in ((high, "s", 2.0**-33), (low, "u", 2.0**-63)):
        f.get(words)
        if upper:
            f.get(words)
            f.shuffle([*range(8, 16), *range(8, 16)])
        f.op(f"f64x2.convert_low_i32x4_{kind}")
        splat_f64(f, math.pi * unit)
        f.op("f64x2.mul")
    f.op("f64x2.add")
    f.op("f32x4.demote_f64x2_zero")


def _power_half(f: Function, x: int, y: int, high: bool) -> None:
    """Push |x|**y of two lanes, in the low lanes."""
    bits, exponent, part, z = (f.local("v128") for _ in range(4))
    promote_half(f, x, high)
    f.op("f64x2.abs")
    f.tee(bits)
    # |x| = 2**e m; e as an f64 by the rounding constant, whose low bits take integers
    splat_i64(f, struct.unpack("<q", struct.pack("<d", math.sqrt(0.5)))[0])
    f.op("i64x2.sub")
    f.i32(52)
    f.op("i64x2.shr_s")
    f.tee(exponent)
    splat_i64(f, struct.unpack("<q", struct.pack("<d", _ROUNDING_F64))[0])
    f.op("i64x2.add")
    splat_f64(f, _ROUNDING_F64)
    f.op("f64x2.sub")
    f.get(bits)
    f.get(exponent)
    f.i32(52)
    f.op("i64x2.shl")
    f.op("i64x2.sub")
    f.tee(part)
    splat_f64(f, 1.0)
    f.op("f64x2.sub")
    f.get(part)
    splat_f64(f, 1.0)
    f.op("f64x2.add")
    f.op("f64x2.div")
    f.tee(part)
    f.get(part)
    f.get(part)
    f.op("f64x2.mul")
    f.set(z)
    polynomial(f, z, _LOG2, "f64x2")
    f.op("f64x2.mul")
    f.op("f64x2.add")
    # log2 of 0, infinity and NaN
    _log2_special(f, bits)
    promote_half(f, y, high)
    f.op("f64x2.mul")
    # 2**t; beyond 200 in magnitude an f32 is infinite or 0
    splat_f64(f, 200.0)
    f.op("f64x2.pmin")
    splat_f64(f, -200.0)
    f.op("f64x2.pmax")
    f.tee(part)
    splat_f64(f, _ROUNDING_F64)
    f.op("f64x2.add")
    f.set(exponent)
    f.get(part)
    f.get(exponent)
    splat_f64(f, _ROUNDING_F64)
    f.op("f64x2.sub")
    f.op("f64x2.sub")
    f.set(z)
    polynomial(f, z, _EXP2, "f64x2")
    f.get(exponent)
    f.i32(52)
    f.op("i64x2.shl")
    splat_i64(f, 1023 << 52)
    f.op("i64x2.add")
    f.op("f64x2.mul")
    f.op("f32x4.demote_f64x2_zero")
    f.release(bits, exponent, part, z)


def _log2_special(f: Function, magnitude: int) -> None:
    """Correct log2 on the stack where the magnitude is 0 (-inf), infinite (inf) or NaN (NaN)."""
    f.get(magnitude)
    f.get(magnitude)
    splat_f64(f, 0.0)
    f.op("f64x2.eq")
    splat_f64(f, -math.inf)
    f.op("v128.and")
    f.op("f64x2.add")
    for compare, bound in (("f64x2.gt", 0.0), ("f64x2.lt", math.inf)):
        f.get(magnitude)
        splat_f64(f, bound)
        f.op(compare)
    f.op("v128.and")
    f.op("v128.bitselect")


def _compare(f: Function, operator: str, x: int, constant: float) -> None:
    f.get(x)
    splat_f32(f, constant)
    f.op(operator)


def _is_integer(f: Function, x: int) -> None:
    f.get(x)
    f.get(x)
    f.op("f32x4.nearest")
    f.op("f32x4.eq")


def promote_half(f: Function, x: int, high: bool) -> None:
    """Push two f32 lanes as f64."""
    f.get(x)
    if high:
        f.get(x)
        f.shuffle([*range(8, 16), *range(8, 16)])
    f.op("f64x2.promote_low_f32x4")


def join_low_halves(f: Function) -> None:
    """(a, b) -> the low two lanes of a, then those of b."""
    f.shuffle([*range(8), *range(16, 24)])
