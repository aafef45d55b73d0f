"""Attention as onnxruntime fuses it (docs/ContribOperators.md there); ONNX's own is in grouped_attention.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32
from tosaic_passes.onnx_to_tosa.heads import joined_heads, split_heads
from tosaic_passes.onnx_to_tosa.indexing import take
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.softmax import softmax_along
from tosaic_passes.onnx_to_tosa.tensor import Tensor

CONTRIB = "com.microsoft"


@lowering("Attention", domain=CONTRIB)
def attention(
    ctx: LoweringContext,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> Tensor:
    """Self-attention after one product with packed weights: `tosa.matmul` and a softmax; no past, no rotation."""
    if past is not None:
        ctx.fail("attention with a past state is not supported")
    packed = batched_matmul(ctx, x, weights)
    packed = packed if bias is None else ctx.add(packed, bias)
    width = packed.shape[2] // 3
    q, k, v = (split_heads(ctx, ctx.slice_axis(packed, 2, i * width, width), num_heads) for i in range(3))
    length = x.shape[1]
    biases = [attention_bias] if attention_bias is not None else []
    biases += _padding(ctx, mask, x.shape[0], length, mask_filter_value)
    biases += _causal(ctx, length, length, q.dtype) if unidirectional else []
    return joined_heads(ctx, _attend(ctx, q, k, v, scale, biases))


@lowering("MultiHeadAttention", domain=CONTRIB)
def multi_head_attention(
    ctx: LoweringContext,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of projected queries, keys and values, with caches: `tosa.matmul` and a softmax; nothing packed."""
    if query.rank != 3 or key.rank != value.rank or key.rank not in (3, 4):
        ctx.fail("packed queries, keys or values are not supported")
    if bias is not None:
        query, key, value = _biased(ctx, bias, (query, key, value))
    q = split_heads(ctx, query, num_heads)
    k, v = (split_heads(ctx, part, num_heads) if part.rank == 3 else part for part in (key, value))
    k = k if past_key is None else ctx.concat([past_key, k], 2)
    v = v if past_value is None else ctx.concat([past_value, v], 2)
    batch, length, total = query.shape[0], query.shape[1], k.shape[2]
    biases = [attention_bias] if attention_bias is not None else []
    biases += _padding(ctx, key_padding_mask, batch, total, mask_filter_value)
    biases += _causal(ctx, length, total, q.dtype) if unidirectional else []
    return joined_heads(ctx, _attend(ctx, q, k, v, scale, biases)), k, v


@lowering("RotaryEmbedding", domain=CONTRIB)
def rotary_embedding(
    ctx: LoweringContext,
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
    is_packed_batching: int = 0,
) -> Tensor:
    """Pairs of elements turned by the angle of their position: `tosa.gather`, `tosa.mul`, `tosa.add`; not packed."""
    if is_packed_batching or scale != 1.0:
        ctx.fail("packed batches and a scale are not supported")
    heads = num_heads if rotary_embedding_dim else x.shape[-1] // (2 * cos_cache.shape[1])
    rows = split_heads(ctx, x, heads) if x.rank == 3 else x
    positions = _positions(ctx, position_ids, rows.shape[0], rows.shape[2])
    whole = rotated(ctx, rows, positions, (cos_cache, sin_cache), bool(interleaved))
    return joined_heads(ctx, whole) if x.rank == 3 else whole


def rotated(
    ctx: LoweringContext, x: Tensor, positions: Tensor, caches: tuple[Tensor, Tensor], interleaved: bool
) -> Tensor:
    """x [batch, heads, length, size] turned by the cosines and sines [most, n] of positions [batch * length].

    Elements from 2 n on stay as they are.
    """
    batch, _, length, size = x.shape
    half = caches[0].shape[1]
    cos, sin = (ctx.reshape(take(ctx, cache, positions, 0), (batch, 1, length, half)) for cache in caches)
    turned = _turned(ctx, ctx.slice_axis(x, 3, 0, 2 * half), cos, sin, interleaved)
    rest = ctx.slice_axis(x, 3, 2 * half, size - 2 * half) if size > 2 * half else None
    return turned if rest is None else ctx.concat([turned, rest], 3)


