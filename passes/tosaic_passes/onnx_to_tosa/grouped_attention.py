"""Attention where several heads of queries may share one head of keys and values: ONNX's, and onnxruntime's.

onnx 1.22 turned the order of cap and mask round in place, for opsets 23 and 24 too, as onnxruntime has it: a cap after
the mask lets masked keys leak into the result. Attention does it in the order of the onnx that is installed. The
functions in the schemas of onnx 1.21 also let a query of a causal attention with a past see too little of it, and give
NaN where all keys are masked; that is never followed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from tosaic_passes.onnx_to_tosa.attention import CONTRIB, rotated
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, FLOAT32, INT32, limits
from tosaic_passes.onnx_to_tosa.heads import joined_heads, split_heads
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

CAPS_FIRST = tuple(map(int, onnx.__version__.split(".")[:2])) >= (1, 22)
"""Whether scores are capped before they are masked."""
FIRST, SECOND, PROBABLE = 1, 2, 3
"""What the fourth result shows: scores after the first of cap and mask, after both, probabilities; 0: the products."""


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
    masks = _padding(ctx, lengths, k.shape[2])
    masks += _causal(ctx, lengths, before, (q.shape[2], k.shape[2])) if is_causal else []
    if CAPS_FIRST:
        first = _capped(ctx, products, softcap)
        second = _masked(ctx, first, mask, masks)
    else:
        first = _masked(ctx, products, mask, masks)
        second = _capped(ctx, first, softcap)
    rows = second if not softmax_precision else ctx.cast(second, _dtype(softmax_precision))
    chances = ctx.cast(_softmax(ctx, rows, mask is not None or bool(masks)), v.dtype)
    result = shared_matmul(ctx, chances, v)
    shown = {FIRST: first, SECOND: second, PROBABLE: chances}.get(qk_matmul_output_mode, products)
    return joined_heads(ctx, result) if query.rank == 3 else result, k, v, shown


@lowering("GroupQueryAttention", domain=CONTRIB)
def group_query_attention(
    ctx: LoweringContext,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    last_positions: Tensor | None = None,
    total_length: Tensor | None = None,
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *,
    do_rotary: int = 0,
    k_quant_type: str = "NONE",
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = 0,
    softcap: float = 0.0,
    v_quant_type: str = "NONE",
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention with a cache whose rows are of different lengths: `tosa.gather` puts new keys in their places.

    Caches are not quantised, and the softmax has no sink.
    """
    if smooth_softmax or last_positions is None or {k_quant_type, v_quant_type} != {"NONE"}:
        ctx.fail("quantised caches, a smooth softmax and missing lengths are not supported")
    if kv_num_heads < 1 or num_heads < 1 or num_heads % kv_num_heads:
        ctx.fail(f"{num_heads} heads of queries cannot share {kv_num_heads} of keys")
    q, k, v = _three_parts(ctx, query, key, value, (num_heads, kv_num_heads))
    batch, _, length, size = q.shape
    total = int(ctx.required_constant(_present(ctx, total_length), "total_sequence_length").reshape(()))
    ends = ctx.reshape(ctx.cast(last_positions, INT32), (batch, 1))
    starts = ctx.constant(np.zeros((batch, 1), np.int32)) if length == total else ctx.sub(ends, length - 1)
    if do_rotary:
        places = ctx.add(starts, ctx.constant(np.arange(length, dtype=np.int32).reshape(1, length)))
        ids = places if position_ids is None else ctx.cast(position_ids, INT32)
        turning = ctx.reshape(ids, (batch * length,)), (_present(ctx, cos_cache), _present(ctx, sin_cache))
        q, k = (rotated(ctx, x, *turning, bool(rotary_interleaved)) for x in (q, k))
    rows = max(total, 0 if past_key is None else past_key.shape[2])
    keys, values = (_cached(ctx, past, x, starts, rows) for past, x in ((past_key, k), (past_value, v)))
    products = shared_matmul(ctx, ctx.mul(q, scale or 1 / math.sqrt(size)), ctx.transpose(keys, [0, 1, 3, 2]))
    kept = _seen(ctx, starts, ends, (length, rows), local_window_size)
    bias = None if attention_bias is None else ctx.slice_axis(attention_bias, 3, 0, rows)
    chances = _softmax(ctx, _masked(ctx, _capped(ctx, products, softcap), bias, kept), True)
    return joined_heads(ctx, shared_matmul(ctx, chances, values)), keys, values


def _present(ctx: LoweringContext, operand: Tensor | None) -> Tensor:
    if operand is None:
        ctx.fail("a required operand is missing")
    return operand


def _three_parts(
    ctx: LoweringContext, query: Tensor, key: Tensor | None, value: Tensor | None, heads: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [batch, heads, length, size]; without keys all three are packed in the first."""
    of_queries, of_keys = heads
    if key is None or value is None:
        size = query.shape[2] // (of_queries + 2 * of_keys)
        widths = [of_queries * size, of_keys * size, of_keys * size]
        parts = [ctx.slice_axis(query, 2, sum(widths[:i]), width) for i, width in enumerate(widths)]
    else:
        parts = [query, key, value]
    q, k, v = (split_heads(ctx, x, count) for x, count in zip(parts, (of_queries, of_keys, of_keys)))
    return q, k, v


def _cached(ctx: LoweringContext, past: Tensor | None, new: Tensor, starts: Tensor, rows: int) -> Tensor:
    """The rows of the past before `starts` [batch, 1], the new ones from there on, zeros after them."""
    batch, heads, length, size = new.shape
    if past is None and length == rows:
        return new
    offsets = ctx.sub(ctx.constant(np.arange(rows, dtype=np.int32).reshape(1, rows)), starts)
    places = ctx.broadcast_to(ctx.minimum(ctx.maximum(offsets, 0), length - 1), (batch, rows))
    moved = split_heads(ctx, ctx.gather(joined_heads(ctx, new), places), heads)
    column = ctx.reshape(offsets, (batch, 1, rows, 1))
    is_new = ctx.logical_and(ctx.greater_equal(column, 0), ctx.greater(length, column))
    after = ctx.select(is_new, moved, 0.0)
    if past is None:
        return after
    missing = rows - past.shape[2]
    if missing:
        past = ctx.concat([past, ctx.constant(np.zeros((batch, heads, missing, size)), past.dtype)], 2)
    return ctx.select(ctx.greater(0, column), past, after)


def _seen(
    ctx: LoweringContext, starts: Tensor, ends: Tensor, size: tuple[int, int], window: int
) -> list[Tensor]:
    """The rows that a query sees: up to its own place, up to the end of its sequence, as far back as the window."""
    length, rows = size
    batch = starts.shape[0]
    queries = ctx.constant(np.arange(length, dtype=np.int32).reshape(1, 1, length, 1))
    places = ctx.add(ctx.reshape(starts, (batch, 1, 1, 1)), queries)
    keys = ctx.constant(np.arange(rows, dtype=np.int32).reshape(1, 1, 1, rows))
    kept = [ctx.greater_equal(places, keys), ctx.greater_equal(ctx.reshape(ends, (batch, 1, 1, 1)), keys)]
    return [*kept, ctx.greater(keys, ctx.sub(places, window))] if window > 0 else kept


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


def _capped(ctx: LoweringContext, scores: Tensor, cap: float) -> Tensor:
    """Scores between -cap and cap; a cap of 0 is none."""
    return ctx.mul(ctx.tanh(ctx.mul(scores, 1 / cap)), cap) if cap > 0 else scores


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
