"""ONNX's own Attention, where several heads of queries may share one head of keys and values.

The functions in the schemas of onnx 1.21 cap scores after masking, let a query of a causal attention with a past see
too little of it, and give NaN where all keys are masked. onnx 1.23 corrected that in place, for opsets 23 and 24 too;
this follows it, as onnxruntime does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, FLOAT32, INT32, limits
from tosaic_passes.onnx_to_tosa.heads import joined_heads, split_heads
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

CAPPED, BIASED, PROBABLE = 1, 2, 3
"""What the fourth result shows: scores after the cap, after masking, probabilities; 0: the products."""


@lowering("Attention", since=23)
def attention(
    ctx: LoweringContext,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Products, cap, mask, softmax, values: `tosa.matmul`, `tosa.tanh`, `tosa.select` and a softmax."""
    q, k, v = (
        split_heads(ctx, x, heads) if x.rank == 3 else x
        for x, heads in ((query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads))
    )
    before = 0
    if past_key is not None and past_value is not None:
        before = past_key.shape[2]
        k, v = ctx.concat([past_key, k], 2), ctx.concat([past_value, v], 2)
    factor = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    products = shared_matmul(ctx, ctx.mul(q, factor), ctx.transpose(k, [0, 1, 3, 2]))
    capped = ctx.mul(ctx.tanh(ctx.mul(products, 1 / softcap)), softcap) if softcap > 0 else products
    masks = _padding(ctx, lengths, k.shape[2])
    masks += _causal(ctx, lengths, before, (q.shape[2], k.shape[2])) if is_causal else []
    biased = _masked(ctx, capped, mask, masks)
    rows = biased if not softmax_precision else ctx.cast(biased, _dtype(softmax_precision))
    chances = ctx.cast(_softmax(ctx, rows, mask is not None or bool(masks)), v.dtype)
    result = shared_matmul(ctx, chances, v)
    shown = {CAPPED: capped, BIASED: biased, PROBABLE: chances}.get(qk_matmul_output_mode, products)
    return joined_heads(ctx, result) if query.rank == 3 else result, k, v, shown


def shared_matmul(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    """a [batch, heads * n, rows, size] times b [batch, heads, size, columns], which n heads of `a` share.

    The rows of those n heads stand one below the other, so b is not repeated.
    """
    batch, heads, rows, size = a.shape
    groups = b.shape[1]
    stacked = ctx.reshape(a, (batch, groups, heads // groups * rows, size))
    return ctx.reshape(batched_matmul(ctx, stacked, b), (batch, heads, rows, b.shape[3]))


def _dtype(number: int) -> np.dtype:
    """The dtype of a softmax; f32 for f64, which TOSA has not."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    return FLOAT32 if dtype == np.float64 else dtype


def _padding(ctx: LoweringContext, lengths: Tensor | None, total: int) -> list[Tensor]:
    """Which keys [batch, 1, 1, total] are no padding: the first ones, as many as `lengths` says."""
    if lengths is None:
        return []
    count = ctx.reshape(ctx.cast(lengths, INT32), (lengths.size, 1, 1, 1))
    return [ctx.greater(count, ctx.constant(np.arange(total, dtype=np.int32).reshape(1, 1, 1, total)))]


def _causal(ctx: LoweringContext, lengths: Tensor | None, before: int, size: tuple[int, int]) -> list[Tensor]:
    """Which keys a query sees: those up to its own place, which is its number plus that of the keys before it.

    With lengths (a cache that already holds the queries' own keys) the last query's place is the last key's.
    """
    queries, total = size
    ahead = np.arange(total, dtype=np.int32)[None, :] - np.arange(queries, dtype=np.int32)[:, None]
    ahead = ahead.reshape(1, 1, queries, total)
    if lengths is None or before:
        return [ctx.constant(ahead <= before)]
    offset = ctx.sub(ctx.reshape(ctx.cast(lengths, INT32), (lengths.size, 1, 1, 1)), queries)
    return [ctx.greater_equal(offset, ctx.constant(ahead))]


def _masked(ctx: LoweringContext, scores: Tensor, mask: Tensor | None, kept: Sequence[Tensor]) -> Tensor:
    """Scores plus a float mask, minus infinity where a mask of bools or one of `kept` is false."""
    if mask is not None:
        mask = _padded(ctx, ctx.reshape(mask, (*[1] * (4 - mask.rank), *mask.shape)), scores.shape[3])
        if mask.dtype == BOOL:
            kept = [mask, *kept]
        else:
            scores = ctx.add(scores, mask)
    if not kept:
        return scores
    both = kept[0]
    for other in kept[1:]:
        both = ctx.logical_and(both, other)
    return ctx.select(both, scores, np.array(-np.inf, scores.dtype))


def _padded(ctx: LoweringContext, mask: Tensor, total: int) -> Tensor:
    """A mask [batch, heads, queries, keys] that hides the keys it does not reach."""
    missing = total - mask.shape[3]
    if missing == 0 or mask.shape[3] == 1:
        return mask
    hidden = np.full((*mask.shape[:3], missing), 0 if mask.dtype == BOOL else -np.inf)
    return ctx.concat([mask, ctx.constant(hidden, mask.dtype)], 3)


def _softmax(ctx: LoweringContext, scores: Tensor, is_masked: bool) -> Tensor:
    """exp(x - max) / sum(exp(x - max)) along the last axis, zeros in rows of nothing but minus infinity.

    Such a row has a sum of 0. Every other one has a 1 in its sum, for the greatest score, so bounds of the lowest
    finite number for the maximum and of 1 for the sum change nothing there.
    """
    greatest = ctx.reduce("reduce_max", scores, [3])
    if is_masked:
        greatest = ctx.maximum(greatest, limits(scores.dtype)[0])
    powers = ctx.exp(ctx.sub(scores, greatest))
    total = ctx.reduce("reduce_sum", powers, [3])
    return ctx.mul(powers, ctx.reciprocal(ctx.maximum(total, 1.0) if is_masked else total))
