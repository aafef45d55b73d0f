"""Arithmetic and elementary functions, element by element."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32, UINT32, arithmetic_dtype, is_float, is_unsigned
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.unsigned_division import divide as divide_unsigned

_UNARY = {
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Neg": "negate",
    "Reciprocal": "reciprocal",
    "Sin": "sin",
}
_BINARY = {"Add": "add", "Mul": "mul", "Sub": "sub"}


def _register_unary(op: str, tosa: str) -> None:
    def function(ctx: LoweringContext, x: Tensor) -> Tensor:
        return ctx.elementwise(tosa, x)

    function.__doc__ = f"`tosa.{tosa}`."
    lowering(op)(function)


def _register_binary(op: str, tosa: str) -> None:
    def function(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
        return ctx.elementwise(tosa, a, b)

    def legacy(
        ctx: LoweringContext, a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0
    ) -> Tensor:
        return ctx.elementwise(tosa, a, align_legacy_broadcast(ctx, a, b, axis, broadcast))

    function.__doc__ = f"`tosa.{tosa}` with broadcasting."
    legacy.__doc__ = f"`tosa.{tosa}`; the second operand is aligned at `axis`."
    lowering(op)(legacy)
    lowering(op, since=7)(function)


def align_legacy_broadcast(
    ctx: LoweringContext, a: Tensor, b: Tensor, axis: int | None, broadcast: int
) -> Tensor:
    """Before opset 7: with `broadcast`, b's dimensions stand under a's from `axis` on (None: at the end)."""
    if not broadcast or axis is None:
        return b
    trailing = a.rank - (axis % a.rank) - b.rank
    return ctx.reshape(b, b.shape + (1,) * trailing)


for _op, _tosa in _UNARY.items():
    _register_unary(_op, _tosa)
for _op, _tosa in _BINARY.items():
    _register_binary(_op, _tosa)


@lowering("Abs")
def abs_(ctx: LoweringContext, x: Tensor) -> Tensor:
    """`tosa.abs`."""
    return ctx.abs(x)


@lowering("Div")
def div_legacy(
    ctx: LoweringContext, a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0
) -> Tensor:
    """As from opset 7 on; the second operand is aligned at `axis`."""
    return div(ctx, a, align_legacy_broadcast(ctx, a, b, axis, broadcast))


@lowering("Div", since=7)
def div(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    """Floats: `tosa.mul` by `tosa.reciprocal` (at most 1.5 ulp off; a divisor below 2.9e-39 acts as 0); integers:
    `tosa.intdiv`."""
    return divide_unsigned(ctx, a, b)[0] if a.dtype == UINT32 else ctx.div(a, b)


@lowering("Sqrt")
def sqrt(ctx: LoweringContext, x: Tensor) -> Tensor:
    """x * `tosa.rsqrt`(x), 0 and infinity selected (`tosa.pow` is unpredictable for a negative base)."""
    return ctx.sqrt(x)


def _register_fold(op: str, tosa: str) -> None:
    def function(ctx: LoweringContext, *operands: Tensor) -> Tensor:
        return _accumulate(ctx, tosa, operands)

    function.__doc__ = f"A chain of `tosa.{tosa}` with broadcasting."
    lowering(op)(function)


def _accumulate(ctx: LoweringContext, tosa: str, operands: tuple[Tensor, ...]) -> Tensor:
    total = operands[0]
    for operand in operands[1:]:
        total = ctx.elementwise(tosa, total, operand)
    return total


for _op, _tosa in {"Max": "maximum", "Min": "minimum", "Sum": "add"}.items():
    _register_fold(_op, _tosa)


@lowering("Mean")
def mean(ctx: LoweringContext, *operands: Tensor) -> Tensor:
    """The sum of all operands times 1/n."""
    return ctx.mul(_accumulate(ctx, "add", operands), 1 / len(operands))


@lowering("Round")
def round_half_even(ctx: LoweringContext, x: Tensor) -> Tensor:
    """floor(x + 0.5) to the nearest, ties to even: from `tosa.floor`, exact for every float."""
    low = ctx.floor(x)
    rest = ctx.sub(x, low)
    half = ctx.mul(low, 0.5)
    odd = ctx.logical_not(ctx.equal(ctx.floor(half), half))
    up = ctx.logical_or(ctx.greater(rest, 0.5), ctx.logical_and(ctx.equal(rest, 0.5), odd))
    return ctx.select(up, ctx.add(low, 1), low)


@lowering("Sign")
def sign(ctx: LoweringContext, x: Tensor) -> Tensor:
    """-1, 0 or 1 by comparison; a NaN stays one."""
    if is_unsigned(x.dtype):
        return ctx.select(ctx.equal(x, 0), x, np.ones((), x.dtype))
    signs = ctx.select(ctx.greater(x, 0), np.ones((), x.dtype), x)
    return ctx.select(ctx.greater(0, x), np.full((), -1, x.dtype), signs)


@lowering("Tan")
def tan(ctx: LoweringContext, x: Tensor) -> Tensor:
    """sin(x) / cos(x)."""
    return ctx.div(ctx.elementwise("sin", x), ctx.elementwise("cos", x))


@lowering("Mod", since=10)
def mod(ctx: LoweringContext, a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """a - b * q with q = a / b truncated (fmod) or rounded down: the sign of the dividend or the divisor."""
    if is_float(a.dtype):
        return _float_mod(ctx, a, b)
    if a.dtype == UINT32:
        return divide_unsigned(ctx, a, b)[1]
    remainder = ctx.sub(a, ctx.mul(ctx.div(a, b), b))
    if fmod or is_unsigned(a.dtype):
        return remainder
    opposite = ctx.logical_and(ctx.logical_not(ctx.equal(remainder, 0)), _signs_differ(ctx, remainder, b))
    return ctx.add(remainder, ctx.select(opposite, b, 0))  # remainder + b may overflow where it is not wanted


def _signs_differ(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    return ctx.elementwise("logical_xor", ctx.greater(0, a), ctx.greater(0, b))


def _float_mod(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    """The quotient may be off by one after rounding: the remainder is brought back into [0, |b|)."""
    size, step = ctx.abs(a), ctx.abs(b)
    rest = ctx.sub(size, ctx.mul(ctx.floor(ctx.div(size, step)), step))
    rest = ctx.select(ctx.greater(0, rest), ctx.add(rest, step), rest)
    rest = ctx.select(ctx.greater_equal(rest, step), ctx.sub(rest, step), rest)
    return ctx.select(ctx.greater(0, a), ctx.negate(rest), rest)


@lowering("Pow")
def pow_legacy(
    ctx: LoweringContext, a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0
) -> Tensor:
    """As from opset 7 on; the second operand is aligned at `axis`."""
    return pow_(ctx, a, align_legacy_broadcast(ctx, a, b, axis, broadcast))


@lowering("Pow", since=7)
def pow_(ctx: LoweringContext, base: Tensor, exponent: Tensor) -> Tensor:
    """Constant multiples of 1/2 up to 16 by multiplication and square roots, else `tosa.pow` of |base|.

    A negative base with an exponent that is computed at run time gets its sign from the parity of the
    exponent, and NaN for a broken exponent.
    """
    known = ctx.constant_value(exponent)
    if known is not None and known.size and (known == known.flat[0]).all():
        by_products = _constant_power(ctx, base, float(known.flat[0]))
        if by_products is not None:
            shape = ctx.broadcast_shape(base, exponent)
            return ctx.broadcast_to(by_products, shape)
    if not is_float(base.dtype):
        return _integer_power(ctx, base, exponent)
    return _float_power(ctx, base, ctx.cast(exponent, base.dtype))


def _constant_power(ctx: LoweringContext, base: Tensor, exponent: float) -> Tensor | None:
    doubled = 2 * exponent
    if doubled != int(doubled) or abs(exponent) > 16 or (not is_float(base.dtype) and doubled % 2):
        return None
    if exponent < 0 and not is_float(base.dtype):
        return None
    whole = int(abs(doubled)) // 2
    parts = [_repeated_product(ctx, base, whole)] if whole else []
    if doubled % 2:
        parts.append(ctx.sqrt(base))
    if not parts:
        return ctx.constant(np.ones(base.shape, base.dtype))
    power = parts[0] if len(parts) == 1 else ctx.mul(*parts)
    return ctx.reciprocal(power) if exponent < 0 else power


def _repeated_product(ctx: LoweringContext, base: Tensor, times: int) -> Tensor:
    """base^times by squaring."""
    result: Tensor | None = None
    while times:
        if times & 1:
            result = base if result is None else ctx.mul(result, base)
        times >>= 1
        if times:
            base = ctx.mul(base, base)
    assert result is not None
    return result


def _float_power(ctx: LoweringContext, base: Tensor, exponent: Tensor) -> Tensor:
    size = ctx.elementwise("pow", ctx.abs(base), exponent)
    whole = ctx.equal(ctx.floor(exponent), exponent)
    half = ctx.mul(exponent, 0.5)
    odd = ctx.logical_and(whole, ctx.logical_not(ctx.equal(ctx.floor(half), half)))
    signed = ctx.select(odd, ctx.negate(size), size)
    negative = ctx.select(whole, signed, np.array(np.nan).astype(base.dtype))
    return ctx.select(ctx.greater(0, base), negative, size)


def _integer_power(ctx: LoweringContext, base: Tensor, exponent: Tensor) -> Tensor:
    """base^exponent for exponents of at most 31 by squaring and selecting, bit by bit of the exponent."""
    times = ctx.cast(exponent, INT32)
    power = ctx.cast(base, arithmetic_dtype(base.dtype))
    result = ctx.constant(np.ones((), power.dtype))
    for bit in range(5):
        chosen = ctx.elementwise("bitwise_and", times, 1 << bit)
        factor = ctx.select(ctx.equal(chosen, 0), np.ones((), power.dtype), power)
        result = ctx.mul(result, factor)
        power = ctx.mul(power, power) if bit < 4 else power
    return ctx.cast(ctx.broadcast_to(result, ctx.result.shape), base.dtype)
