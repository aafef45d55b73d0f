"""Activation functions."""

from __future__ import annotations

import math

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import is_float
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("Relu")
def relu(ctx: LoweringContext, x: Tensor) -> Tensor:
    """max(x, 0): `tosa.clamp`, `tosa.maximum` for integers."""
    return ctx.clamp(x, 0, None)


@lowering("Clip", since=1)
def clip_attributes(
    ctx: LoweringContext, x: Tensor, *, min: float | None = None, max: float | None = None
) -> Tensor:
    """min(max(x, min), max) with bounds as attributes: `tosa.clamp`."""
    return ctx.clamp(x, min, max)


@lowering("Clip", since=11)
def clip(ctx: LoweringContext, x: Tensor, min: Tensor | None = None, max: Tensor | None = None) -> Tensor:
    """min(max(x, min), max): `tosa.clamp`, or `tosa.maximum` and `tosa.minimum` where a bound is computed."""
    low, high = ctx.constant_value(min), ctx.constant_value(max)
    known = (min is None or low is not None) and (max is None or high is not None)
    ordered = low is None or high is None or low.item() <= high.item()
    if known and ordered:
        return ctx.clamp(x, None if low is None else low.item(), None if high is None else high.item())
    above = x if min is None else ctx.maximum(x, min)
    return above if max is None else ctx.minimum(above, max)


@lowering("LeakyRelu")
def leaky_relu(ctx: LoweringContext, x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """x if x >= 0 else alpha * x: `tosa.select`, `tosa.maximum` for 0 <= alpha <= 1."""
    if 0 <= alpha <= 1:
        return ctx.maximum(x, ctx.mul(x, alpha))
    return ctx.select(ctx.greater_equal(x, 0), x, ctx.mul(x, alpha))


@lowering("PRelu")
def prelu_by_channel(ctx: LoweringContext, x: Tensor, slope: Tensor) -> Tensor:
    """As from opset 7 on, one slope for all elements or one a channel."""
    per_channel = slope.rank == 1 and x.rank > 1
    return prelu(ctx, x, ctx.reshape(slope, (slope.size, *(1,) * (x.rank - 2))) if per_channel else slope)


@lowering("PRelu", since=7)
def prelu(ctx: LoweringContext, x: Tensor, slope: Tensor) -> Tensor:
    """x if x >= 0 else slope * x: `tosa.select` of `tosa.mul`."""
    return ctx.select(ctx.greater_equal(x, 0), x, ctx.mul(x, slope))


@lowering("Sigmoid")
def sigmoid(ctx: LoweringContext, x: Tensor) -> Tensor:
    """`tosa.sigmoid`."""
    return ctx.sigmoid(x)


@lowering("Tanh")
def tanh(ctx: LoweringContext, x: Tensor) -> Tensor:
    """`tosa.tanh`."""
    return ctx.tanh(x)


@lowering("HardSigmoid")
def hard_sigmoid(ctx: LoweringContext, x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """max(0, min(1, alpha * x + beta)): `tosa.mul`, `tosa.add`, `tosa.clamp`."""
    return ctx.clamp(ctx.add(ctx.mul(x, alpha), beta), 0.0, 1.0)


@lowering("HardSwish")
def hard_swish(ctx: LoweringContext, x: Tensor) -> Tensor:
    """x * HardSigmoid(x) with alpha 1/6 and beta 0.5."""
    return ctx.mul(x, hard_sigmoid(ctx, x, alpha=1 / 6, beta=0.5))


@lowering("Elu")
def elu(ctx: LoweringContext, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x if x > 0 else alpha * (exp(min(x, 0)) - 1): the unused branch stays finite."""
    return ctx.select(ctx.greater(x, 0), x, ctx.mul(exp_minus_one(ctx, x), alpha))


@lowering("Selu")
def selu(
    ctx: LoweringContext,
    x: Tensor,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> Tensor:
    """gamma * (x if x > 0 else alpha * (exp(x) - 1))."""
    return ctx.mul(elu(ctx, x, alpha=alpha), gamma)


@lowering("Celu")
def celu(ctx: LoweringContext, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    scaled = exp_minus_one(ctx, ctx.mul(x, 1 / alpha))
    return ctx.add(ctx.clamp(x, 0, None), ctx.clamp(ctx.mul(scaled, alpha), None, 0))


@lowering("Softplus")
def softplus(ctx: LoweringContext, x: Tensor) -> Tensor:
    """max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    tail = ctx.log(ctx.add(ctx.exp(ctx.negate(ctx.abs(x))), 1))
    return ctx.add(ctx.clamp(x, 0, None), tail)


@lowering("Softsign")
def softsign(ctx: LoweringContext, x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return ctx.div(x, ctx.add(ctx.abs(x), 1))


@lowering("ThresholdedRelu")
def thresholded_relu(ctx: LoweringContext, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x if x > alpha else 0: `tosa.select`."""
    return ctx.select(ctx.greater(x, alpha), x, 0)


@lowering("Mish")
def mish(ctx: LoweringContext, x: Tensor) -> Tensor:
    """x * tanh(Softplus(x))."""
    return ctx.mul(x, ctx.tanh(softplus(ctx, x)))


@lowering("Swish")
def swish(ctx: LoweringContext, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x * Sigmoid(alpha * x)."""
    return ctx.mul(x, ctx.sigmoid(ctx.mul(x, alpha) if alpha != 1 else x))


@lowering("Gelu")
@lowering("Gelu", domain="com.microsoft")
def gelu(ctx: LoweringContext, x: Tensor, *, approximate: str = "none") -> Tensor:
    """0.5 x (1 + erf(x / sqrt 2)), or with tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    if approximate == "tanh":
        cube = ctx.mul(ctx.mul(x, x), x)
        inner = ctx.mul(ctx.add(x, ctx.mul(cube, 0.044715)), math.sqrt(2 / math.pi))
        gate = ctx.tanh(inner)
    else:
        gate = ctx.erf(ctx.mul(x, math.sqrt(0.5)))
    return ctx.mul(ctx.mul(x, 0.5), ctx.add(gate, 1))


@lowering("FastGelu", domain="com.microsoft")
def fast_gelu(ctx: LoweringContext, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The tanh approximation of Gelu after adding an optional bias."""
    return gelu(ctx, x if bias is None else ctx.add(x, bias), approximate="tanh")


@lowering("QuickGelu", domain="com.microsoft")
def quick_gelu(ctx: LoweringContext, x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """x * Sigmoid(alpha * x)."""
    return swish(ctx, x, alpha=alpha)


@lowering("BiasGelu", domain="com.microsoft")
def bias_gelu(ctx: LoweringContext, x: Tensor, bias: Tensor) -> Tensor:
    """Gelu of x + bias."""
    return gelu(ctx, ctx.add(x, bias))


@lowering("Shrink")
def shrink(ctx: LoweringContext, x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, else 0; integers are computed in f32."""
    wide = x if is_float(x.dtype) else ctx.cast(x, "float32")
    below = ctx.select(ctx.greater(-lambd, wide), ctx.add(wide, bias), 0)
    return ctx.cast(ctx.select(ctx.greater(wide, lambd), ctx.sub(wide, bias), below), x.dtype)


def exp_minus_one(ctx: LoweringContext, x: Tensor) -> Tensor:
    """exp(min(x, 0)) - 1 for the negative branch of the ELU family."""
    return ctx.sub(ctx.exp(ctx.clamp(x, None, 0)), 1)
