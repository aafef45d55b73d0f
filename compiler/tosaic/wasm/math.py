"""Elementary functions on four f32 lanes, from + - * / and integer operations only.

Core SIMD without relaxed operators gives the same bits on every engine. Each function takes its argument on the
operand stack and leaves its result there; errors are below 2 units in the last place of the exact value (tanh and
sigmoid: 2.5) for all arguments, subnormal numbers included, but that sigmoid may be 0 below 2**-126. Infinities,
zeros and NaN follow C's `<math.h>` (IEEE 754-2019, 9.2).

The polynomials are minimax fits (iteratively reweighted least squares in f64) on the reduced ranges given with them.

The price list shapes the code: a Horner step costs 6, a division 10, pmin/pmax 1 (min/max 4), shifts 2.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from tosaic.wasm.function import Function

_LN2_HIGH = struct.unpack("<f", bytes([0x00, 0x72, 0x31, 0x3F]))[0]
"""ln 2 rounded to 15 bits: products with an exponent are exact."""
_LN2_LOW = math.log(2) - _LN2_HIGH
_ROUNDING = 1.5 * 2.0**23
"""Adding it rounds an f32 to an integer, which then stands in the low bits of the sum."""
_ROUNDING_F64 = 1.5 * 2.0**52
_EXPONENT_BIAS = 127 << 23
_INFINITY_BITS = 0x7F800000
_SQRT_HALF_BITS = struct.unpack("<i", struct.pack("<f", math.sqrt(0.5)))[0]

# e**r = 1 + r + r**2 * q(r), |r| <= 0.35
_EXP = (0.4999999305026419, 0.16666514786746792, 0.04166845687708771, 0.00836941925976265,
        0.0013813140346078641)  # fmt: skip
# ln(1 + f) = 2s + s**3 * r(s**2), s = f / (2 + f), 1 + f from sqrt(1/2) to sqrt(2)
_LOG = (0.6666677974746159, 0.3997708131656901, 0.2988514391142109)
# -ln(1 - erf t) = t + t * q(t), 0 <= t <= 4; erf rounds to 1 from there on
_ERF = (0.1283791719986889, 0.6366193716791468, 0.10277790814126499, -0.019153319290138054,
        -0.0001599636352984735, 0.0016666240449143821, -0.0006326284737361862, 0.00011758568549086198,
        -9.250316685263988e-06)  # fmt: skip
_ERF_RANGE = 4.0
# sin r = r + r**3 * s(r**2), cos r = 1 - r**2 / 2 + r**4 * c(r**2), |r| <= pi / 4
_SIN = (-0.1666665458958998, 0.008332155034704412, -0.0001951408301842482)
_COS = (0.04166664626799386, -0.0013887337054920026, 2.4434843233335564e-05)
# log2 m = s * l(s**2), s = (m - 1) / (m + 1), m from sqrt(1/2) to sqrt(2); in f64
_LOG2 = (2.8853900817778446, 0.9617966941237768, 0.5770779391187865, 0.41220960039635024, 0.3198906729409915,
         0.28312466448776613)  # fmt: skip
# 2**r, |r| <= 1/2; in f64
_EXP2 = (0.9999999999616827, 0.6931471807284616, 0.24022651198154968, 0.055504103534007254, 0.009618027253941133,
         0.0013333922602003093, 0.00015469291069081847, 1.5201912724341035e-05)  # fmt: skip


def splat_f32(f: Function, value: float) -> None:
    """Push four lanes of an f32 constant."""
    f.v128(struct.pack("<f", value) * 4)


def splat_i32(f: Function, value: int) -> None:
    """Push four lanes of an i32 constant; values from -2**31 to 2**32 - 1."""
    f.v128(struct.pack("<I", value & 0xFFFFFFFF) * 4)


def splat_i64(f: Function, value: int) -> None:
    """Push two lanes of an i64 constant."""
    f.v128(struct.pack("<Q", value & 0xFFFFFFFFFFFFFFFF) * 2)


def splat_f64(f: Function, value: float) -> None:
    f.v128(struct.pack("<d", value) * 2)


def exp(f: Function) -> None:
    """e**x."""
    x = f.local("v128")
    _clamp(f, -104.0, 89.0)  # e**-104 rounds to 0, e**89 overflows
    f.set(x)
    n, r = _reduce_by_ln2(f, x)
    _exp_minus_one_reduced(f, r)
    splat_f32(f, 1.0)
    f.op("f32x4.add")
    f.release(r)
    # 2**n in two factors, so that n may leave the range of normal numbers: a = n // 2, b = n - a.
    half = f.local("v128")
    f.get(n)
    f.i32(23)
    f.op("i32x4.shl")
    f.tee(n)
    f.i32(1)
    f.op("i32x4.shr_s")
    splat_i32(f, 0xFF800000)
    f.op("v128.and")
    f.tee(half)
    splat_i32(f, _EXPONENT_BIAS)
    f.op("i32x4.add")
    f.op("f32x4.mul")
    f.get(n)
    f.get(half)
    f.op("i32x4.sub")
    splat_i32(f, _EXPONENT_BIAS)
    f.op("i32x4.add")
    f.op("f32x4.mul")
    f.release(x, n, half)


def log(f: Function) -> None:
    """Natural logarithm; -inf at 0, NaN below."""
    x, bits, exponent, part, s, half_square = (f.local("v128") for _ in range(6))
    f.tee(x)
    # Subnormal numbers are scaled up by 2**23.
    splat_f32(f, 2.0**23)
    f.op("f32x4.mul")
    f.get(x)
    f.get(x)
    splat_i32(f, 0x00800000)
    f.op("i32x4.lt_s")
    f.tee(exponent)  # -1 where subnormal
    f.op("v128.bitselect")
    f.tee(bits)
    splat_i32(f, _SQRT_HALF_BITS)
    f.op("i32x4.sub")
    splat_i32(f, 0xFF800000)
    f.op("v128.and")
    f.tee(part)  # exponent of two, still at its place in the bits
    f.i32(23)
    f.op("i32x4.shr_s")
    f.get(exponent)
    splat_i32(f, 23)
    f.op("v128.and")
    f.op("i32x4.sub")
    f.op("f32x4.convert_i32x4_s")
    f.set(exponent)
    f.get(bits)
    f.get(part)
    f.op("i32x4.sub")
    splat_f32(f, 1.0)
    f.op("f32x4.sub")
    f.tee(part)  # the mantissa less 1
    f.get(part)
    splat_f32(f, 2.0)
    f.op("f32x4.add")
    f.op("f32x4.div")
    f.set(s)
    f.get(part)
    f.get(part)
    splat_f32(f, 0.5)
    f.op("f32x4.mul")
    f.op("f32x4.mul")
    f.set(half_square)
    # s * (f**2 / 2 + R) + e * ln2_low - f**2 / 2 + f + e * ln2_high
    f.get(s)
    f.get(s)
    f.get(s)
    f.op("f32x4.mul")
    f.tee(bits)
    _polynomial(f, bits, _LOG)
    f.op("f32x4.mul")
    f.get(half_square)
    f.op("f32x4.add")
    f.op("f32x4.mul")
    f.get(exponent)
    splat_f32(f, _LN2_LOW)
    f.op("f32x4.mul")
    f.op("f32x4.add")
    f.get(half_square)
    f.op("f32x4.sub")
    f.get(part)
    f.op("f32x4.add")
    f.get(exponent)
    splat_f32(f, _LN2_HIGH)
    f.op("f32x4.mul")
    f.op("f32x4.add")
    # Everything but finite numbers above 0: x itself, made NaN if negative and -inf if zero.
    f.get(x)
    f.get(x)
    splat_f32(f, 0.0)
    f.op("f32x4.lt")
    f.op("v128.or")
    f.get(x)
    splat_f32(f, 0.0)
    f.op("f32x4.eq")
    splat_f32(f, -math.inf)
    f.op("v128.and")
    f.op("f32x4.add")
    f.get(x)
    splat_i32(f, 1)
    f.op("i32x4.sub")
    splat_i32(f, _INFINITY_BITS - 1)
    f.op("i32x4.lt_u")
    f.op("v128.bitselect")
    f.release(x, bits, exponent, part, s, half_square)


def tanh(f: Function) -> None:
    """Hyperbolic tangent: (e**2|x| - 1) / (e**2|x| + 1) with the sign of x."""
    x = f.local("v128")
    f.tee(x)
    f.get(x)
    f.op("f32x4.abs")
    splat_f32(f, 10.0)  # tanh rounds to 1 from 9.01 on
    f.op("f32x4.pmin")
    splat_f32(f, 2.0)
    f.op("f32x4.mul")
    _exp_minus_one(f)
    e = f.local("v128")
    f.tee(e)
    f.get(e)
    splat_f32(f, 2.0)
    f.op("f32x4.add")
    f.op("f32x4.div")
    f.release(e)
    _copy_sign(f)
    f.release(x)


def sigmoid(f: Function) -> None:
    """1 / (1 + e**-x); results below 2**-126 are 0.

    With -x = n ln 2 - r and e**r = (e + o) / (e - o): (e + o) / ((e + o) + 2**n (e - o)).
    """
    x, total = f.local("v128"), f.local("v128")
    _clamp(f, -89.0, 88.0)  # 2**n from 0 to infinity
    f.set(x)
    n, r = _reduce_by_ln2(f, x, -1.0)
    odd, even = _half_tangent(f, r)
    f.get(even)
    f.get(odd)
    f.op("f32x4.add")
    f.tee(total)
    f.get(even)
    f.get(odd)
    f.op("f32x4.sub")
    _power_of_two(f, n)
    f.op("f32x4.mul")
    f.get(total)
    f.op("f32x4.add")
    f.op("f32x4.div")
    f.release(x, total, n, r, odd, even)


def erf(f: Function) -> None:
    """Error function: 1 - e**-(t + t q(t)) at t = |x|, with the sign of x."""
    x, t = f.local("v128"), f.local("v128")
    f.tee(x)
    f.get(x)
    f.op("f32x4.abs")
    splat_f32(f, _ERF_RANGE)
    f.op("f32x4.pmin")
    f.tee(t)
    _polynomial(f, t, [-coefficient for coefficient in _ERF])
    f.op("f32x4.mul")
    f.get(t)
    f.op("f32x4.sub")
    _exp_minus_one(f)
    f.op("f32x4.neg")
    f.release(t)
    _copy_sign(f)
    f.release(x)


def sin(f: Function) -> None:
    """Sine of radians, NaN beyond 2**27 in magnitude (the reduction by pi / 2 is exact up to there)."""
    _sine(f, 0)


def cos(f: Function) -> None:
    """Cosine of radians, NaN beyond 2**27 in magnitude."""
    _sine(f, 1)


def rsqrt(f: Function) -> None:
    """1 / sqrt(x)."""
    x = f.local("v128")
    f.set(x)
    splat_f32(f, 1.0)
    f.get(x)
    f.op("f32x4.sqrt")
    f.op("f32x4.div")
    f.release(x)


def pow(f: Function, lanes: int = 4) -> None:
    """x**y with x below y on the stack: 2**(y * log2 |x|) in f64, then C's special cases."""
    x, y, power = (f.local("v128") for _ in range(3))
    f.set(y)
    f.set(x)
    _power_half(f, x, y, high=False)
    if lanes > 2:
        _power_half(f, x, y, high=True)
        _join_low_halves(f)
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


