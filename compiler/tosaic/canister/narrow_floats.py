"""Floats that TOSA holds as f32 only, between the byte that callers send and f32.

Both directions are exact: the kernels round what they compute to the format before it leaves. A product with a power
of two moves the exponent, and scales subnormal numbers in the same act.
"""

from __future__ import annotations

from dataclasses import dataclass

from tosaic.wasm.function import Function

_NAN_BITS = 0x7FC00000
_SMALLEST_F32_BITS = 0x00400000  # 2**-127, which is subnormal in f32


@dataclass(frozen=True)
class NarrowFloat:
    """A sign, an exponent with a bias, a mantissa; `nan` is the code of NaN, where there is one.

    Where that code is the negative zero's, zero has no sign.
    """

    bits: int
    mantissa_bits: int
    bias: int
    nan: int | None = None

    @property
    def sign(self) -> int:
        """The mask of the sign."""
        return 1 << self.bits - 1


NARROW_FLOATS = {
    "float8_e4m3fnuz": NarrowFloat(8, 3, 8, nan=0x80),
    "float8_e5m2fnuz": NarrowFloat(8, 2, 16, nan=0x80),
    "float4_e2m1fn": NarrowFloat(4, 1, 1),
}
POWERS_OF_TWO = "float8_e8m0fnu"
"""The dtype whose code c is 2**(c - 127), and NaN at 255."""


def widen(f: Function, dtype: str) -> None:
    """The code on the stack (i32) becomes an f32."""
    if dtype == POWERS_OF_TWO:
        _widen_power(f)
        return
    form = NARROW_FLOATS[dtype]
    code = f.local("i32")
    f.tee(code)
    f.i32(form.sign - 1)
    f.op("i32.and")
    f.i32(23 - form.mantissa_bits)
    f.op("i32.shl")
    f.op("f32.reinterpret_i32")
    f.f32(2.0 ** (127 - form.bias))
    f.op("f32.mul")
    f.get(code)
    f.i32(32 - form.bits)
    f.op("i32.shl")
    f.op("f32.reinterpret_i32")
    f.op("f32.copysign")
    if form.nan is not None:
        f.f32(float("nan"))
        f.get(code)
        f.i32(form.nan)
        f.op("i32.ne")
        f.op("select")
    f.release(code)


def narrow(f: Function, dtype: str) -> None:
    """The f32 on the stack, a value of the format, becomes its code (i32)."""
    if dtype == POWERS_OF_TWO:
        f.op("i32.reinterpret_f32")
        f.i32(23)
        f.op("i32.shr_u")
        f.i32(0xFF)
        f.op("i32.and")
        return
    form = NARROW_FLOATS[dtype]
    x, code = f.local("f32"), f.local("i32")
    f.tee(x)
    f.op("f32.abs")
    f.f32(2.0 ** (form.bias - 127))
    f.op("f32.mul")
    f.op("i32.reinterpret_f32")
    f.i32(23 - form.mantissa_bits)
    f.op("i32.shr_u")
    f.tee(code)
    f.get(x)
    f.op("i32.reinterpret_f32")
    f.i32(32 - form.bits)
    f.op("i32.shr_u")
    f.i32(form.sign)
    f.op("i32.and")
    if form.nan == form.sign:
        f.i32(0)
        f.get(code)
        f.op("select")
    f.op("i32.or")
    if form.nan is not None:
        f.i32(form.nan)
        f.get(x)
        f.get(x)
        f.op("f32.eq")
        f.op("select")
    f.release(x, code)


def _widen_power(f: Function) -> None:
    code = f.local("i32")
    f.tee(code)
    f.i32(23)
    f.op("i32.shl")
    f.i32(_SMALLEST_F32_BITS)
    f.get(code)
    f.op("select")
    f.i32(_NAN_BITS)
    f.get(code)
    f.i32(0xFF)
    f.op("i32.ne")
    f.op("select")
    f.op("f32.reinterpret_i32")
    f.release(code)
