"""`isolate-regions`: branches and loops read nothing but their own arguments.

TOSA's branches and loop bodies are graphs of their own. Input: a TOSA module in which regions may read values
of the function around them, as lowering and CSE leave them. Output: the same module, where constants are
repeated inside and everything else comes in as an operand; a loop hands it on unchanged.

    %1 = tosa.cond_if %c : ... {            %1 = tosa.cond_if %c (%a = %x) : ... {
      %2 = tosa.add %x, %one          ->      %3 = "tosa.const"() ...
      tosa.yield %2                           %2 = tosa.add %a, %3
    }                                         tosa.yield %2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.program import Program

_LOOP = "tosa.while_loop"
_WITH_REGIONS = {"tosa.cond_if", _LOOP}
_CONSTANTS = {"tosa.const", "tosa.const_shape"}


@dataclass(frozen=True)
class IsolateRegionsPass:
    """Give every region of `tosa.cond_if` and `tosa.while_loop` all that it reads as arguments."""

    name: ClassVar[str] = "isolate-regions"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            isolate_regions(program.module.operation)


def isolate_regions(operation: ir.Operation) -> None:
    """Isolates all branches and loops inside an operation, the innermost first. Needs a context."""
    for region in operation.regions:
        for block in region.blocks:
            for view in list(block.operations):
                isolate_regions(view.operation)
                if view.operation.name in _WITH_REGIONS:
                    _isolate(view.operation)


def _isolate(operation: ir.Operation) -> None:
    blocks = [region.blocks[0] for region in operation.regions]
    for block in blocks:
        _repeat_constants(block)
    captured = list(dict.fromkeys(value for block in blocks for value in _captured(block)))
    if captured:
        _pass_in(operation, blocks, captured)


def _captured(block: ir.Block) -> Iterator[ir.Value]:
    """The values from outside that the operations of a block read (regions inside it are isolated)."""
    own = set(block.arguments)
    for view in block.operations:
        yield from (value for value in view.operation.operands if value not in own)
        own.update(view.operation.results)


def _repeat_constants(block: ir.Block) -> None:
    copies: dict[ir.Value, ir.Value] = {}
    for value in dict.fromkeys(_captured(block)):
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.name not in _CONSTANTS:
            continue
        with ir.InsertionPoint.at_block_begin(block):
            copies[value] = owner.operation.clone().results[0]
    _replace(block, copies)


def _replace(block: ir.Block, replacements: Mapping[ir.Value, ir.Value]) -> None:
    for view in block.operations:
        for index, value in enumerate(view.operation.operands):
            if value in replacements:
                view.operation.operands[index] = replacements[value]


def _pass_in(operation: ir.Operation, blocks: Sequence[ir.Block], captured: Sequence[ir.Value]) -> None:
    """The operation made anew with the captured values among its operands."""
    location, is_loop = operation.location, operation.name == _LOOP
    for block in blocks:
        arguments = [block.add_argument(value.type, location) for value in captured]
        _replace(block, dict(zip(captured, arguments)))
    if is_loop:
        _yield_too(blocks[1], len(captured))
    results = [result.type for result in operation.results]
    with ir.InsertionPoint(operation):
        isolated = ir.Operation.create(
            operation.name,
            results=results + [value.type for value in captured if is_loop],
            operands=[*operation.operands, *captured],
            attributes={name: operation.attributes[name] for name in operation.attributes},
            regions=len(blocks),
            loc=location,
        )
    for block, region in zip(blocks, isolated.regions):
        block.append_to(region)
    for old, new in zip(operation.results, isolated.results):
        old.replace_all_uses_with(new)
    operation.erase()


def _yield_too(body: ir.Block, count: int) -> None:
    """The body of a loop hands its last arguments on."""
    terminator = body.operations[len(body.operations) - 1].operation
    with ir.InsertionPoint(terminator):
        ir.Operation.create(
            terminator.name,
            operands=[*terminator.operands, *list(body.arguments)[-count:]],
            loc=terminator.location,
        )
    terminator.erase()
