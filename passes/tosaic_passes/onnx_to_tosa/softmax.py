"""Softmax and its kin."""

from __future__ import annotations

import math

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


def softmax_along(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    """exp(x - max) / sum(exp(x - max)) along one axis."""
    powers = ctx.exp(ctx.sub(x, ctx.reduce("reduce_max", x, [axis])))
    return ctx.mul(powers, ctx.reciprocal(ctx.reduce("reduce_sum", powers, [axis])))


def log_softmax_along(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    """x - max - log(sum(exp(x - max))) along one axis."""
    centred = ctx.sub(x, ctx.reduce("reduce_max", x, [axis]))
    return ctx.sub(centred, ctx.log(ctx.reduce("reduce_sum", ctx.exp(centred), [axis])))


def hardmax_along(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    """1 at the first greatest element along one axis, 0 elsewhere."""
    shape = [1 if index == axis else size for index, size in enumerate(x.shape)]
    greatest = ctx.reshape(ctx.argmax(x, axis), shape)
    count = x.shape[axis]
    places = np.arange(count, dtype=np.int32).reshape([count if i == axis else 1 for i in range(x.rank)])
    return ctx.cast(ctx.equal(greatest, ctx.constant(places)), x.dtype)


_ALONG = {"Softmax": softmax_along, "LogSoftmax": log_softmax_along, "Hardmax": hardmax_along}


def _flattened(ctx: LoweringContext, op: str, x: Tensor, axis: int) -> Tensor:
    """The old meaning: the input as a matrix, split before `axis`, each row on its own."""
    axis = axis if axis == x.rank else ctx.axis(axis, x.rank)
    if math.prod(x.shape[axis + 1 :]) == 1 and axis < x.rank:
        return _ALONG[op](ctx, x, axis)
    matrix = ctx.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return ctx.reshape(_ALONG[op](ctx, matrix, 1), x.shape)


@lowering("Softmax")
def softmax_flattened(ctx: LoweringContext, x: Tensor, *, axis: int = 1) -> Tensor:
    """exp(x - max) / sum(exp(x - max)) over all axes from `axis` on."""
    return _flattened(ctx, "Softmax", x, axis)


@lowering("Softmax", since=13)
def softmax(ctx: LoweringContext, x: Tensor, *, axis: int = -1) -> Tensor:
    """exp(x - max) / sum(exp(x - max)): `tosa.exp`, `tosa.reduce_max`, `tosa.reduce_sum`, `tosa.reciprocal`."""
    return softmax_along(ctx, x, ctx.axis(axis, x.rank))


@lowering("LogSoftmax")
def log_softmax_flattened(ctx: LoweringContext, x: Tensor, *, axis: int = 1) -> Tensor:
    """x - max - log(sum(exp(x - max))) over all axes from `axis` on."""
    return _flattened(ctx, "LogSoftmax", x, axis)


@lowering("LogSoftmax", since=13)
def log_softmax(ctx: LoweringContext, x: Tensor, *, axis: int = -1) -> Tensor:
    """x - max - log(sum(exp(x - max))): `tosa.exp`, `tosa.log`, `tosa.reduce_max`, `tosa.reduce_sum`."""
    return log_softmax_along(ctx, x, ctx.axis(axis, x.rank))


@lowering("Hardmax")
def hardmax_flattened(ctx: LoweringContext, x: Tensor, *, axis: int = 1) -> Tensor:
    """1 at the first greatest element of all axes from `axis` on, 0 elsewhere."""
    return _flattened(ctx, "Hardmax", x, axis)


@lowering("Hardmax", since=13)
def hardmax(ctx: LoweringContext, x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first greatest element, 0 elsewhere: `tosa.argmax` and `tosa.equal`."""
    return hardmax_along(ctx, x, ctx.axis(axis, x.rank))
