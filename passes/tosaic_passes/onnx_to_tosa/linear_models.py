"""Linear models and support vector machines of ai.onnx.ml."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.class_scores import (
    ML,
    affine,
    label_if,
    labels_at,
    matrix,
    samples,
    transformed,
    two_classes,
)
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("LinearRegressor", domain=ML)
def linear_regressor(
    ctx: LoweringContext,
    x: Tensor,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    post_transform: str = "NONE",
    targets: int = 1,
) -> Tensor:
    """`tosa.matmul` and `tosa.add`."""
    scores = _scores(ctx, samples(ctx, x), coefficients, intercepts, targets)
    return transformed(ctx, scores, post_transform)


@lowering("LinearClassifier", domain=ML)
def linear_classifier(
    ctx: LoweringContext,
    x: Tensor,
    *,
    classlabels_ints: Sequence[int],
    coefficients: Sequence[float],
    intercepts: Sequence[float],
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Tensor, Tensor]:
    """`tosa.matmul`, `tosa.add` and `tosa.argmax`; integer labels, no probit of one score for two classes."""
    scores = _scores(ctx, samples(ctx, x), coefficients, intercepts, len(intercepts))
    if scores.shape[1] > 1:
        if len(classlabels_ints) < scores.shape[1]:
            ctx.fail(f"it has {len(classlabels_ints)} labels for {scores.shape[1]} classes")
        labels = labels_at(ctx, ctx.argmax(scores, 1), classlabels_ints)
        return labels, transformed(ctx, scores, post_transform)
    has_two = len(classlabels_ints) == 2
    labels = label_if(ctx, ctx.greater(scores, 0.0), classlabels_ints if has_two else (0, 1))
    if has_two:
        return labels, two_classes(ctx, scores, post_transform, is_margin=False)
    return labels, transformed(ctx, scores, post_transform)


@lowering("SVMRegressor", domain=ML)
def svm_regressor(
    ctx: LoweringContext,
    x: Tensor,
    *,
    coefficients: Sequence[float],
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    n_supports: int = 0,
    one_class: int = 0,
    post_transform: str = "NONE",
    rho: Sequence[float],
    support_vectors: Sequence[float] = (),
) -> Tensor:
    """The kernel of each support vector by `tosa.matmul`, their sum by another."""
    rows = samples(ctx, x)
    if n_supports:
        vectors = matrix(ctx, support_vectors, (n_supports, rows.shape[1]), "support_vectors")
        rows = _kernel(ctx, rows, vectors, kernel_type, kernel_params)
    result = _scores(ctx, rows, coefficients, rho[:1], 1)
    if one_class:
        result = ctx.sub(ctx.mul(ctx.cast(ctx.greater(result, 0.0), FLOAT32), 2.0), 1.0)
    return result


@lowering("SVMClassifier", domain=ML)
def svm_classifier(
    ctx: LoweringContext,
    x: Tensor,
    *,
    classlabels_ints: Sequence[int],
    coefficients: Sequence[float],
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    post_transform: str = "NONE",
    prob_a: Sequence[float] = (),
    prob_b: Sequence[float] = (),
    rho: Sequence[float],
    support_vectors: Sequence[float] = (),
    vectors_per_class: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Kernels by `tosa.matmul`, each pair of classes by another, votes by a third; integer labels.

    Probabilities of two classes only: those of more are found step by step (libsvm), as far as their sum changes.
    """
    count = len(classlabels_ints)
    if count < 2 or len(vectors_per_class) != count or not sum(vectors_per_class):
        ctx.fail("only classifiers with support vectors of two or more classes are supported")
    rows = samples(ctx, x)
    vectors = matrix(ctx, support_vectors, (sum(vectors_per_class), rows.shape[1]), "support_vectors")
    kernels = _kernel(ctx, rows, vectors, kernel_type, kernel_params)
    pairs = list(itertools.combinations(range(count), 2))
    table = matrix(ctx, coefficients, (count - 1, len(vectors)), "coefficients")
    weights = _pair_weights(table, vectors_per_class, pairs)
    margins = affine(ctx, kernels, weights, _offsets(ctx, rho[: len(pairs)], len(pairs)))
    labels = labels_at(ctx, ctx.argmax(_votes(ctx, margins, pairs, count), 1), classlabels_ints)
    if prob_a:
        return labels, transformed(ctx, _two_chances(ctx, margins, prob_a, prob_b), post_transform)
    if count == 2:
        return labels, two_classes(ctx, margins, post_transform, is_margin=post_transform == "NONE")
    return labels, transformed(ctx, margins, post_transform)


