"""Ops on sequences of words, which are numbers here: TOSA has no strings."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.adding_rows import add_rows
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(
    ctx: LoweringContext,
    x: Tensor,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] = (),
    weights: Sequence[float] = (),
) -> Tensor:
    """Every n-gram of the pool compared with every place (`tosa.equal`), the hits added up and weighted. No strings."""
    if mode not in ("TF", "IDF", "TFIDF"):
        ctx.fail(f"mode '{mode}' is not known")
    words = ctx.reshape(x, (1, *x.shape) if x.rank == 1 else x.shape)
    pools = _pools(pool_int64s, ngram_counts)
    chosen: list[int] = []
    counts, first = [], 0
    for length, pool in enumerate(pools, 1):
        if min_gram_length <= length <= max_gram_length and len(pool):
            distances = range(1, max_skip_count + 2 if length > 1 else 2)
            counts.append(_occurrences(ctx, words, pool, distances))
            chosen += range(first, first + len(pool))
        first += len(pool)
    if not counts:
        return ctx.constant(np.zeros(ctx.result.shape, np.float32))
    found = ctx.concat(counts, 1)
    if mode == "IDF":
        found = ctx.cast(ctx.greater(found, 0), FLOAT32)
    if mode != "TF" and weights:
        found = ctx.mul(found, np.array(weights, np.float32)[chosen])
    columns = np.array(ngram_indexes)[chosen]
    placed = add_rows(ctx, ctx.reshape(found, (*found.shape, 1)), columns, ctx.result.shape[-1])
    return ctx.reshape(placed, ctx.result.shape)


def _pools(words: Sequence[int], starts: Sequence[int]) -> list[np.ndarray]:
    """The n-grams of length 1, 2, ..., each as [grams, length]."""
    ends = [*starts[1:], len(words)]
    return [
        np.array(words[start:end], np.int64).reshape(-1, length)
        for length, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
    ]


def _occurrences(ctx: LoweringContext, words: Tensor, pool: np.ndarray, distances: range) -> Tensor:
    """How often each n-gram occurs in a row of words, [N, grams] in f32, its words at one of these distances."""
    rows, count = words.shape
    total = ctx.constant(np.zeros((rows, len(pool)), np.float32))
    for distance in distances:
        places = count - distance * (pool.shape[1] - 1)
        if places < 1:
            continue
        matches = [
            ctx.equal(
                ctx.reshape(ctx.slice_axis(words, 1, index * distance, places), (rows, places, 1)),
                ctx.constant(pool[:, index].reshape(1, 1, -1)),
            )
            for index in range(pool.shape[1])
        ]
        hits = ctx.cast(functools.reduce(ctx.logical_and, matches), FLOAT32)
        total = ctx.add(total, ctx.reduce("reduce_sum", hits, [1], keepdims=False))
    return total
