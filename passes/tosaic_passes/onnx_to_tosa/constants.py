"""Ops whose result is known at compile time, or follows from a few scalars."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("Constant")
def constant(
    ctx: LoweringContext,
    *,
    value_float: float | None = None,
    value_floats: list[float] | None = None,
    value_int: int | None = None,
    value_ints: list[int] | None = None,
) -> Tensor:
    """A constant; no strings and no sparse tensors."""
    given = [value_float, value_floats, value_int, value_ints]
    values = next((value for value in given if value is not None), None)
    return ctx.constant(np.asarray(values, ctx.result.onnx_dtype).reshape(ctx.result.shape))


@lowering("ConstantOfShape", since=9)
def constant_of_shape(ctx: LoweringContext, shape: Tensor, *, value: np.ndarray | None = None) -> Tensor:
    """A constant."""
    fill = np.zeros(1, np.float32) if value is None else value
    return ctx.constant(np.broadcast_to(fill.reshape(()), ctx.result.shape))


@lowering("EyeLike", since=9)
def eye_like(ctx: LoweringContext, x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """A constant."""
    rows, columns = ctx.result.shape
    return ctx.constant(np.eye(rows, columns, k, dtype=ctx.result.onnx_dtype))


@lowering("Range", since=11)
def range_(ctx: LoweringContext, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """start + i * delta for as many i as the (static) result has."""
    positions = ctx.constant(np.arange(ctx.result.shape[0], dtype=np.int32))
    steps = ctx.mul(ctx.cast(positions, delta.dtype), ctx.reshape(delta, ()))
    return ctx.add(steps, ctx.reshape(start, ()))
