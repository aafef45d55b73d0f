"""Cutting `@main` into segments: which values cross each cut, and the functions that result."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic_passes.functions import SEGMENT_PREFIX, nested_operations

_CONSTANTS = {"tosa.const", "tosa.const_shape"}


def build_segments(main: func.FuncOp, stretches: Sequence[Sequence[ir.Operation]]) -> list[func.FuncOp]:
    """Move each stretch of ops into a function of its own, before `@main`, and let `@main` call them in order.

    A segment takes the values of earlier segments and of `@main`'s arguments that it reads, in the order it reads
    them, and gives those that are read later. Constants are repeated in every segment that reads them.
    The stretches hold every op of `@main` but constants and the terminator, defined before read.
    Needs a location.
    """
    block = main.entry_block
    terminator = block.operations[len(block.operations) - 1].operation
    readers = [list(_read_values(stretch)) for stretch in [*stretches, [terminator]]]
    current: dict[ir.Value, ir.Value] = {argument: argument for argument in block.arguments}
    functions = []
    for index, stretch in enumerate(stretches):
        inputs = [value for value in readers[index] if value in current]
        read_later = {value for values in readers[index + 1 :] for value in values}
        outputs = [result for op in stretch for result in op.results if result in read_later]
        types = [value.type for value in outputs]
        with ir.InsertionPoint(main):
            function = _declare(f"{SEGMENT_PREFIX}{index}", [value.type for value in inputs], types)
        with ir.InsertionPoint(terminator):
            call = func.CallOp(types, function.name.value, [current[value] for value in inputs])
        _fill(function, stretch, inputs, outputs)
        current.update(zip(outputs, call.operation.results))
        functions.append(function)
    _replace_operands([terminator], current)
    _erase_unread_constants(block)
    return functions


def _declare(name: str, inputs: list[ir.Type], outputs: list[ir.Type]) -> func.FuncOp:
    function = func.FuncOp(name, ir.FunctionType.get(inputs, outputs), visibility="private")
    function.add_entry_block()
    return function


def _fill(
    function: func.FuncOp,
    stretch: Sequence[ir.Operation],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
) -> None:
    block = function.entry_block
    inside: dict[ir.Value, ir.Value] = dict(zip(inputs, block.arguments))
    with ir.InsertionPoint(block):
        for value in _read_values(stretch):
            if _is_constant(value):
                inside[value] = value.owner.clone().operation.results[0]
    for operation in stretch:
        block.append(operation)
    _replace_operands(stretch, inside)
    with ir.InsertionPoint(block):
        func.ReturnOp(list(outputs))


def _read_values(operations: Sequence[ir.Operation]) -> dict[ir.Value, None]:
    """The values from elsewhere that these ops read, regions included, each once, in the order of reading."""
    nested = list(nested_operations(operations))
    blocks = [block for operation in nested for region in operation.regions for block in region.blocks]
    own = {result for operation in nested for result in operation.results}
    own.update(argument for block in blocks for argument in block.arguments)
    return {value: None for operation in nested for value in operation.operands if value not in own}


def _replace_operands(operations: Sequence[ir.Operation], replacement: dict[ir.Value, ir.Value]) -> None:
    for operation in nested_operations(operations):
        for index, value in enumerate(operation.operands):
            if value in replacement:
                operation.operands[index] = replacement[value]


def _is_constant(value: ir.Value) -> bool:
    return isinstance(value, ir.OpResult) and value.owner.name in _CONSTANTS


def _erase_unread_constants(block: ir.Block) -> None:
    for op in list(block.operations):
        if op.operation.name in _CONSTANTS and not any(True for _ in op.operation.results[0].uses):
            op.operation.erase()
