"""Powers whose exponent is a multiple of 1/4, as products of square roots in f64.

The rules are those of `math.py`; the error is below 0.51 units in the last place, at a fifth of what a logarithm takes.
"""

from __future__ import annotations

import math

from tosaic.wasm.function import Function
from tosaic.wasm.math import splat_f32, splat_f64, splat_i32
from tosaic.wasm.math_f64 import join_low_halves, promote_half

_MOST_QUARTERS = 16
"""Up to x**4, which is finite in f64 for every f32."""


def quarters_of(exponent: float | None) -> int | None:
    """How many quarters an exponent is, if `quarter_power` takes it."""
    if exponent is None or not 0 < abs(exponent) <= _MOST_QUARTERS / 4 or 4 * exponent % 1:
        return None
    return int(4 * exponent)


def quarter_power(f: Function, quarters: int, lanes: int = 4) -> None:
    """x**(quarters / 4) of f32 lanes; zeros, infinities and signs as `pow` of C has them."""
    if quarters % 4:
        _drop_signs_of_zero_and_infinity(f)
    x = f.local("v128")
    f.set(x)
    for high in (False, True)[: 1 + (lanes > 2)]:
        if quarters < 0:
            splat_f64(f, 1.0)
        promote_half(f, x, high)
        _product_of_roots(f, abs(quarters))
        if quarters < 0:
            f.op("f64x2.div")
        f.op("f32x4.demote_f64x2_zero")
    if lanes > 2:
        join_low_halves(f)
    f.release(x)


def _product_of_roots(f: Function, quarters: int) -> None:
    """x -> x**(quarters / 4), from the factors x, its root and the root of that."""
    whole, root, fourth = quarters // 4, quarters // 2 % 2, quarters % 2
    last = f.local("v128")
    if whole:
        f.tee(last)
        for _ in range(whole - 1):
            f.get(last)
            f.op("f64x2.mul")
        if root or fourth:
            f.get(last)
    if root or fourth:
        f.op("f64x2.sqrt")
    if fourth:
        if root:
            f.tee(last)
            f.get(last)
        f.op("f64x2.sqrt")
    for _ in range(bool(whole and (root or fourth)) + bool(root and fourth)):
        f.op("f64x2.mul")
    f.release(last)


def _drop_signs_of_zero_and_infinity(f: Function) -> None:
    """Roots take them as positive numbers; other negative numbers give NaN."""
    x = f.local("v128")
    splat_f32(f, 0.0)
    f.op("f32x4.add")
    f.tee(x)
    f.get(x)
    splat_f32(f, -math.inf)
    f.op("f32x4.eq")
    splat_i32(f, 0x80000000)
    f.op("v128.and")
    f.op("v128.xor")
    f.release(x)
