"""Division of unsigned 32-bit integers by signed ones, no step of which leaves the range of i32."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32, UINT32
from tosaic_passes.onnx_to_tosa.tensor import Tensor


def divide(ctx: LoweringContext, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of uint32.

    A divisor below 2^31 divides half of a; from the remainder of that follows whether twice the quotient
    is one too small. A divisor from 2^31 on goes into a once or never.
    """
    divisor = ctx.reinterpret(b, INT32)
    large = ctx.greater(0, divisor)
    small_quotient, small_rest = _by_small(ctx, ctx.reinterpret(a, INT32), ctx.select(large, 1, divisor))
    once = ctx.logical_and(large, ctx.greater_equal(a, b))
    quotient = ctx.select(large, ctx.cast(once, INT32), small_quotient)
    taken = ctx.select(once, divisor, np.zeros((), np.int32))
    rest = ctx.select(large, ctx.sub(ctx.reinterpret(a, INT32), taken), small_rest)
    return ctx.reinterpret(quotient, UINT32), ctx.reinterpret(rest, UINT32)


def _by_small(ctx: LoweringContext, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The bits of an unsigned a divided by b in 1..2^31-1.

    With a = 2 h + e and h = k b + r, the remainder 2 r + e is b or more exactly if r + e >= b - r.
    """
    half = ctx.elementwise("logical_right_shift", a, 1)
    lowest = ctx.elementwise("bitwise_and", a, 1)
    times = ctx.div(half, b)
    rest = ctx.sub(half, ctx.mul(times, b))
    missing = ctx.sub(b, rest)
    again = ctx.greater_equal(ctx.add(rest, lowest), missing)
    doubled = ctx.elementwise("logical_left_shift", times, 1)
    quotient = ctx.elementwise("bitwise_or", doubled, ctx.cast(again, INT32))
    back = ctx.select(again, missing, ctx.negate(rest))
    return quotient, ctx.add(ctx.sub(rest, back), lowest)