def _reduce_by_ln2(f: Function, x: int, factor: float = 1.0) -> tuple[int, int]:
    """Locals (n, r) with x = n u + r and |r| <= |u| / 2, where u = ln 2 times a power of two (or its negative).

    The integer n stands in the low bits of its lanes.
    """
    n, r = f.local("v128"), f.local("v128")
    f.get(x)
    splat_f32(f, 1 / (factor * math.log(2)))
    f.op("f32x4.mul")
    splat_f32(f, _ROUNDING)
    f.op("f32x4.add")
    f.set(n)
    f.get(x)
    f.get(n)
    splat_f32(f, _ROUNDING)
    f.op("f32x4.sub")
    f.tee(r)
    splat_f32(f, factor * _LN2_HIGH)
    f.op("f32x4.mul")
    f.op("f32x4.sub")
    f.get(r)
    splat_f32(f, factor * _LN2_LOW)
    f.op("f32x4.mul")
    f.op("f32x4.sub")
    f.set(r)
    return n, r


def _half_tangent(f: Function, r: int) -> tuple[int, int]:
    """Locals (o, e) with tanh(r / 2) = o / e, so e**r = (e + o) / (e - o), for |r| <= 0.35.

    A Pade approximant: r (1 / 2 + r**2 / 120) / (1 + r**2 / 10), off by 6e-9 at most.
    """
    odd, even, square = (f.local("v128") for _ in range(3))
    f.get(r)
    f.get(r)
    f.op("f32x4.mul")
    f.tee(square)
    splat_f32(f, 1 / 120)
    f.op("f32x4.mul")
    splat_f32(f, 0.5)
    f.op("f32x4.add")
    f.get(r)
    f.op("f32x4.mul")
    f.set(odd)
    f.get(square)
    splat_f32(f, 0.1)
    f.op("f32x4.mul")
    splat_f32(f, 1.0)
    f.op("f32x4.add")
    f.set(even)
    f.release(square)
    return odd, even


