"""Conversions between dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import (
    BOOL,
    FLOAT8,
    FLOAT32,
    INT32,
    UINT8,
    is_float,
    narrowed,
    narrowing_loses,
)
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.small_floats import SMALL_FLOATS, round_to_small_float, split_exponent
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_SUB_BYTE = {
    np.dtype(getattr(ml_dtypes, name)): bits
    for name, bits in (("int4", 4), ("uint4", 4), ("int2", 2), ("uint2", 2))
}
_EXPONENTS = 256
_MANTISSA = 23
_BIAS = 127
_QUIET_NAN = 0x7FC00000
_INFINITY = 0x7F800000
_SIGN = -(2**31)


@lowering("Cast")
def cast(ctx: LoweringContext, x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """`tosa.cast`; floats are truncated towards zero for an integer. No strings."""
    return convert(ctx, x, ctx.result.onnx_dtype, saturate=bool(saturate), round_mode=round_mode)


@lowering("CastLike")
def cast_like(
    ctx: LoweringContext, x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up"
) -> Tensor:
    """As Cast to the dtype of the second operand."""
    return convert(ctx, x, ctx.result.onnx_dtype, saturate=bool(saturate), round_mode=round_mode)


def convert(
    ctx: LoweringContext, x: Tensor, dtype: np.dtype, *, saturate: bool = True, round_mode: str = "up"
) -> Tensor:
    """x in another ONNX dtype by the rules of ONNX's Cast."""
    target = narrowed(dtype)
    if dtype in SMALL_FLOATS:
        wide = ctx.cast(x, FLOAT32)
        return round_to_small_float(ctx, wide, dtype, saturate=saturate, round_mode=round_mode)
    if is_float(x.dtype) and target != BOOL and not is_float(target):
        x = truncate(ctx, x)
    if dtype in _SUB_BYTE:
        return _to_sub_byte(ctx, x, dtype)
    return ctx.cast(x, target)


def truncate(ctx: LoweringContext, x: Tensor) -> Tensor:
    """The whole part of a float: floor above zero, ceil below."""
    if x.array is not None:
        return ctx.constant(np.trunc(x.array))
    if x.dtype in FLOAT8:
        x = ctx.cast(x, FLOAT32)
    return ctx.select(ctx.greater(0, x), ctx.ceil(x), ctx.floor(x))


def _to_sub_byte(ctx: LoweringContext, x: Tensor, dtype: np.dtype) -> Tensor:
    """Wraps around at the small width; the value is held in 8 bits."""
    bits = _SUB_BYTE[dtype]
    wide = ctx.cast(x, INT32)
    low = ctx.elementwise("bitwise_and", wide, (1 << bits) - 1)
    if dtype.name.startswith("u"):
        return ctx.cast(low, narrowed(dtype))
    negative = ctx.greater_equal(low, 1 << (bits - 1))
    return ctx.cast(ctx.select(negative, ctx.sub(low, 1 << bits), low), narrowed(dtype))


@lowering("BitCast", since=26)
def bit_cast(ctx: LoweringContext, x: Tensor, *, to: int) -> Tensor:
    """Nothing for integers; f32 from and to 32-bit integers in arithmetic (a NaN loses its payload).

    Not for 64 bits and for the other floats, whose bits TOSA does not hold or does not show.
    """
    target = ctx.result.onnx_dtype
    if narrowing_loses(target):
        ctx.fail(f"TOSA 1.0 holds {target} in 32 bits")
    if x.dtype == ctx.result.dtype:
        return x
    if x.dtype == BOOL and target.itemsize == 1 and not is_float(target):
        return ctx.cast(x, target)
    if target == BOOL and x.dtype.itemsize == 1 and not is_float(x.dtype):
        return ctx.cast(ctx.reinterpret(x, UINT8), BOOL)
    if x.dtype.kind in "iu" and target.kind in "iu" and narrowed(target) == target:
        return ctx.reinterpret(x, target)
    if x.dtype == FLOAT32 and target.kind in "iu":
        return ctx.reinterpret(_bits_of_float(ctx, x), target)
    if target == FLOAT32 and x.dtype.kind in "iu":
        return _float_of_bits(ctx, ctx.reinterpret(x, INT32))
    ctx.fail(f"TOSA does not show the bits of {x.dtype} as {target}")


def _bits_of_float(ctx: LoweringContext, x: Tensor) -> Tensor:
    """The bits of f32 numbers as i32: exponent and mantissa are taken apart, the sign is that of the reciprocal."""
    size = ctx.abs(x)
    finite = ctx.clamp(size, 2.0**-126, float(np.finfo(np.float32).max))
    _, exponent, mantissa = split_exponent(ctx, finite)
    fraction = ctx.cast(ctx.mul(ctx.sub(mantissa, 1.0), 2.0**_MANTISSA), INT32)
    bits = ctx.add(ctx.mul(ctx.add(exponent, _BIAS), 1 << _MANTISSA), fraction)
    subnormal = ctx.cast(ctx.mul(ctx.mul(size, 2.0**100), 2.0**49), INT32)
    bits = ctx.select(ctx.greater(2.0**-126, size), subnormal, bits)
    bits = ctx.select(ctx.equal(size, np.inf), _INFINITY, bits)
    bits = ctx.select(ctx.equal(size, size), bits, _QUIET_NAN)
    negative = ctx.greater(0.0, ctx.select(ctx.equal(x, 0.0), ctx.reciprocal(x), x))
    return ctx.select(negative, ctx.elementwise("bitwise_xor", bits, np.array(_SIGN, np.int32)), bits)


def _float_of_bits(ctx: LoweringContext, bits: Tensor) -> Tensor:
    """The f32 numbers of bits: powers of two are looked up by the exponent, and multiplied with the mantissa."""
    size = ctx.elementwise("bitwise_and", bits, 2**31 - 1)
    exponent = ctx.elementwise("logical_right_shift", size, _MANTISSA)
    fraction = ctx.cast(ctx.elementwise("bitwise_and", size, (1 << _MANTISSA) - 1), FLOAT32)
    powers = np.ldexp(np.float32(1), np.arange(_EXPONENTS) - _BIAS - _MANTISSA).astype(np.float32)
    powers[0], powers[-1] = powers[1], np.inf
    table = ctx.constant(powers.reshape(1, _EXPONENTS, 1))
    power = ctx.reshape(ctx.gather(table, ctx.reshape(exponent, (1, bits.size))), bits.shape)
    whole = ctx.select(ctx.equal(exponent, 0), fraction, ctx.add(fraction, 2.0**_MANTISSA))
    number = ctx.mul(whole, power)
    not_a_number = ctx.greater(size, _INFINITY)
    number = ctx.select(not_a_number, ctx.constant(np.float32(np.nan)), number)
    return ctx.select(ctx.greater(0, bits), ctx.negate(number), number)
