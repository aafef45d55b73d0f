"""Floats narrower than f32: they are computed in f32 lanes, rounded after each operation, and stored as their bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tosaic.wasm.function import Function
from tosaic.wasm.math import splat_f32, splat_i32


@dataclass(frozen=True)
class FloatFormat:
    """A float narrower than f32, `bytes` wide: mantissa bits, least normal exponent, bias, first value that overflows.

    `overflow_limit` is the least f32 that rounds to infinity, or to NaN in a format without infinities.
    """

    bytes: int
    mantissa_bits: int
    minimum_exponent: int
    overflow_limit: float
    has_infinity: bool = True


FLOAT_FORMATS = {
    "f16": FloatFormat(2, 10, -14, 65520.0),
    "bf16": FloatFormat(2, 7, -126, float.fromhex("0x1.ffp+127")),
    "f8E5M2": FloatFormat(1, 2, -14, 61440.0),
    "f8E4M3FN": FloatFormat(1, 3, -6, float.fromhex("0x1.d00002p+8"), has_infinity=False),
}
"""Formats that are computed in f32: IEEE 754 binary16, bfloat16, and OCP's two 8-bit floats."""


def round_to(f: Function, element: str) -> None:
    """Round f32 lanes to the nearest value of a narrower float type, ties to even (f32: nothing)."""
    if element not in FLOAT_FORMATS:
        return
    form = FLOAT_FORMATS[element]
    dropped = 23 - form.mantissa_bits
    x, magnitude = f.local("v128"), f.local("v128")
    f.tee(x)
    f.get(x)
    f.op("f32x4.abs")
    f.tee(magnitude)
    # Add half a unit, less one if the last kept bit is 0, and cut.
    f.get(magnitude)
    f.i32(dropped)
    f.op("i32x4.shr_u")
    splat_i32(f, 1)
    f.op("v128.and")
    f.op("i32x4.add")
    splat_i32(f, (1 << dropped - 1) - 1)
    f.op("i32x4.add")
    splat_i32(f, -(1 << dropped))
    f.op("v128.and")
    if form.minimum_exponent > -126:
        _round_subnormal(f, magnitude, form)
    # Infinite or NaN: a finite number plus infinity is infinite, NaN stays NaN.
    f.get(magnitude)
    splat_f32(f, float("inf") if form.has_infinity else float("nan"))
    f.op("f32x4.add")
    f.get(magnitude)
    splat_i32(f, _f32_bits(form.overflow_limit))
    f.op("i32x4.lt_s")
    f.op("v128.bitselect")
    splat_i32(f, 0x80000000)
    f.op("v128.bitselect")
    f.release(x, magnitude)


def widen_float(f: Function, element: str) -> None:
    """Bits of a narrow float in i32 lanes -> f32. The exponent is moved by a product, which also scales subnormals."""
    if element not in FLOAT_FORMATS:
        return
    if element == "bf16":
        f.i32(16)
        f.op("i32x4.shl")
        return
    form = FLOAT_FORMATS[element]
    bits, mask = f.local("v128"), (1 << 8 * form.bytes - 1) - 1
    f.tee(bits)
    splat_i32(f, mask)
    f.op("v128.and")
    f.i32(23 - form.mantissa_bits)
    f.op("i32x4.shl")
    splat_f32(f, 2.0 ** (126 + form.minimum_exponent))
    f.op("f32x4.mul")
    # The largest exponent: infinity and NaN, or a NaN of all ones in a format without infinities.
    special = mask & ~((1 << form.mantissa_bits) - 1) if form.has_infinity else mask
    f.get(bits)
    splat_i32(f, special)
    f.op("v128.and")
    splat_i32(f, special)
    f.op("i32x4.eq")
    splat_i32(f, 0x7F800000 if form.has_infinity else 0x7FC00000)
    f.op("v128.and")
    f.op("v128.or")
    f.get(bits)
    splat_i32(f, mask + 1)
    f.op("v128.and")
    f.i32(32 - 8 * form.bytes)
    f.op("i32x4.shl")
    f.op("v128.or")
    f.release(bits)


def narrow_float(f: Function, element: str) -> None:
    """f32 lanes that hold values of a narrow format -> its bits in i32 lanes."""
    if element not in FLOAT_FORMATS:
        return
    if element == "bf16":
        f.i32(16)
        f.op("i32x4.shr_u")
        return
    form = FLOAT_FORMATS[element]
    x, mask = f.local("v128"), (1 << 8 * form.bytes - 1) - 1
    f.tee(x)
    f.op("f32x4.abs")
    splat_f32(f, 2.0 ** -(126 + form.minimum_exponent))
    f.op("f32x4.mul")
    f.i32(23 - form.mantissa_bits)
    f.op("i32x4.shr_u")
    splat_i32(f, mask)
    f.op("v128.and")
    if not form.has_infinity:
        f.get(x)
        f.get(x)
        f.op("f32x4.ne")
        splat_i32(f, mask)
        f.op("v128.and")
        f.op("v128.or")
    f.get(x)
    f.i32(32 - 8 * form.bytes)
    f.op("i32x4.shr_u")
    splat_i32(f, mask + 1)
    f.op("v128.and")
    f.op("v128.or")
    f.release(x)


def _round_subnormal(f: Function, magnitude: int, form: FloatFormat) -> None:
    """Below the least normal number a sum with a power of two rounds to the fixed unit there."""
    unit = 2.0 ** (form.minimum_exponent - form.mantissa_bits + 23)
    f.get(magnitude)
    splat_f32(f, unit)
    f.op("f32x4.add")
    splat_f32(f, unit)
    f.op("f32x4.sub")
    f.get(magnitude)
    splat_f32(f, 2.0**form.minimum_exponent)
    f.op("i32x4.ge_s")
    f.op("v128.bitselect")


def _f32_bits(value: float) -> int:
    return struct.unpack("<i", struct.pack("<f", value))[0]
