"""Elementary functions on four f32 lanes, from + - * / and integer operations only.

Core SIMD without relaxed operators gives the same bits on every engine. Each function takes its argument on the
operand stack and leaves its result there; errors are below 2 units in the last place of the exact value (tanh and
sigmoid: 2.7) for all arguments, subnormal numbers included, but that sigmoid may be 0 below 2**-126. Infinities,
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

_EXPONENT_BIAS = 127 << 23
_RAISED = 64
"""Exponents down to -151 are those of normal numbers when they are raised so far."""
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
    splat_f32(f, 89.0)  # e**89 overflows
    f.op("f32x4.pmin")
    n = _exp_mantissa(f)
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
    f.release(n, half)


def exp_of_no_positive(f: Function) -> None:
    """e**x for x <= 0 or NaN, with the bits of `exp`: the second factor of 2**n is a constant."""
    n = _exp_mantissa(f)
    _power_of_two(f, n, _RAISED)
    f.op("f32x4.mul")
    splat_f32(f, 2.0**-_RAISED)
    f.op("f32x4.mul")
    f.release(n)


def _exp_mantissa(f: Function) -> int:
    """x -> e**r, with the local n, where x = n ln 2 + r."""
    splat_f32(f, -104.0)  # e**-104 rounds to 0
    f.op("f32x4.pmax")
    n, r = _reduce_by_ln2(f)
    _exp_minus_one_reduced(f, r)
    splat_f32(f, 1.0)
    f.op("f32x4.add")
    f.release(r)
    return n


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
    polynomial(f, bits, _LOG)
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
    total = f.local("v128")
    _clamp(f, -89.0, 88.0)  # 2**n from 0 to infinity
    n, r = _reduce_by_ln2(f, -1.0)
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
    f.release(total, n, r, odd, even)


def erf(f: Function) -> None:
    """Error function: 1 - e**-(t + t q(t)) at t = |x|, with the sign of x."""
    x, t = f.local("v128"), f.local("v128")
    f.tee(x)
    f.get(x)
    f.op("f32x4.abs")
    splat_f32(f, _ERF_RANGE)
    f.op("f32x4.pmin")
    f.tee(t)
    polynomial(f, t, [-coefficient for coefficient in _ERF])
    f.op("f32x4.mul")
    f.get(t)
    f.op("f32x4.sub")
    _exp_minus_one(f)
    f.release(t)
    _copy_sign(f)
    f.release(x)


def rsqrt(f: Function) -> None:
    """1 / sqrt(x)."""
    x = f.local("v128")
    f.set(x)
    splat_f32(f, 1.0)
    f.get(x)
    f.op("f32x4.sqrt")
    f.op("f32x4.div")
    f.release(x)


def _reduce_by_ln2(f: Function, factor: float = 1.0, in_two_steps: bool = True) -> tuple[int, int]:
    """x -> locals (n, r) with x = n u + r and |r| <= |u| / 2, where u = ln 2 times a power of two (or its negative).

    The integer n stands in the low bits of its lanes. Without a second step for the low bits of u, r is off by half a
    unit in the last place of x.
    """
    n, r = f.local("v128"), f.local("v128")
    f.tee(r)
    f.get(r)
    splat_f32(f, 1 / (factor * math.log(2)))
    f.op("f32x4.mul")
    splat_f32(f, _ROUNDING)
    f.op("f32x4.add")
    f.tee(n)
    splat_f32(f, _ROUNDING)
    f.op("f32x4.sub")
    f.tee(r)
    splat_f32(f, factor * (_LN2_HIGH if in_two_steps else math.log(2)))
    f.op("f32x4.mul")
    f.op("f32x4.sub")
    if in_two_steps:
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


def _power_of_two(f: Function, n: int, raised: int = 0) -> None:
    """Push 2**(n + raised) for n + raised from -127 (0) to 128 (infinity)."""
    f.get(n)
    f.i32(23)
    f.op("i32x4.shl")
    splat_i32(f, _EXPONENT_BIAS + (raised << 23))
    f.op("i32x4.add")


def _clamp(f: Function, low: float, high: float) -> None:
    """Into [low, high]; NaN stays."""
    splat_f32(f, high)
    f.op("f32x4.pmin")
    splat_f32(f, low)
    f.op("f32x4.pmax")


def _exp_minus_one_reduced(f: Function, r: int) -> None:
    """Push e**r - 1 = r + r**2 q(r)."""
    polynomial(f, r, _EXP)
    f.get(r)
    f.get(r)
    f.op("f32x4.mul")
    f.op("f32x4.mul")
    f.get(r)
    f.op("f32x4.add")


def _exp_minus_one(f: Function) -> None:
    """e**x - 1 for |x| <= 80: 2**n (e**r - 1) + (2**n - 1).

    For callers to whose results e**x, where it is large, or 1 - e**x, where it is small, adds little: one step reduces.
    """
    scale = f.local("v128")
    n, r = _reduce_by_ln2(f, in_two_steps=False)
    _power_of_two(f, n)
    f.tee(scale)
    _exp_minus_one_reduced(f, r)
    f.op("f32x4.mul")
    f.get(scale)
    splat_f32(f, 1.0)
    f.op("f32x4.sub")
    f.op("f32x4.add")
    f.release(scale, n, r)


def polynomial(f: Function, x: int, coefficients: Sequence[float], shape: str = "f32x4") -> None:
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