def _positions(ctx: LoweringContext, position_ids: Tensor, batch: int, length: int) -> Tensor:
    """The position of every token [batch * length]; one number is that of the first."""
    ids = ctx.cast(position_ids, INT32)
    if ids.size == 1:
        ids = ctx.add(ctx.reshape(ids, (1, 1)), ctx.constant(np.arange(length, dtype=np.int32)))
    return ctx.reshape(ctx.broadcast_to(ids, (batch, length)), (batch * length,))


def _turned(ctx: LoweringContext, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """x [batch, heads, length, 2 n]: element i is paired with i + n, or neighbours where interleaved."""
    half = x.shape[3] // 2
    pairs = ctx.reshape(x, (*x.shape[:3], half, 2) if interleaved else (*x.shape[:3], 2, half))
    along = 4 if interleaved else 3
    one, two = (ctx.reshape(ctx.slice_axis(pairs, along, i, 1), (*x.shape[:3], half)) for i in (0, 1))
    real = ctx.sub(ctx.mul(one, cos), ctx.mul(two, sin))
    imaginary = ctx.add(ctx.mul(one, sin), ctx.mul(two, cos))
    shape = [*x.shape[:3], half]
    shape.insert(along, 1)
    return ctx.reshape(ctx.concat([ctx.reshape(part, shape) for part in (real, imaginary)], along), x.shape)


def _biased(ctx: LoweringContext, bias: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Each part plus its piece of a bias for all of them."""
    if any(part.rank != 3 for part in parts):
        ctx.fail("a bias for keys and values that are split into heads is not supported")
    sums, start = [], 0
    for part in parts:
        width = part.shape[2]
        sums.append(ctx.add(part, ctx.slice(bias, [start], [width])))
        start += width
    return sums


def _padding(
    ctx: LoweringContext, mask: Tensor | None, batch: int, total: int, filtered: float
) -> list[Tensor]:
    """What a mask adds to the scores: `filtered` where it is 0; a vector gives the lengths of the rows."""
    if mask is None:
        return []
    if mask.shape == (batch,):
        places = ctx.constant(np.arange(total, dtype=np.int32).reshape(1, total))
        kept = ctx.greater(ctx.reshape(ctx.cast(mask, INT32), (batch, 1)), places)
    elif mask.shape in ((batch, total), (1, total)) or mask.rank == 3:
        kept = ctx.logical_not(ctx.equal(ctx.cast(mask, INT32), 0))
    else:
        ctx.fail(f"a mask of shape {list(mask.shape)} is not supported")
    shape = (kept.shape[0], 1, kept.shape[1] if kept.rank == 3 else 1, total)
    zero = ctx.constant(np.zeros((1, 1, 1, 1), ctx.result.dtype))
    return [ctx.select(ctx.reshape(kept, shape), zero, np.array(filtered, zero.dtype))]


def _causal(ctx: LoweringContext, length: int, total: int, dtype: np.dtype) -> list[Tensor]:
    """A query sees the past and the keys up to its own."""
    later = np.triu(np.ones((length, total), np.bool_), total - length + 1)
    return [ctx.constant(np.where(later, -np.inf, 0).astype(dtype).reshape(1, 1, length, total))]


def _attend(
    ctx: LoweringContext, q: Tensor, k: Tensor, v: Tensor, scale: float, biases: Sequence[Tensor]
) -> Tensor:
    """softmax(scale * q k' + biases) v; no scale means 1 / sqrt(size)."""
    q = ctx.mul(q, scale or 1 / math.sqrt(q.shape[3]))
    scores = batched_matmul(ctx, q, ctx.transpose(k, [0, 1, 3, 2]))
    for bias in biases:
        scores = ctx.add(scores, bias)
    return batched_matmul(ctx, softmax_along(ctx, scores, 3), v)