def _power_of_two(f: Function, n: int) -> None:
    """Push 2**n for n from -127 (0) to 128 (infinity)."""
    f.get(n)
    f.i32(23)
    f.op("i32x4.shl")
    splat_i32(f, _EXPONENT_BIAS)
    f.op("i32x4.add")


def _clamp(f: Function, low: float, high: float) -> None:
    """Into [low, high]; NaN stays."""
    splat_f32(f, high)
    f.op("f32x4.pmin")
    splat_f32(f, low)
    f.op("f32x4.pmax")


def _exp_minus_one_reduced(f: Function, r: int) -> None:
    """Push e**r - 1 = r + r**2 q(r)."""
    _polynomial(f, r, _EXP)
    f.get(r)
    f.get(r)
    f.op("f32x4.mul")
    f.op("f32x4.mul")
    f.get(r)
    f.op("f32x4.add")


def _exp_minus_one(f: Function) -> None:
    """e**x - 1 for |x| <= 80: 2**n (e**r - 1) + (2**n - 1)."""
    x, scale = f.local("v128"), f.local("v128")
    f.set(x)
    n, r = _reduce_by_ln2(f, x)
    _power_of_two(f, n)
    f.tee(scale)
    _exp_minus_one_reduced(f, r)
    f.op("f32x4.mul")
    f.get(scale)
    splat_f32(f, 1.0)
    f.op("f32x4.sub")
    f.op("f32x4.add")
    f.release(x, scale, n, r)


