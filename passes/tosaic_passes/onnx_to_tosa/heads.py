"""Heads of attention: their axis split off the width of a token, and joined with it again."""

from __future__ import annotations

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.tensor import Tensor


def split_heads(ctx: LoweringContext, x: Tensor, count: int) -> Tensor:
    """[batch, length, heads * size] -> [batch, heads, length, size]."""
    batch, length, width = x.shape
    if count < 1 or width % count:
        ctx.fail(f"a width of {width} cannot be split into {count} heads")
    return ctx.transpose(ctx.reshape(x, (batch, length, count, width // count)), [0, 2, 1, 3])


def joined_heads(ctx: LoweringContext, x: Tensor) -> Tensor:
    """[batch, heads, length, size] -> [batch, length, heads * size]."""
    batch, count, length, size = x.shape
    return ctx.reshape(ctx.transpose(x, [0, 2, 1, 3]), (batch, length, count * size))
