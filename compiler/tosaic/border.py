"""The border of a program: the names and ONNX dtypes of `@main`'s arguments and results.

The frontend writes them as `ic.name` and `ic.dtype`. A TOSA module that comes from elsewhere gets them here.
"""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic.errors import TosaicError
from tosaic_passes.border import DTYPE, NAME, entries
from tosaic_passes.functions import functions
from tosaic_passes.program import Program
from tosaic_passes.weights import numpy_dtype


def complete_border(program: Program) -> None:
    """Name every input and output that has no name yet, and call the only function `@main`.

    Raises TosaicError when the module has no such function, or a border tensor is not static.
    """
    main = _main(program.module)
    with program.context, ir.Location.unknown():
        main.attributes["sym_name"] = ir.StringAttr.get("main")
        for key, role, types in (
            ("arg_attrs", "input", main.type.inputs),
            ("res_attrs", "output", main.type.results),
        ):
            given = (
                list(ir.ArrayAttr(main.attributes[key])) if key in main.attributes else [None] * len(types)
            )
            main.attributes[key] = ir.ArrayAttr.get(
                [
                    _completed(attributes, type, role if len(types) == 1 else f"{role}_{index}")
                    for index, (attributes, type) in enumerate(zip(given, types))
                ]
            )


def _main(module: ir.Module) -> func.FuncOp:
    found = list(functions(module))
    main = next((f for f in found if f.name.value == "main"), None)
    if main is None and len(found) == 1:
        main = found[0]
    if main is None:
        raise TosaicError("the module has no function @main", "name the one that is to be compiled @main")
    return main


def _completed(attributes: ir.DictAttr | None, type: ir.Type, name: str) -> ir.DictAttr:
    if not isinstance(type, ir.RankedTensorType) or not type.has_static_shape:
        raise TosaicError(
            f"{name} of @main has the type {type}", "give a module whose tensors are all static"
        )
    known = entries(attributes) if attributes is not None else {}
    try:
        dtype = numpy_dtype(type.element_type).name
    except KeyError:
        raise TosaicError(f"{name} of @main has elements of type {type.element_type}") from None
    default = {NAME: ir.StringAttr.get(name), DTYPE: ir.StringAttr.get(dtype)}
    return ir.DictAttr.get({**default, **known})
