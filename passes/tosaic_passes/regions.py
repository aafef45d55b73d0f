"""Copying what is in the regions of branches and loops, which read nothing but their arguments."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir


def copy_op(op: ir.Operation, values: dict[ir.Value, ir.Value]) -> None:
    """Copy an op to the insertion point; `values` says what its operands become, if others, and learns its results."""
    copy = op.clone().operation
    for index, operand in enumerate(op.operands):
        copy.operands[index] = values.get(operand, operand)
    values.update(zip(op.results, copy.results))


def copy_body(block: ir.Block, operands: Sequence[ir.Value]) -> list[ir.Value]:
    """Copy the ops of a region to the insertion point, with operands for its arguments; the values that it yields."""
    values: dict[ir.Value, ir.Value] = dict(zip(block.arguments, operands))
    *body, terminator = block.operations
    for view in body:
        copy_op(view.operation, values)
    return [values.get(value, value) for value in terminator.operation.operands]
