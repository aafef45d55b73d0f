"""Putting parts and their concatenation in the place of an expression."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from tosaic_passes.tile_expression import Expression
from tosaic_passes.tile_search import Tiling, windows
from tosaic_passes.tile_windows import shape_of


def put_parts(expression: Expression, tiling: Tiling) -> None:
    """Compute the expression in parts, each with all its ops behind one another, and erase its ops."""
    result, last = expression.result, expression.ops[-1]
    shape = shape_of(result)
    with ir.InsertionPoint(last):
        parts = [expression.build(window) for window in windows(shape, tiling.sizes)]
        for axis in reversed(range(len(shape))):
            parts = _joined(parts, axis, shape[axis], -(-shape[axis] // tiling.sizes[axis]), last.location)
    result.replace_all_uses_with(parts[0])
    for op in reversed(expression.ops):
        op.erase()


def _joined(
    parts: Sequence[ir.Value], axis: int, extent: int, count: int, location: ir.Location
) -> list[ir.Value]:
    """Concatenate `count` neighbours along an axis; along the axes after it they are joined already."""
    if count == 1:
        return list(parts)
    attribute = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), axis)
    rows = zip(*(parts[i::count] for i in range(count)))
    return [_concat(list(row), attribute, extent, location) for row in rows]


def _concat(parts: list[ir.Value], axis: ir.IntegerAttr, extent: int, location: ir.Location) -> ir.Value:
    first = ir.RankedTensorType(parts[0].type)
    shape = [extent if i == axis.value else size for i, size in enumerate(first.shape)]
    type = ir.RankedTensorType.get(shape, first.element_type)
    return ir.Operation.create("tosa.concat", [type], parts, {"axis": axis}, loc=location).results[0]
