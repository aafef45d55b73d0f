"""What the models of ai.onnx.ml make of their scores: labels, and one of five transformations.

ONNX leaves open how one score becomes those of two classes; this is what onnxruntime does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.softmax import softmax_along
from tosaic_passes.onnx_to_tosa.tensor import Tensor

ML = "ai.onnx.ml"

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""In the order of the numbers that TreeEnsemble gives them."""

_ALMOST_ZERO = 1e-7
"""SOFTMAX_ZERO leaves scores of at most this size out."""
_WINITZKI = 0.147
"""The constant of Winitzki's approximation of the inverse error function, which the probit is computed by."""


def samples(ctx: LoweringContext, x: Tensor) -> Tensor:
    """The operand as float32 rows [N, features]; a vector is one row."""
    rows = ctx.cast(x, FLOAT32)
    return rows if rows.rank == 2 else ctx.reshape(rows, (1, x.size) if x.rank == 1 else (x.shape[0], -1))


def matrix(ctx: LoweringContext, numbers: Sequence[float], shape: tuple[int, int], name: str) -> np.ndarray:
    """The first numbers of an attribute as rows; onnxruntime, too, leaves the rest alone."""
    if len(numbers) < shape[0] * shape[1]:
        ctx.fail(f"{name} has {len(numbers)} numbers, {shape[0]} x {shape[1]} are needed")
    return np.array(numbers[: shape[0] * shape[1]], np.float32).reshape(shape)


def affine(ctx: LoweringContext, x: Tensor, weights: np.ndarray, offsets: Sequence[float]) -> Tensor:
    """x [N, F] times weights [E, F], plus offsets [E] or [1]: [N, E]."""
    product = batched_matmul(ctx, x, ctx.constant(np.ascontiguousarray(weights.T), np.float32))
    return ctx.add(product, np.array(offsets, np.float32).reshape(1, -1)) if len(offsets) else product


def labels_at(ctx: LoweringContext, positions: Tensor, labels: Sequence[int]) -> Tensor:
    """The labels at positions [N]."""
    if list(labels) == list(range(len(labels))):
        return positions
    table = ctx.constant(np.array(labels, np.int64))
    taken = ctx.gather(ctx.reshape(table, (1, len(labels), 1)), ctx.reshape(positions, (1, positions.size)))
    return ctx.reshape(taken, (positions.size,))


def label_if(ctx: LoweringContext, is_positive: Tensor, labels: Sequence[int]) -> Tensor:
    """The second label where the condition [N, 1] holds, else the first."""
    negative, positive = (ctx.constant(np.full((1, 1), label, np.int64)) for label in labels)
    return ctx.reshape(ctx.select(is_positive, positive, negative), (is_positive.size,))


def transformed(ctx: LoweringContext, scores: Tensor, kind: str) -> Tensor:
    """Scores [N, C] after a `post_transform`; of one score alone only the probit is taken."""
    if kind not in TRANSFORMS:
        ctx.fail(f"post_transform '{kind}' is not known")
    if kind == "PROBIT":
        return _probit(ctx, scores)
    if kind == "NONE" or scores.shape[1] == 1:
        return scores
    if kind == "LOGISTIC":
        return ctx.sigmoid(scores)
    return softmax_along(ctx, scores, 1) if kind == "SOFTMAX" else _softmax_zero(ctx, scores)


def two_classes(ctx: LoweringContext, score: Tensor, kind: str, *, is_margin: bool) -> Tensor:
    """The scores [N, 2] of two classes from that of the second [N, 1]: a margin, or else a probability."""
    if kind == "PROBIT":
        ctx.fail("the probit of one score for two classes is not supported")
    if kind == "LOGISTIC":
        return ctx.sigmoid(ctx.concat([ctx.negate(score), score], 1))
    other = ctx.negate(score) if is_margin else ctx.sub(np.array(1, np.float32), score)
    return ctx.concat([other, score], 1)


def _softmax_zero(ctx: LoweringContext, scores: Tensor) -> Tensor:
    """A softmax of the scores that are not zero; a zero stays one."""
    counted = ctx.greater(ctx.abs(scores), _ALMOST_ZERO)
    powers = ctx.exp(ctx.sub(scores, ctx.reduce("reduce_max", scores, [1])))
    kept = ctx.select(counted, powers, 0.0)
    return ctx.mul(kept, ctx.reciprocal(ctx.reduce("reduce_sum", kept, [1])))


def _probit(ctx: LoweringContext, scores: Tensor) -> Tensor:
    """sqrt(2) times the inverse error function of 2 x - 1."""
    x = ctx.sub(ctx.mul(scores, 2.0), 1.0)
    logarithm = ctx.log(ctx.mul(ctx.sub(np.array(1, np.float32), x), ctx.add(x, 1.0)))
    half = ctx.add(ctx.mul(logarithm, 0.5), 2 / (math.pi * _WINITZKI))
    root = ctx.sqrt(ctx.sub(ctx.mul(half, half), ctx.mul(logarithm, 1 / _WINITZKI)))
    size = ctx.mul(ctx.sqrt(ctx.sub(root, half)), math.sqrt(2))
    return ctx.select(ctx.greater(np.array(0, np.float32), x), ctx.negate(size), size)