def _scores(
    ctx: LoweringContext, rows: Tensor, coefficients: Sequence[float], offsets: Sequence[float], count: int
) -> Tensor:
    """So many linear functions of each row [N, F]: [N, count]."""
    weights = matrix(ctx, coefficients, (count, rows.shape[1]), "coefficients")
    return affine(ctx, rows, weights, _offsets(ctx, offsets, count))


def _offsets(ctx: LoweringContext, numbers: Sequence[float], count: int) -> Sequence[float]:
    """What is added to the scores: nothing, or a number for each."""
    if len(numbers) not in (0, count):
        ctx.fail(f"it has {len(numbers)} offsets for {count} scores")
    return numbers


def _kernel(
    ctx: LoweringContext, x: Tensor, vectors: np.ndarray, kind: str, parameters: Sequence[float]
) -> Tensor:
    """The kernel function of each row of x [N, F] and each vector [S, F]: [N, S].

    Parameters are gamma, coef0 and the degree: (gamma x'v + coef0)^degree, tanh(gamma x'v + coef0),
    exp(-gamma |x - v|^2).
    """
    gamma, constant, degree = (float(p) for p in (*parameters, 0, 0, 0)[:3])
    if kind == "RBF":
        return ctx.exp(ctx.mul(_square_distances(ctx, x, vectors), -gamma))
    if kind == "LINEAR":
        return affine(ctx, x, vectors, ())
    if kind not in ("POLY", "SIGMOID"):
        ctx.fail(f"kernel_type '{kind}' is not known")
    inner = affine(ctx, x, vectors * np.float32(gamma), [constant])
    return ctx.tanh(inner) if kind == "SIGMOID" else _power(ctx, inner, degree)


def _square_distances(ctx: LoweringContext, x: Tensor, vectors: np.ndarray) -> Tensor:
    """|x - v|^2 of each row [N, F] and each vector [S, F], from differences: the square of a sum would lose digits."""
    count, size = vectors.shape
    differences = ctx.sub(
        ctx.reshape(x, (x.shape[0], 1, size)), ctx.constant(vectors.reshape(1, count, size), np.float32)
    )
    return ctx.reduce("reduce_sum", ctx.mul(differences, differences), [2], keepdims=False)


def _power(ctx: LoweringContext, x: Tensor, degree: float) -> Tensor:
    if degree != int(degree) or not 0 <= degree <= 16:
        ctx.fail(f"a polynomial of degree {degree:g} is not supported")
    result = x
    for _ in range(int(degree) - 1):
        result = ctx.mul(result, x)
    return result if degree else ctx.elementwise("pow", x, 0.0)


def _pair_weights(table: np.ndarray, vectors: Sequence[int], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """What each support vector counts in each pair of classes [pairs, vectors].

    Row r of the table of coefficients [classes - 1, vectors] holds for each vector its weight against the class r, or
    r + 1 from its own class on.
    """
    ends = np.cumsum(vectors)
    of_class = [slice(end - size, end) for end, size in zip(ends, vectors)]
    weights = np.zeros((len(pairs), int(ends[-1])), np.float32)
    for row, (one, other) in zip(weights, pairs):
        row[of_class[one]] = table[other - 1, of_class[one]]
        row[of_class[other]] = table[one, of_class[other]]
    return weights


def _votes(ctx: LoweringContext, margins: Tensor, pairs: Sequence[tuple[int, int]], count: int) -> Tensor:
    """How many pairs each class has won [N, C]; margins [N, pairs] above 0 are won by the first of the pair."""
    wins = ctx.cast(ctx.greater(margins, 0.0), FLOAT32)
    places = np.arange(count)
    first, second = (np.array([pair[i] for pair in pairs])[:, None] == places for i in (0, 1))
    gains = ctx.constant(first.astype(np.float32) - second.astype(np.float32))
    return ctx.add(batched_matmul(ctx, wins, gains), second.sum(0, dtype=np.float32).reshape(1, -1))


def _two_chances(
    ctx: LoweringContext, margins: Tensor, slopes: Sequence[float], offsets: Sequence[float]
) -> Tensor:
    """The probabilities [N, 2] of two classes by Platt's sigmoid of their margin [N, 1]."""
    if len(slopes) > 1 or len(offsets) != 1:
        ctx.fail(
            "probabilities of more than two classes are found by iteration until little changes",
            "train without probabilities, or one classifier for each class",
        )
    chance = ctx.sigmoid(ctx.negate(ctx.add(ctx.mul(margins, slopes[0]), offsets[0])))
    chance = ctx.clamp(chance, 1e-7, 1 - 1e-7)
    return ctx.concat([chance, ctx.sub(np.array(1, np.float32), chance)], 1)
