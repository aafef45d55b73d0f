"""Inverse trigonometric and hyperbolic functions, which TOSA does not have.

Minimax polynomials near zero (S. Moshier, Cephes mathematical library, single precision), identities elsewhere;
everything in f32, within a few ulp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

Function = Callable[[LoweringContext, Tensor], Tensor]

_ASIN = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
_ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
_ASINH = (2.0122003309e-2, -4.2699340972e-2, 7.4847586088e-2, -1.6666288134e-1)
_ATANH = (1.81740078349e-1, 8.24370301058e-2, 1.46691431730e-1, 1.99782164500e-1, 3.33337300303e-1)
_ACOSH = (1.7596881071e-3, -7.5272886713e-3, 2.6454905019e-2, -1.1784741703e-1, 1.4142135263)
_SINH = (1 / 362880, 1 / 5040, 1 / 120, 1 / 6)


def polynomial(ctx: LoweringContext, x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Horner's rule, the highest power first."""
    result = ctx.add(ctx.mul(x, coefficients[0]), coefficients[1])
    for coefficient in coefficients[2:]:
        result = ctx.add(ctx.mul(result, x), coefficient)
    return result


def _odd(ctx: LoweringContext, x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """x + x^3 p(x^2)."""
    square = ctx.mul(x, x)
    return ctx.add(x, ctx.mul(ctx.mul(x, square), polynomial(ctx, square, coefficients)))


def _with_sign(ctx: LoweringContext, size: Tensor, x: Tensor) -> Tensor:
    return ctx.select(ctx.greater(0, x), ctx.negate(size), size)


def asin(ctx: LoweringContext, x: Tensor) -> Tensor:
    """A polynomial up to 1/2, above it pi/2 - 2 asin(sqrt((1 - |x|) / 2))."""
    large, inner = _reduced_asin(ctx, ctx.abs(x))
    return _with_sign(ctx, ctx.select(large, ctx.sub(math.pi / 2, ctx.mul(inner, 2)), inner), x)


def acos(ctx: LoweringContext, x: Tensor) -> Tensor:
    """pi/2 - asin(x), from 1/2 on 2 asin(sqrt((1 - x) / 2)); pi - acos(-x) for negative x."""
    large, inner = _reduced_asin(ctx, ctx.abs(x))
    size = ctx.select(large, ctx.mul(inner, 2), ctx.sub(math.pi / 2, inner))
    return ctx.select(ctx.greater(0, x), ctx.sub(math.pi, size), size)


def _reduced_asin(ctx: LoweringContext, size: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a size is above 1/2, and the arc sine of it or, there, of sqrt((1 - size) / 2)."""
    large = ctx.greater(size, 0.5)
    rest = ctx.sqrt(ctx.mul(ctx.sub(1, size), 0.5))
    return large, _odd(ctx, ctx.select(large, rest, size), _ASIN)


def atan(ctx: LoweringContext, x: Tensor) -> Tensor:
    """A polynomial up to tan(pi/8), above it pi/4 + atan((x - 1) / (x + 1)), above tan(3 pi/8) pi/2 - atan(1 / x)."""
    size = ctx.abs(x)
    middle, large = ctx.greater(size, math.tan(math.pi / 8)), ctx.greater(size, math.tan(3 * math.pi / 8))
    shifted = ctx.div(ctx.sub(size, 1), ctx.add(size, 1))
    inverse = ctx.negate(ctx.reciprocal(size))
    reduced = ctx.select(large, inverse, ctx.select(middle, shifted, size))
    start = ctx.select(
        large, ctx.constant(math.pi / 2, FLOAT32), ctx.select(middle, ctx.constant(math.pi / 4, FLOAT32), 0)
    )
    return _with_sign(ctx, ctx.add(start, _odd(ctx, reduced, _ATAN)), x)


def sinh(ctx: LoweringContext, x: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / 2, up to 1 its series."""
    large = ctx.mul(ctx.sub(ctx.exp(x), ctx.exp(ctx.negate(x))), 0.5)
    return ctx.select(ctx.greater(ctx.abs(x), 1), large, _odd(ctx, ctx.clamp(x, -1, 1), _SINH))


def cosh(ctx: LoweringContext, x: Tensor) -> Tensor:
    """(exp(x) + exp(-x)) / 2."""
    return ctx.mul(ctx.add(ctx.exp(x), ctx.exp(ctx.negate(x))), 0.5)


def asinh(ctx: LoweringContext, x: Tensor) -> Tensor:
    """A polynomial up to 1/2, log(|x| + sqrt(x^2 + 1)), log(2 |x|) from 1e4 on."""
    size = ctx.abs(x)
    bounded = ctx.clamp(size, None, 1e4)
    middle = ctx.log(ctx.add(bounded, ctx.sqrt(ctx.add(ctx.mul(bounded, bounded), 1))))
    large = ctx.add(ctx.log(size), math.log(2))
    outer = ctx.select(ctx.greater(size, 1e4), large, middle)
    inner = _odd(ctx, ctx.clamp(size, None, 0.5), _ASINH)
    return _with_sign(ctx, ctx.select(ctx.greater(size, 0.5), outer, inner), x)


def acosh(ctx: LoweringContext, x: Tensor) -> Tensor:
    """sqrt(x - 1) times a polynomial up to 1.5, log(x + sqrt(x^2 - 1)), log(2 x) from 1e4 on."""
    above = ctx.sub(x, 1)
    near = ctx.mul(ctx.sqrt(above), polynomial(ctx, ctx.clamp(above, None, 0.5), _ACOSH))
    bounded = ctx.clamp(x, None, 1e4)
    middle = ctx.log(ctx.add(bounded, ctx.sqrt(ctx.sub(ctx.mul(bounded, bounded), 1))))
    large = ctx.add(ctx.log(x), math.log(2))
    outer = ctx.select(ctx.greater(x, 1e4), large, middle)
    return ctx.select(ctx.greater(above, 0.5), outer, near)


def atanh(ctx: LoweringContext, x: Tensor) -> Tensor:
    """A polynomial up to 1/2, above it log((1 + x) / (1 - x)) / 2."""
    size = ctx.abs(x)
    outer = ctx.mul(ctx.log(ctx.div(ctx.add(size, 1), ctx.sub(1, size))), 0.5)
    inner = _odd(ctx, ctx.clamp(size, None, 0.5), _ATANH)
    return _with_sign(ctx, ctx.select(ctx.greater(size, 0.5), outer, inner), x)


def _register(op: str, function: Function) -> None:
    def in_float32(ctx: LoweringContext, x: Tensor) -> Tensor:
        return ctx.cast(function(ctx, ctx.cast(x, FLOAT32)), x.dtype)

    in_float32.__doc__ = function.__doc__
    lowering(op)(in_float32)


for _op, _function in {
    "Acos": acos,
    "Acosh": acosh,
    "Asin": asin,
    "Asinh": asinh,
    "Atan": atan,
    "Atanh": atanh,
    "Cosh": cosh,
    "Sinh": sinh,
}.items():
    _register(_op, _function)
