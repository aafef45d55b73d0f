"""The border of a program: the names and ONNX dtypes of `@main`'s arguments and results.

The frontend writes them as `ic.name` and `ic.dtype`. A TOSA module that comes from elsewhere gets them here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic.errors import TosaicError
from tosaic_passes.border import DTYPE, NAME, SHAPE, entries, seen_shape
from tosaic_passes.functions import entry_function, find_function
from tosaic_passes.program import Program
from tosaic_passes.weights import numpy_dtype


def complete_border(program: Program) -> None:
    """Name every input and output that has no name yet, and call the entry function `@main`.

    Raises TosaicError when the module has no such function, or a border tensor has no numbers that numpy holds.
    """
    main = entry_function(program.module)
    with program.context, ir.Location.unknown():
        main.attributes["sym_name"] = ir.StringAttr.get("main")
        for key, role, types in _sides(main):
            given = (
                list(ir.ArrayAttr(main.attributes[key])) if key in main.attributes else [None] * len(types)
            )
            main.attributes[key] = ir.ArrayAttr.get(
                [
                    _completed(attributes, type, name)
                    for attributes, type, name in zip(given, types, _names(role, types))
                ]
            )


def refuse_open_border(program: Program) -> None:
    """Raise TosaicError for an input or output of `@main` whose shape is not static."""
    for _, role, types in _sides(find_function(program.module, "main")):
        for name, type in zip(_names(role, types), types):
            if not isinstance(type, ir.RankedTensorType) or not type.has_static_shape:
                raise TosaicError(
                    f"{name} of @main has the type {type}", "export the model with fixed shapes"
                )


def refuse_flat_results(program: Program) -> None:
    """Raise TosaicError for a result in another shape than the model's: whoever runs the bare module would not know."""
    attributes = find_function(program.module, "main").attributes
    for dictionary in ir.ArrayAttr(attributes["res_attrs"]) if "res_attrs" in attributes else ():
        seen = entries(ir.DictAttr(dictionary))
        if SHAPE in seen:
            shape = list(seen_shape(seen, ()))
            raise TosaicError(
                f"the output {seen[NAME]} has the shape {shape}, and TOSA holds at most 6 dimensions",
                "compile to an artifact, whose canister gives it this shape, or reshape it in the model",
            )


def _sides(main: func.FuncOp) -> list[tuple[str, str, list[ir.Type]]]:
    """Of the arguments and of the results: where their attributes are, what they are called, and their types."""
    return [("arg_attrs", "input", main.type.inputs), ("res_attrs", "output", main.type.results)]


def _names(role: str, types: Sequence[ir.Type]) -> list[str]:
    return [role] if len(types) == 1 else [f"{role}_{index}" for index in range(len(types))]


def _completed(attributes: ir.DictAttr | None, type: ir.Type, name: str) -> ir.DictAttr:
    if not isinstance(type, ir.RankedTensorType | ir.UnrankedTensorType):
        raise TosaicError(
            f"{name} of @main has the type {type}", "give a function that takes and gives tensors"
        )
    known = entries(attributes) if attributes is not None else {}
    try:
        dtype = numpy_dtype(type.element_type).name
    except KeyError:
        raise TosaicError(f"{name} of @main has elements of type {type.element_type}") from None
    default = {NAME: ir.StringAttr.get(name), DTYPE: ir.StringAttr.get(dtype)}
    return ir.DictAttr.get({**default, **known})
