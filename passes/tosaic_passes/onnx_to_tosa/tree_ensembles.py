"""Decision trees of ai.onnx.ml, all of an ensemble at once: each step looks up one node of every tree.

A walk takes as many steps as the deepest tree has levels, each a row of the nodes' table, a threshold, and the feature.
To compare at all nodes instead, and to choose the leaf by products, would cost as many comparisons as there are nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tosaic_passes.onnx_to_tosa.class_scores import (
    ML,
    TRANSFORMS,
    label_if,
    labels_at,
    samples,
    transformed,
    two_classes,
)
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.tree_tables import TreeTables, new_tables, old_tables

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
"""How TreeEnsemble numbers them."""


@lowering("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(
    ctx: LoweringContext,
    x: Tensor,
    *,
    aggregate_function: str = "SUM",
    base_values: Sequence[float] = (),
    base_values_as_tensor: np.ndarray | None = None,
    n_targets: int = 1,
    nodes_falsenodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_hitrates: Sequence[float] = (),
    nodes_hitrates_as_tensor: np.ndarray | None = None,
    nodes_missing_value_tracks_true: Sequence[int] = (),
    nodes_modes: Sequence[str],
    nodes_nodeids: Sequence[int],
    nodes_treeids: Sequence[int],
    nodes_truenodeids: Sequence[int],
    nodes_values: Sequence[float] = (),
    nodes_values_as_tensor: np.ndarray | None = None,
    post_transform: str = "NONE",
    target_ids: Sequence[int],
    target_nodeids: Sequence[int],
    target_treeids: Sequence[int],
    target_weights: Sequence[float] = (),
    target_weights_as_tensor: np.ndarray | None = None,
) -> Tensor:
    """One `tosa.gather` a step for the nodes, one for thresholds, one for features; sums by `tosa.reduce_sum`."""
    tables = _tables(
        ctx,
        (nodes_treeids, nodes_nodeids, nodes_featureids, nodes_modes),
        _numbers(nodes_values, nodes_values_as_tensor),
        (nodes_truenodeids, nodes_falsenodeids),
        nodes_missing_value_tracks_true,
        (target_treeids, target_nodeids, target_ids, _numbers(target_weights, target_weights_as_tensor)),
    )
    scores = _aggregate(ctx, tables, _walk(ctx, tables, samples(ctx, x)), n_targets, aggregate_function)
    scores = _with_base(ctx, scores, _numbers(base_values, base_values_as_tensor))
    return transformed(ctx, scores, post_transform)


@lowering("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(
    ctx: LoweringContext,
    x: Tensor,
    *,
    base_values: Sequence[float] = (),
    base_values_as_tensor: np.ndarray | None = None,
    class_ids: Sequence[int],
    class_nodeids: Sequence[int],
    class_treeids: Sequence[int],
    class_weights: Sequence[float] = (),
    class_weights_as_tensor: np.ndarray | None = None,
    classlabels_int64s: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_hitrates: Sequence[float] = (),
    nodes_hitrates_as_tensor: np.ndarray | None = None,
    nodes_missing_value_tracks_true: Sequence[int] = (),
    nodes_modes: Sequence[str],
    nodes_nodeids: Sequence[int],
    nodes_treeids: Sequence[int],
    nodes_truenodeids: Sequence[int],
    nodes_values: Sequence[float] = (),
    nodes_values_as_tensor: np.ndarray | None = None,
    post_transform: str = "NONE",
) -> tuple[Tensor, Tensor]:
    """As TreeEnsembleRegressor, then `tosa.argmax`; integer labels, of two classes as onnxruntime chooses them."""
    weights = _numbers(class_weights, class_weights_as_tensor)
    tables = _tables(
        ctx,
        (nodes_treeids, nodes_nodeids, nodes_featureids, nodes_modes),
        _numbers(nodes_values, nodes_values_as_tensor),
        (nodes_truenodeids, nodes_falsenodeids),
        nodes_missing_value_tracks_true,
        (class_treeids, class_nodeids, class_ids, weights),
    )
    count = len(classlabels_int64s)
    ends = _walk(ctx, tables, samples(ctx, x))
    scores = _aggregate(ctx, tables, ends, count, "SUM")
    base = _numbers(base_values, base_values_as_tensor)
    if count == 2 and len(set(class_ids)) == 1:
        is_probability = bool((weights >= 0).all())
        return _binary(ctx, scores, class_ids[0], base, classlabels_int64s, post_transform, is_probability)
    scores = _with_base(ctx, scores, base)
    known = scores if base.size else _only_given(ctx, tables, ends, scores)
    labels = labels_at(ctx, ctx.argmax(known, 1), classlabels_int64s)
    return labels, transformed(ctx, scores, post_transform)


@lowering("TreeEnsemble", domain=ML, since=5)
def tree_ensemble(
    ctx: LoweringContext,
    x: Tensor,
    *,
    aggregate_function: int = 1,
    leaf_targetids: Sequence[int],
    leaf_weights: np.ndarray,
    membership_values: np.ndarray | None = None,
    n_targets: int = 1,
    nodes_falseleafs: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_hitrates: np.ndarray | None = None,
    nodes_missing_value_tracks_true: Sequence[int] = (),
    nodes_modes: np.ndarray,
    nodes_splits: np.ndarray,
    nodes_trueleafs: Sequence[int],
    nodes_truenodeids: Sequence[int],
    post_transform: int = 0,
    tree_roots: Sequence[int],
) -> Tensor:
    """As TreeEnsembleRegressor; a set of values becomes a chain of nodes."""
    try:
        tables = new_tables(
            [MODES[int(mode)] for mode in nodes_modes],
            nodes_featureids,
            nodes_splits,
            ((nodes_truenodeids, nodes_trueleafs), (nodes_falsenodeids, nodes_falseleafs)),
            nodes_missing_value_tracks_true,
            np.zeros(0) if membership_values is None else membership_values,
            tree_roots,
            list(zip(leaf_targetids, np.asarray(leaf_weights).tolist())),
        )
    except (IndexError, ValueError) as error:
        ctx.fail(f"its trees are malformed: {error}")
    if aggregate_function not in range(len(AGGREGATES)) or post_transform not in range(len(TRANSFORMS)):
        ctx.fail(f"aggregate_function {aggregate_function} with post_transform {post_transform} is not known")
    ends = _walk(ctx, tables, samples(ctx, x))
    scores = _aggregate(ctx, tables, ends, n_targets, AGGREGATES[aggregate_function])
    return ctx.cast(transformed(ctx, scores, TRANSFORMS[post_transform]), x.dtype)


def _numbers(numbers: Sequence[float], tensor: np.ndarray | None) -> np.ndarray:
    return np.array(numbers, np.float32) if tensor is None else np.asarray(tensor).reshape(-1)


def _tables(
    ctx: LoweringContext,
    nodes: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[str]],
    thresholds: np.ndarray,
    children: tuple[Sequence[int], Sequence[int]],
    missing: Sequence[int],
    weights: tuple[Sequence[int], Sequence[int], Sequence[int], np.ndarray],
) -> TreeTables:
    try:
        tables, rows = old_tables(*nodes, thresholds.tolist(), children, missing)
        trees, leaves, targets, numbers = weights
        tables.leaves = [
            (rows[tree, leaf], target, weight)
            for tree, leaf, target, weight in zip(trees, leaves, targets, numbers.tolist())
        ]
        tables.depth()
    except (IndexError, KeyError, ValueError) as error:
        ctx.fail(f"its trees are malformed: {error}")
    return tables


def _walk(ctx: LoweringContext, tables: TreeTables, x: Tensor) -> Tensor:
    """The leaf [N, T] where each row of x [N, F] ends in each tree."""
    count, trees = x.shape[0], len(tables.roots)
    if max(tables.features) >= x.shape[1]:
        ctx.fail(f"feature {max(tables.features)} of {x.shape[1]} does not exist")
    columns: list[Sequence[int]] = [tables.features, tables.true_children, tables.false_children]
    columns += [column for column in (tables.equal, tables.missing) if any(column)]
    rows = ctx.constant(np.array(columns, np.int32).T[None])
    thresholds = ctx.constant(np.array(tables.thresholds, np.float32).reshape(1, -1, 1))
    values = ctx.reshape(x, (count, x.shape[1], 1))
    nodes = ctx.constant(np.tile(np.array(tables.roots, np.int32), (count, 1)))
    for _ in range(tables.depth()):
        where = ctx.reshape(nodes, (1, count * trees))
        row = ctx.reshape(ctx.gather(rows, where), (count, trees, len(columns)))
        feature, if_true, if_false, *flags = (
            ctx.reshape(ctx.slice_axis(row, 2, i, 1), (count, trees)) for i in range(len(columns))
        )
        value = ctx.reshape(ctx.gather(values, feature), (count, trees))
        threshold = ctx.reshape(ctx.gather(thresholds, where), (count, trees))
        nodes = ctx.select(_holds(ctx, tables, value, threshold, flags), if_true, if_false)
    return nodes


def _holds(
    ctx: LoweringContext, tables: TreeTables, value: Tensor, threshold: Tensor, flags: Sequence[Tensor]
) -> Tensor:
    """Whether a value passes; `flags` are the columns `equal` and `missing` of tables in which they are not all 0."""
    left = list(flags)
    holds = ctx.greater_equal(threshold, value)
    if any(tables.equal):
        asks_equality = ctx.equal(left.pop(0), 1)
        holds = ctx.logical_and(holds, ctx.logical_not(asks_equality))
        holds = ctx.logical_or(holds, ctx.logical_and(asks_equality, ctx.equal(threshold, value)))
    if any(tables.missing):
        is_nan = ctx.logical_not(ctx.equal(value, value))
        holds = ctx.logical_or(holds, ctx.logical_and(is_nan, ctx.equal(left.pop(0), 1)))
    return holds


def _aggregate(ctx: LoweringContext, tables: TreeTables, ends: Tensor, targets: int, how: str) -> Tensor:
    """What the leaves [N, T] give to each target: [N, targets]."""
    if how not in AGGREGATES:
        ctx.fail(f"aggregate_function '{how}' is not known")
    if any(not 0 <= target < targets for _, target, _ in tables.leaves):
        ctx.fail(f"a leaf gives to another target than its {targets}")
    count, trees = ends.shape
    where = ctx.reshape(ends, (1, count * trees))
    if how in ("SUM", "AVERAGE") and targets > 1:
        one_target = _target_of_trees(tables)
        if one_target is not None:
            weights = ctx.reshape(ctx.gather(_weights(ctx, tables, 1, 0.0), where), (count, trees))
            total = batched_matmul(ctx, weights, ctx.constant(np.eye(targets, dtype=np.float32)[one_target]))
            return ctx.mul(total, 1 / trees) if how == "AVERAGE" else total
    absent = {"MIN": np.inf, "MAX": -np.inf}.get(how, 0.0)
    given = ctx.gather(_weights(ctx, tables, targets, absent), where)
    given = ctx.reshape(given, (count, trees, targets))
    if how in ("MIN", "MAX"):
        found = ctx.reduce(f"reduce_{how.lower()}", given, [1], keepdims=False)
        return ctx.select(ctx.equal(found, absent), 0.0, found)
    total = ctx.reduce("reduce_sum", given, [1], keepdims=False)
    return ctx.mul(total, 1 / trees) if how == "AVERAGE" else total


def _only_given(ctx: LoweringContext, tables: TreeTables, ends: Tensor, scores: Tensor) -> Tensor:
    """Scores of which those of classes that no leaf has given to are the least: a negative one still wins over them."""
    count = scores.shape[1]
    if all(weight >= 0 for _, _, weight in tables.leaves) or tables.always_given() == set(range(count)):
        return scores
    ones = replace(tables, leaves=[(node, target, 1.0) for node, target, _ in tables.leaves])
    return ctx.select(ctx.greater(_aggregate(ctx, ones, ends, count, "SUM"), 0.0), scores, -np.inf)


def _target_of_trees(tables: TreeTables) -> np.ndarray | None:
    """The one target [T] that each tree gives to, None if a tree gives to several."""
    tree_of_node = tables.trees()
    found = np.full(len(tables.roots), -1)
    for node, target, _ in tables.leaves:
        tree = tree_of_node[node]
        if found[tree] not in (-1, target):
            return None
        found[tree] = target
    return np.maximum(found, 0)


def _weights(ctx: LoweringContext, tables: TreeTables, targets: int, absent: float) -> Tensor:
    """What each node gives to each target, [1, nodes, targets]; all to one if there is but one."""
    table = np.full((len(tables.features), targets), absent, np.float32)
    for node, target, weight in tables.leaves:
        column = 0 if targets == 1 else target
        table[node, column] = weight if table[node, column] == absent else table[node, column] + weight
    return ctx.constant(table[None])


def _with_base(ctx: LoweringContext, scores: Tensor, base: np.ndarray) -> Tensor:
    if base.size != scores.shape[1]:
        return scores
    return ctx.add(scores, base.astype(np.float32).reshape(1, -1))


def _binary(
    ctx: LoweringContext,
    scores: Tensor,
    target: int,
    base: np.ndarray,
    labels: Sequence[int],
    kind: str,
    is_probability: bool,
) -> tuple[Tensor, Tensor]:
    """Two classes of which the trees know one: its score is that of the second class."""
    score = ctx.slice_axis(scores, 1, target, 1)
    if base.size:
        score = ctx.add(score, float(base[-1] if base.size == 2 else base[0]))
    chosen = label_if(ctx, ctx.greater(score, 0.5 if is_probability else 0.0), labels)
    if base.size == 2:
        return chosen, transformed(ctx, ctx.concat([ctx.negate(score), score], 1), kind)
    return chosen, two_classes(ctx, score, kind, is_margin=not is_probability)
