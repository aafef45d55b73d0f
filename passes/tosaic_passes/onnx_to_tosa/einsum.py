"""Einstein summation: diagonals, sums and batched matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.movement import take_ranges
from tosaic_passes.onnx_to_tosa.reduction import reduce_sum
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@dataclass(frozen=True)
class Labelled:
    """A tensor with one label an axis."""

    tensor: Tensor
    labels: str

    def size(self, label: str) -> int:
        return self.tensor.shape[self.labels.index(label)]


@lowering("Einsum", since=12)
def einsum(ctx: LoweringContext, *operands: Tensor, equation: str) -> Tensor:
    """Any equation: pairs of operands from left to right by `tosa.matmul`, diagonals by slices, sums first."""
    inputs, output = _parse(ctx, equation.replace(" ", ""), operands)
    terms = [_without_repeats(ctx, Labelled(x, labels)) for x, labels in zip(operands, inputs)]
    joined = terms[0]
    for index, term in enumerate(terms[1:], 1):
        later = set(output).union(*(other.labels for other in terms[index + 1 :]))
        joined = _contract(ctx, joined, term, later)
    joined = _summed(ctx, joined, output)
    return ctx.transpose(joined.tensor, [joined.labels.index(label) for label in output])


def _parse(ctx: LoweringContext, equation: str, operands: tuple[Tensor, ...]) -> tuple[list[str], str]:
    """Labels of every operand and of the result; the axes of an ellipsis get upper-case Greek labels."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        ctx.fail(f"the equation '{equation}' has {len(terms)} terms for {len(operands)} operands")
    named = [len(term.replace("...", "")) for term in terms]
    most = max((x.rank - n for term, x, n in zip(terms, operands, named) if "..." in term), default=0)
    dots = "".join(chr(0x391 + i) for i in range(most))
    full = [term.replace("...", dots[most - (x.rank - n) :]) for term, x, n in zip(terms, operands, named)]
    if any(len(term) != x.rank for term, x in zip(full, operands)):
        ctx.fail(f"the equation '{equation}' does not fit the ranks of the operands")
    letters = left.replace("...", "").replace(",", "")
    once = "".join(sorted(label for label in set(letters) if letters.count(label) == 1))
    return full, right.replace("...", dots) if arrow else dots + once


def _without_repeats(ctx: LoweringContext, term: Labelled) -> Labelled:
    """A label that stands twice takes the diagonal of its two axes."""
    for label in set(term.labels):
        while term.labels.count(label) > 1:
            first = term.labels.index(label)
            term = _diagonal(ctx, term, first, term.labels.index(label, first + 1))
    return term


def _diagonal(ctx: LoweringContext, term: Labelled, first: int, second: int) -> Labelled:
    """The two axes go to the end as one of size n * n, of which every (n + 1)-th element is taken."""
    x, size = term.tensor, term.tensor.shape[first]
    rest = [i for i in range(x.rank) if i not in (first, second)]
    moved = ctx.transpose(x, [*rest, first, second])
    flat = ctx.reshape(moved, (*moved.shape[:-2], size * size))
    ranges = [*(range(n) for n in flat.shape[:-1]), range(0, size * size, size + 1)]
    labels = "".join(term.labels[i] for i in rest) + term.labels[first]
    return Labelled(take_ranges(ctx, flat, ranges), labels)


def _summed(ctx: LoweringContext, term: Labelled, kept: Iterable[str]) -> Labelled:
    axes = [i for i, label in enumerate(term.labels) if label not in kept]
    if not axes:
        return term
    shape = [n for i, n in enumerate(term.tensor.shape) if i not in axes]
    labels = "".join(label for i, label in enumerate(term.labels) if i not in axes)
    return Labelled(ctx.reshape(reduce_sum(ctx, term.tensor, axes), shape), labels)


def _contract(ctx: LoweringContext, a: Labelled, b: Labelled, later: set[str]) -> Labelled:
    """One product: labels in both are the batch if they are needed later, otherwise they are summed over."""
    a = _summed(ctx, a, later.union(b.labels))
    b = _summed(ctx, b, later.union(a.labels))
    shared = [label for label in a.labels if label in b.labels]
    batch = [label for label in shared if label in later]
    inner = [label for label in shared if label not in later]
    rows = [label for label in a.labels if label not in b.labels]
    columns = [label for label in b.labels if label not in a.labels]
    sizes = {
        label: max(t.size(label) for t in (a, b) if label in t.labels) for label in {*a.labels, *b.labels}
    }
    left = _matrix(ctx, a, [batch, rows, inner], sizes)
    right = _matrix(ctx, b, [batch, inner, columns], sizes)
    labels = [*batch, *rows, *columns]
    product = batched_matmul(ctx, left, right)
    return Labelled(ctx.reshape(product, [sizes[label] for label in labels]), "".join(labels))


def _matrix(ctx: LoweringContext, term: Labelled, groups: list[list[str]], sizes: dict[str, int]) -> Tensor:
    """The axes in three groups; axes of size 1 are broadcast."""
    labels = [label for group in groups for label in group]
    moved = ctx.transpose(term.tensor, [term.labels.index(label) for label in labels])
    whole = ctx.broadcast_to(moved, [sizes[label] for label in labels])
    return ctx.reshape(whole, [math.prod(sizes[label] for label in group) for group in groups])
