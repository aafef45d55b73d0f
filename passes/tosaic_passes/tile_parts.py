"""Putting parts and their concatenation in the place of an expression."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from tosaic_passes.tile_expression import Expression, concat_of
from tosaic_passes.tile_search import Tiling
from tosaic_passes.tile_windows import shape_of


def put_parts(expression: Expression, tiling: Tiling) -> None:
    """Compute the expression in parts, each with all its ops behind one another, and erase its ops."""
    result, last = expression.result, expression.ops[-1]
    shape = shape_of(result)
    with ir.InsertionPoint(last):
        parts = [expression.build(window) for window in tiling.windows(shape)]
        for axis, ranges in reversed(list(enumerate(tiling.ranges(shape)))):
            parts = _joined(parts, axis, len(ranges), last.location)
    result.replace_all_uses_with(parts[0])
    for op in reversed(expression.ops):
        op.erase()


def _joined(parts: Sequence[ir.Value], axis: int, count: int, location: ir.Location) -> list[ir.Value]:
    """Concatenate `count` neighbours along an axis; along the axes after it they are joined already."""
    rows = zip(*(parts[i::count] for i in range(count)))
    return [concat_of(row, axis, location) for row in rows]
