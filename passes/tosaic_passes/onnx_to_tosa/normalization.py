"""Normalizations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


def _along_channels(ctx: LoweringContext, parameter: Tensor, rank: int) -> Tensor:
    """[C] or [C, spatial...] -> [1, C, ...], which broadcasts over [N, C, spatial...]."""
    return ctx.reshape(parameter, (1, *parameter.shape, *(1,) * (rank - 1 - parameter.rank)))


def _mean(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    count = math.prod(x.shape[axis] for axis in axes)
    return ctx.mul(ctx.reduce("reduce_sum", x, axes), 1 / count)


def _standardized(
    ctx: LoweringContext, x: Tensor, axes: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + epsilon) over axes, with the mean and 1 / sqrt(variance + epsilon)."""
    mean = _mean(ctx, x, axes)
    centred = ctx.sub(x, mean)
    inverse = ctx.rsqrt(ctx.add(_mean(ctx, ctx.mul(centred, centred), axes), epsilon))
    return ctx.mul(centred, inverse), mean, inverse


def _batch_normalized(
    ctx: LoweringContext, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, epsilon: float
) -> Tensor:
    """x * factor + offset with factor = scale / sqrt(var + epsilon), offset = bias - mean * factor."""
    known = [parameter.array for parameter in (scale, bias, mean, var)]
    if all(array is not None for array in known):
        s, b, m, v = (np.asarray(array, np.float64) for array in known)
        exact = s / np.sqrt(v + epsilon)
        factor = ctx.constant(exact.astype(x.dtype))
        offset = ctx.constant((b - m * exact).astype(x.dtype))
    else:
        scale, bias, mean, var = ctx.cast_all((scale, bias, mean, var), x.dtype)
        factor = ctx.mul(scale, ctx.rsqrt(ctx.add(var, epsilon)))
        offset = ctx.sub(bias, ctx.mul(mean, factor))
    scaled = ctx.mul(x, _along_channels(ctx, factor, x.rank))
    return ctx.add(scaled, _along_channels(ctx, offset, x.rank))


@lowering("BatchNormalization", since=1)
def batch_normalization_spatial(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    consumed_inputs: Sequence[int] = (),
    epsilon: float = 1e-5,
    is_test: int = 0,
    momentum: float = 0.9,
    spatial: int = 1,
) -> Tensor:
    """x * factor + offset, both of the running statistics: `tosa.mul` and `tosa.add`. Inference only."""
    if sum(result is not None for result in ctx.results) > 1:
        ctx.fail("training mode is not supported", "export the model for inference")
    return _batch_normalized(ctx, x, scale, bias, mean, var, epsilon)