def _sine(f: Function, quarter_turns: int) -> None:
    """sin(x + quarter_turns * pi / 2)."""
    x, r, z, turns = (f.local("v128") for _ in range(4))
    f.set(x)
    _reduce_by_half_pi(f, x, r, turns)
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
    _polynomial(f, z, _COS)
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
    _polynomial(f, z, _SIN)
    f.op("f32x4.mul")
    f.get(r)
    f.op("f32x4.add")
    # Odd quarters take the cosine; quarters 2 and 3 the other sign.
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
    f.op("v128.xor")
    # NaN out of range (and for NaN).
    f.get(x)
    f.op("f32x4.abs")
    splat_f32(f, 2.0**27)
    f.op("f32x4.le")
    f.op("v128.not")
    f.op("v128.or")
    f.release(x, r, z, turns)


# pi / 2 in three parts; the first two have 26 bits, so their products with n up to 2**27 are exact in f64
_HALF_PI_PARTS = (
    float.fromhex("0x1.921fb5p+0"),
    float.fromhex("0x1.110b460p-26"),
    float.fromhex("0x1.1a62633145c07p-54"),
)


def _reduce_by_half_pi(f: Function, x: int, r: int, turns: int) -> None:
    """Set locals: r = x - n pi / 2 with |r| <= pi / 4, turns = n (i32)."""
    wide, n = f.local("v128"), f.local("v128")
    halves = []
    for high in (False, True):
        _promote_half(f, x, high)
        f.tee(wide)
        f.get(wide)
        splat_f64(f, 2 / math.pi)
        f.op("f64x2.mul")
        f.op("f64x2.nearest")
        f.set(n)
        for part in _HALF_PI_PARTS:
            f.get(n)
            splat_f64(f, part)
            f.op("f64x2.mul")
            f.op("f64x2.sub")
        f.op("f32x4.demote_f64x2_zero")
        rest, count = f.local("v128"), f.local("v128")
        f.set(rest)
        f.get(n)
        f.op("i32x4.trunc_sat_f64x2_s_zero")
        f.set(count)
        halves.append((rest, count))
    for target, index in ((r, 0), (turns, 1)):
        for half in halves:
            f.get(half[index])
        _join_low_halves(f)
        f.set(target)
    f.release(wide, n, *(local for half in halves for local in half))


def _power_half(f: Function, x: int, y: int, high: bool) -> None:
    """Push |x|**y of two lanes, in the low lanes."""
    bits, exponent, part, z = (f.local("v128") for _ in range(4))
    _promote_half(f, x, high)
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
    _polynomial(f, z, _LOG2, "f64x2")
    f.op("f64x2.mul")
    f.op("f64x2.add")
    # log2 of 0, infinity and NaN
    _log2_special(f, bits)
    _promote_half(f, y, high)
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
    _polynomial(f, z, _EXP2, "f64x2")
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


def _polynomial(f: Function, x: int, coefficients: Sequence[float], shape: str = "f32x4") -> None:
    """Push c0 + x (c1 + x (c2 + ...))."""
    splat = splat_f32 if shape == "f32x4" else splat_f64
    splat(f, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        f.get(x)
        f.op(f"{shape}.mul")
        splat(f, coefficient)
        f.op(f"{shape}.add")


def _copy_sign(f: Function) -> None:
    """(sign, magnitude) -> magnitude with that sign."""
    splat_i32(f, 0x80000000)
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


def _promote_half(f: Function, x: int, high: bool) -> None:
    """Push two f32 lanes as f64."""
    f.get(x)
    if high:
        f.get(x)
        f.shuffle([*range(8, 16), *range(8, 16)])
    f.op("f64x2.promote_low_f32x4")


def _join_low_halves(f: Function) -> None:
    """(a, b) -> the low two lanes of a, then those of b."""
    f.shuffle([*range(8), *range(16, 24)])
