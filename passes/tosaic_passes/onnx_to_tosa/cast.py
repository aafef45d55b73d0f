"""Conversions between dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, FLOAT8, FLOAT32, INT32, is_float, limits, narrowed
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_SUB_BYTE = {
    np.dtype(getattr(ml_dtypes, name)): bits
    for name, bits in (("int4", 4), ("uint4", 4), ("int2", 2), ("uint2", 2))
}
_NOT_HELD = {
    np.dtype(ml_dtypes.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float4_e2m1fn),
}


@lowering("Cast")
def cast(ctx: LoweringContext, x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """`tosa.cast`; floats are truncated towards zero for an integer.

    No rounding to fp8 FNUZ and fp4, which TOSA does not have; no strings.
    """
    return convert(ctx, x, ctx.result.onnx_dtype, saturate=bool(saturate))


@lowering("CastLike")
def cast_like(
    ctx: LoweringContext, x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up"
) -> Tensor:
    """As Cast to the dtype of the second operand."""
    return convert(ctx, x, ctx.result.onnx_dtype, saturate=bool(saturate))


@lowering("BitCast", since=26)
def bit_cast(ctx: LoweringContext, x: Tensor, *, to: int) -> Tensor:
    """Nothing between integers, which TOSA holds without a sign; `tosa.cast` from bool. No floats, no 64 bits."""
    target = ctx.result.onnx_dtype
    if x.dtype == ctx.result.dtype:
        return x
    if target.itemsize > 4:
        ctx.fail(f"TOSA holds {target} in 32 bits only")
    if target == BOOL or is_float(x.dtype) or is_float(target):
        ctx.fail(f"TOSA has no operation that reads the bits of {x.dtype} as {target}")
    return ctx.cast(x, target) if x.dtype == BOOL else ctx.reinterpret(x, target)


def convert(ctx: LoweringContext, x: Tensor, dtype: np.dtype, *, saturate: bool = True) -> Tensor:
    """x in another ONNX dtype by the rules of ONNX's Cast."""
    if dtype in _NOT_HELD:
        ctx.fail(f"TOSA cannot round to {dtype}")
    target = narrowed(dtype)
    if target in FLOAT8 and is_float(x.dtype):
        return _to_float8(ctx, x, target, saturate)
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


def _to_float8(ctx: LoweringContext, x: Tensor, target: np.dtype, saturate: bool) -> Tensor:
    if not saturate:
        ctx.fail(f"tosa.cast to {target} always saturates", "set saturate to 1")
    wide = x if x.dtype not in FLOAT8 else ctx.cast(x, FLOAT32)
    low, high = limits(target)
    return ctx.cast(ctx.clamp(wide, low, high), target)


def _to_sub_byte(ctx: LoweringContext, x: Tensor, dtype: np.dtype) -> Tensor:
    """Wraps around at the small width; the value is held in 8 bits."""
    bits = _SUB_BYTE[dtype]
    wide = ctx.cast(x, INT32)
    low = ctx.elementwise("bitwise_and", wide, (1 << bits) - 1)
    if dtype.name.startswith("u"):
        return ctx.cast(low, narrowed(dtype))
    negative = ctx.greater_equal(low, 1 << (bits - 1))
    return ctx.cast(ctx.select(negative, ctx.sub(low, 1 << bits), low), narrowed(dtype))
