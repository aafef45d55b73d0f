"""`convert-branches-to-selects`: both branches of a `tosa.cond_if` are computed, and the condition chooses.

Ops of TOSA have no side effects, so this changes no number, and what a message costs stays independent of its data.
Input: a TOSA module whose regions read nothing but their arguments, or values of the function. Output: the same
without `tosa.cond_if`, except where a branch holds an op that may end a message: a look-up by indices that are
computed (the branch that is not taken may hold wrong ones), or a loop.

    %1 = tosa.cond_if %c (%a = %x) : ... {      %2 = tosa.add %x, %one
      %2 = tosa.add %a, %one                    %3 = tosa.sub %x, %one
      tosa.yield %2                        ->   %4 = tosa.reshape %c, ... : (tensor<i1>, ...) -> tensor<1x1xi1>
    } else {                                    %1 = tosa.select %4, %2, %3
      ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.program import Program
from tosaic_passes.regions import copy_body

_BRANCH = "tosa.cond_if"
_MAY_TRAP = frozenset({"tosa.gather", "tosa.scatter", "tosa.row_gather", "tosa.while_loop", _BRANCH})


@dataclass(frozen=True)
class ConvertBranchesToSelectsPass:
    """Replace every `tosa.cond_if` whose branches cannot end a message by both branches and selects."""

    name: ClassVar[str] = "convert-branches-to-selects"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            _convert_in(program.module.operation)


def _convert_in(operation: ir.Operation) -> None:
    """The innermost branches first."""
    for region in operation.regions:
        for block in region.blocks:
            for view in list(block.operations):
                _convert_in(view.operation)
                if view.operation.name == _BRANCH and not _may_trap(view.operation):
                    _convert(view.operation)


def _may_trap(operation: ir.Operation) -> bool:
    bodies = [region.blocks[0].operations for region in operation.regions]
    return any(view.operation.name in _MAY_TRAP for body in bodies for view in body)


def _convert(operation: ir.Operation) -> None:
    condition, *operands = operation.operands
    with ir.InsertionPoint(operation), operation.location:
        taken, other = (copy_body(region.blocks[0], operands) for region in operation.regions)
        for result, values in zip(operation.results, zip(taken, other)):
            result.replace_all_uses_with(_select(condition, values, result.type))
    operation.erase()


def _select(condition: ir.Value, values: tuple[ir.Value, ir.Value], type: ir.Type) -> ir.Value:
    rank = ir.RankedTensorType(type).rank
    return _create("tosa.select", type, _of_rank(condition, rank), *values)


def _of_rank(condition: ir.Value, rank: int) -> ir.Value:
    """The condition as a tensor of one element with this rank, which broadcasts."""
    if ir.RankedTensorType(condition.type).rank == rank:
        return condition
    ones = ir.Attribute.parse(f"dense<1> : tensor<{rank}xindex>")
    shape = _create("tosa.const_shape", ir.Type.parse(f"!tosa.shape<{rank}>"), attributes={"values": ones})
    element = ir.RankedTensorType(condition.type).element_type
    return _create("tosa.reshape", ir.RankedTensorType.get([1] * rank, element), condition, shape)


def _create(
    name: str, type: ir.Type, *operands: ir.Value, attributes: Mapping[str, ir.Attribute] | None = None
) -> ir.Value:
    return ir.Operation.create(name, [type], list(operands), dict(attributes or {})).results[0]
