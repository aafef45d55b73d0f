"""Ops that only change a tensor's shape or pass it on. All shapes are static: ONNX's result shape is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("Reshape")
def reshape(ctx: LoweringContext, x: Tensor, shape: Tensor | None = None, *, allowzero: int = 0) -> Tensor:
    """`tosa.reshape`."""
    return ctx.reshape(x, ctx.result.shape)


@lowering("Flatten")
def flatten(ctx: LoweringContext, x: Tensor, *, axis: int = 1) -> Tensor:
    """`tosa.reshape`."""
    return ctx.reshape(x, ctx.result.shape)


@lowering("Squeeze")
@lowering("Unsqueeze")
def squeeze_attribute(ctx: LoweringContext, x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """`tosa.reshape`."""
    return ctx.reshape(x, ctx.result.shape)


@lowering("Squeeze", since=13)
@lowering("Unsqueeze", since=13)
def squeeze(ctx: LoweringContext, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """`tosa.reshape`."""
    return ctx.reshape(x, ctx.result.shape)


@lowering("Transpose")
def transpose(ctx: LoweringContext, x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """`tosa.transpose`."""
    return ctx.transpose(x, range(x.rank)[::-1] if perm is None else perm)


@lowering("Expand", since=8)
def expand(ctx: LoweringContext, x: Tensor, shape: Tensor) -> Tensor:
    """`tosa.tile`."""
    return ctx.broadcast_to(x, ctx.result.shape)


@lowering("Tile", since=6)
def tile(ctx: LoweringContext, x: Tensor, repeats: Tensor) -> Tensor:
    """`tosa.tile`; the repeats must be constant."""
    if 0 in ctx.result.shape:
        return ctx.constant(np.zeros(ctx.result.shape, x.dtype))
    return ctx.tile(x, ctx.required_constant(repeats, "repeats").tolist())


@lowering("Identity")
def identity(ctx: LoweringContext, x: Tensor) -> Tensor:
    """Nothing is emitted."""
    return x


@lowering("Shape")
def shape(ctx: LoweringContext, x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """A constant."""
    return ctx.constant(np.array(x.shape[slice(start, end)], np.int64))


@lowering("Size")
def size(ctx: LoweringContext, x: Tensor) -> Tensor:
    """A constant."""
    return ctx.constant(np.array(x.size, np.int64))


@lowering("Dropout")
def dropout_attribute(
    ctx: LoweringContext, x: Tensor, *, ratio: float = 0.5, is_test: int = 0, seed: int | None = None
) -> Any:
    """As in inference: nothing is emitted; the mask is a constant of ones, as onnx has it (onnxruntime gives zeros)."""
    return _keep_all(ctx, x)


@lowering("Dropout", since=12)
def dropout(
    ctx: LoweringContext,
    x: Tensor,
    ratio: Tensor | None = None,
    training_mode: Tensor | None = None,
    *,
    seed: int | None = None,
) -> Any:
    """As in inference: nothing is emitted; the mask is a constant of ones. No training mode (unless the ratio is 0)."""
    training = training_mode is not None and ctx.required_constant(training_mode, "training_mode").item()
    kept = ratio is not None and ratio.array is not None and float(ratio.array.item()) == 0
    if training and not kept:
        ctx.fail(
            "training mode drops elements at random, and TOSA has no random numbers", "export for inference"
        )
    return _keep_all(ctx, x)


def _keep_all(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, ...]:
    masks = [ctx.constant(np.ones(r.shape, r.onnx_dtype)) for r in ctx.results[1:] if r is not None]
    return (x, *masks) if len(masks) == len(ctx.results) - 1 else (x, x)[: len(ctx.results)]
