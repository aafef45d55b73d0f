"""Finding the functions of a module and the ops in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic_passes.errors import TosaicError

SEGMENT_PREFIX = "segment_"


def find_function(module: ir.Module, name: str) -> func.FuncOp:
    """The function with this name. Raises TosaicError when there is none."""
    for operation in functions(module):
        if operation.name.value == name:
            return operation
    raise TosaicError(f"the module has no function @{name}")


def entry_function(module: ir.Module) -> func.FuncOp:
    """@main, or the only function that others can call. Raises TosaicError when it is not clear which one that is."""
    found = list(functions(module))
    public = [f for f in found if _is_public(f)]
    for candidates in ([f for f in found if f.name.value == "main"], public):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(f"@{f.name.value}" for f in found)
    raise TosaicError(
        f"the module has no function @main{f', but {names}' if names else ''}",
        "name the one that is to be compiled @main",
    )


def _is_public(function: func.FuncOp) -> bool:
    """Whether others can call it: that is so unless it says otherwise, and it may say so."""
    attributes = function.attributes
    return "sym_visibility" not in attributes or attributes["sym_visibility"].value == "public"


def functions(module: ir.Module) -> Iterator[func.FuncOp]:
    """The functions of the module in the order they stand."""
    return (operation for operation in module.body.operations if isinstance(operation, func.FuncOp))


def segments(module: ir.Module) -> list[func.FuncOp]:
    """The segments in the order that `@main` calls them; empty when the program is not cut."""
    named = {f.name.value: f for f in functions(module)}
    calls = [op for op in find_function(module, "main").entry_block.operations if isinstance(op, func.CallOp)]
    return [named[call.attributes["callee"].value] for call in calls]


def nested_operations(operations: Iterable[ir.Operation | ir.OpView]) -> Iterator[ir.Operation]:
    """These ops and all ops inside their regions, outer before inner."""
    for view in operations:
        yield view.operation
        for region in view.operation.regions:
            for block in region.blocks:
                yield from nested_operations(block.operations)


def int_attribute(value: int) -> ir.IntegerAttr:
    """A number of ours on an operation: i64. Needs a context."""
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
