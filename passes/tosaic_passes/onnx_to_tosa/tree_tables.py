"""Ensembles of decision trees as tables: one row for each node, and what each leaf gives.

The comparisons of ONNX become two, "at most" and "equal", by exchanging children and by stepping to the neighbouring
threshold; a node that asks whether a feature is one of a set becomes a chain of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

LEAF = "LEAF"
_STRICT = {"BRANCH_LT", "BRANCH_GTE"}
_GREATER = {"BRANCH_GTE", "BRANCH_GT", "BRANCH_NEQ"}
_EQUAL = {"BRANCH_EQ", "BRANCH_NEQ"}


@dataclass
class TreeTables:
    """Rows of nodes. A leaf is its own child, so a walk that has arrived stays.

    `equal`: the node compares for equality, not for "at most". `missing`: a NaN goes to the true child.
    `leaves` holds what a leaf gives: (node, target, weight).
    """

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    true_children: list[int] = field(default_factory=list)
    false_children: list[int] = field(default_factory=list)
    equal: list[bool] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    leaves: list[tuple[int, int, float]] = field(default_factory=list)

    def leaf(self) -> int:
        """A new leaf."""
        return self._row(0, 0.0, False, False)

    def branch(self, mode: str, feature: int, threshold: float, missing: bool) -> int:
        """A new branch, whose children `connect` names. A NaN is not equal to anything: BRANCH_NEQ is true of it."""
        true_of_nan = missing or mode == "BRANCH_NEQ"
        is_exchanged = mode in _GREATER
        return self._row(feature, _at_most(mode, threshold), mode in _EQUAL, true_of_nan != is_exchanged)

    def connect(self, node: int, mode: str, true_child: int, false_child: int) -> None:
        """Where a branch of a mode leads."""
        if mode in _GREATER:
            true_child, false_child = false_child, true_child
        self.true_children[node], self.false_children[node] = true_child, false_child

    def depth(self) -> int:
        """The most branches between a root and a leaf. ValueError if a walk comes back to where it was."""
        level, reached = 0, np.array(self.roots)
        children = np.array([self.true_children, self.false_children])
        while True:
            inner = reached[children[0][reached] != reached]
            if not inner.size:
                return level
            if level > len(self.features):
                raise ValueError("the nodes of a tree form a circle")
            reached, level = np.unique(children[:, inner]), level + 1

    def trees(self) -> np.ndarray:
        """The number of the tree of each node [nodes]."""
        tree = np.zeros(len(self.features), np.int64)
        children = np.array([self.true_children, self.false_children])
        for number, root in enumerate(self.roots):
            reached = np.array([root])
            while reached.size:
                tree[reached] = number
                inner = reached[children[0][reached] != reached]
                reached = np.unique(children[:, inner])
        return tree

    def always_given(self) -> set[int]:
        """The targets to which all leaves of some tree give."""
        given: dict[int, set[int]] = {}
        for node, target, _ in self.leaves:
            given.setdefault(node, set()).add(target)
        trees = self.trees()
        found = set()
        for tree in range(len(self.roots)):
            leaves = [n for n in np.flatnonzero(trees == tree) if self.true_children[n] == n]
            found |= set.intersection(*(given.get(int(leaf), set()) for leaf in leaves))
        return found

    def _row(self, feature: int, threshold: float, equal: bool, missing: bool) -> int:
        node = len(self.features)
        self.features.append(feature)
        self.thresholds.append(threshold)
        self.true_children.append(node)
        self.false_children.append(node)
        self.equal.append(equal)
        self.missing.append(missing)
        return node


def _at_most(mode: str, threshold: float) -> float:
    """The float32 t for which x <= t (or x == t) is what a mode asks of x, up to exchanged children.

    x < v is x <= the next float32 below v. A float64 v is rounded as a float64 x is, so equal ones stay equal.
    """
    near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if mode in _STRICT else near)


def old_tables(
    trees: Sequence[int],
    nodes: Sequence[int],
    features: Sequence[int],
    modes: Sequence[str],
    thresholds: Sequence[float],
    children: tuple[Sequence[int], Sequence[int]],
    missing: Sequence[int],
) -> tuple[TreeTables, dict[tuple[int, int], int]]:
    """The nodes of TreeEnsembleRegressor and TreeEnsembleClassifier, and where each (tree, node) is.

    The first node of a tree is its root. ValueError for a child that is no node.
    """
    tables = TreeTables()
    rows: dict[tuple[int, int], int] = {}
    for index, key in enumerate(zip(trees, nodes)):
        if key in rows:
            raise ValueError(f"node {key[1]} of tree {key[0]} is there twice")
        is_missing = bool(missing[index]) if len(missing) else False
        rows[key] = (
            tables.leaf()
            if modes[index] == LEAF
            else tables.branch(modes[index], features[index], float(thresholds[index]), is_missing)
        )
    seen = set()
    for index, (tree, node) in enumerate(zip(trees, nodes)):
        if tree not in seen:
            seen.add(tree)
            tables.roots.append(rows[tree, node])
        if modes[index] != LEAF:
            one, other = ((tree, child[index]) for child in children)
            if one not in rows or other not in rows:
                raise ValueError(f"a child of node {node} of tree {tree} is missing")
            tables.connect(rows[tree, node], modes[index], rows[one], rows[other])
    return tables, rows


def new_tables(
    modes: Sequence[str],
    features: Sequence[int],
    splits: np.ndarray,
    children: tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]],
    missing: Sequence[int],
    members: np.ndarray,
    roots: Sequence[int],
    leaves: Sequence[tuple[int, float]],
) -> TreeTables:
    """The nodes of TreeEnsemble, whose leaves have numbers of their own.

    `children` are, for true and for false, the numbers and whether they are those of leaves; `members` the sets of
    BRANCH_MEMBER one after the other, each ended by a NaN. A root whose children are the same leaf is a leaf.
    """
    tables = TreeTables()
    chains = _chains(tables, modes, features, splits, missing, members)
    rows = [tables.leaf() for _ in leaves]
    tables.leaves = [(row, target, weight) for row, (target, weight) in zip(rows, leaves)]
    for index, chain in enumerate(chains):
        mode = "BRANCH_EQ" if modes[index] == "BRANCH_MEMBER" else modes[index]
        one, other = (
            rows[ids[index]] if is_leaf[index] else chains[ids[index]][0] for ids, is_leaf in children
        )
        for node, successor in zip(chain, [*chain[1:], other]):
            tables.connect(node, mode, one, successor)
    tables.roots = [chains[root][0] for root in roots]
    tables.depth()
    return tables


def _chains(
    tables: TreeTables,
    modes: Sequence[str],
    features: Sequence[int],
    splits: np.ndarray,
    missing: Sequence[int],
    members: np.ndarray,
) -> list[list[int]]:
    """The rows that each node becomes: one, or for a set one for each member."""
    ends = np.flatnonzero(np.isnan(members.astype(np.float64)))
    sets = [members[start:end] for start, end in zip([0, *(ends + 1)], ends)]
    chains, used = [], 0
    for index, (mode, feature) in enumerate(zip(modes, features)):
        is_missing = bool(missing[index]) if len(missing) else False
        if mode == "BRANCH_MEMBER":
            values, mode, used = sets[used].tolist(), "BRANCH_EQ", used + 1
        else:
            values = [float(splits[index])]
        chains.append([tables.branch(mode, feature, value, is_missing) for value in values])
    return chains