@lowering("BatchNormalization", since=14)
def batch_normalization(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """x * factor + offset: `tosa.mul` and `tosa.add`. In training mode, of the statistics of the batch."""
    if not training_mode:
        return _batch_normalized(ctx, x, scale, bias, mean, var, epsilon)
    axes = [0, *range(2, x.rank)]
    batch_mean = _mean(ctx, x, axes)
    centred = ctx.sub(x, batch_mean)
    batch_mean = ctx.reshape(batch_mean, mean.shape)
    batch_var = ctx.reshape(_mean(ctx, ctx.mul(centred, centred), axes), var.shape)
    result = _batch_normalized(ctx, x, scale, bias, batch_mean, batch_var, epsilon)
    return (
        result,
        *(
            ctx.add(ctx.mul(old, momentum), ctx.mul(ctx.cast(new, old.dtype), 1 - momentum))
            for old, new in ((mean, batch_mean), (var, batch_var))
        ),
    )


@lowering("InstanceNormalization")
def instance_normalization(
    ctx: LoweringContext, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over the spatial axes, then scale and bias a channel."""
    result, _, _ = _standardized(ctx, x, range(2, x.rank), epsilon)
    scaled = ctx.mul(result, _along_channels(ctx, scale, x.rank))
    return ctx.add(scaled, _along_channels(ctx, bias, x.rank))


@lowering("LayerNormalization", since=1)
def layer_normalization(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + epsilon) from `axis` on, then scale and bias; computed in f32."""
    axes = range(ctx.axis(axis, x.rank), x.rank)
    result, mean, inverse = _standardized(ctx, ctx.cast(x, FLOAT32), axes, epsilon)
    scaled = ctx.mul(ctx.cast(result, x.dtype), scale)
    return (scaled if bias is None else ctx.add(scaled, bias)), mean, inverse


@lowering("RMSNormalization", since=23)
def rms_normalization(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) from `axis` on, then scale; computed in f32."""
    wide = ctx.cast(x, FLOAT32)
    square = _mean(ctx, ctx.mul(wide, wide), range(ctx.axis(axis, x.rank), x.rank))
    normalized = ctx.mul(wide, ctx.rsqrt(ctx.add(square, epsilon)))
    return ctx.cast(ctx.mul(ctx.cast(normalized, x.dtype), ctx.cast(scale, x.dtype)), ctx.result.dtype)


def _group_standardized(ctx: LoweringContext, x: Tensor, num_groups: int, epsilon: float) -> Tensor:
    """Each group of channels standardized with its spatial axes; the shape [N, groups, rest]."""
    if x.shape[1] % num_groups:
        ctx.fail(f"{x.shape[1]} channels do not split into {num_groups} groups")
    grouped = ctx.reshape(ctx.cast(x, FLOAT32), (x.shape[0], num_groups, x.size // x.shape[0] // num_groups))
    return ctx.cast(_standardized(ctx, grouped, [2], epsilon)[0], x.dtype)


@lowering("GroupNormalization", since=18)
def group_normalization_by_group(
    ctx: LoweringContext, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over groups of channels, then scale and bias a group."""
    result = _group_standardized(ctx, x, num_groups, epsilon)
    scaled = ctx.mul(result, _along_channels(ctx, scale, 3))
    return ctx.reshape(ctx.add(scaled, _along_channels(ctx, bias, 3)), x.shape)


@lowering("GroupNormalization", since=21)
def group_normalization(
    ctx: LoweringContext,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over groups of channels, then scale and bias a channel."""
    result = ctx.reshape(_group_standardized(ctx, x, num_groups, epsilon), x.shape)
    scaled = ctx.mul(result, _along_channels(ctx, scale, x.rank))
    return ctx.add(scaled, _along_channels(ctx, bias, x.rank))


@lowering("MeanVarianceNormalization", since=9)
def mean_variance_normalization(
    ctx: LoweringContext, x: Tensor, *, axes: Sequence[int] = (0, 2, 3)
) -> Tensor:
    """(x - mean) / (sqrt(variance) + 1e-9) over axes."""
    axes = [ctx.axis(axis, x.rank) for axis in axes]
    centred = ctx.sub(x, _mean(ctx, x, axes))
    deviation = ctx.sqrt(_mean(ctx, ctx.mul(centred, centred), axes))
    return ctx.mul(centred, ctx.reciprocal(ctx.add(deviation, 1e-9)))


@lowering("LpNormalization")
def lp_normalization(ctx: LoweringContext, x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """x / |x|_p along an axis, 0 where the norm is 0. p is 1 or 2."""
    axes = [ctx.axis(axis, x.rank)]
    if p == 1:
        norm = ctx.reduce("reduce_sum", ctx.abs(x), axes)
    else:
        norm = ctx.sqrt(ctx.reduce("reduce_sum", ctx.mul(x, x), axes))
    divisor = ctx.select(ctx.equal(norm, 0), 1, norm)
    return ctx.mul(x, ctx.reciprocal(divisor))


@lowering("LRN")
def lrn(
    ctx: LoweringContext, x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """x / (bias + alpha / size * sum(x^2))^beta, the sum over `size` neighbouring channels."""
    channels = x.shape[1]
    before, after = [0] * x.rank, [0] * x.rank
    before[1], after[1] = (size - 1) // 2, size // 2
    squares = ctx.pad(ctx.mul(x, x), before, after)
    total = ctx.slice_axis(squares, 1, 0, channels)
    for offset in range(1, size):
        total = ctx.add(total, ctx.slice_axis(squares, 1, offset, channels))
    base = ctx.add(ctx.mul(total, alpha / size), bias)
    return ctx.mul(x, ctx.elementwise("pow", base, -beta))
