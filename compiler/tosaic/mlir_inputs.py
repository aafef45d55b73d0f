"""The open inputs of a TOSA module: they get static shapes or constants, and every op after them its shape.

With the batch size 2, for instance,

    func.func @main(%x: tensor<?x4xf32>)
      %0 = tosa.abs %x : (tensor<?x4xf32>) -> tensor<?x4xf32>

becomes

    func.func @main(%x: tensor<2x4xf32>)
      %0 = tosa.abs %x : (tensor<2x4xf32>) -> tensor<2x4xf32>
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic.errors import TosaicError
from tosaic.open_inputs import OpenInput, bind_open_inputs
from tosaic.options import CompileOptions
from tosaic_passes.border import NAME, entries
from tosaic_passes.diagnostics import place_of
from tosaic_passes.functions import find_function, nested_operations
from tosaic_passes.pipeline import Element, run_pipeline
from tosaic_passes.program import Program
from tosaic_passes.weights import numpy_dtype


def bind_inputs(program: Program, options: CompileOptions) -> None:
    """Give the inputs of `@main`, whose border is complete, the shapes and constants of the options.

    Raises:
        TosaicError: a name is not in the module, a size contradicts it, or a dimension stays unknown.
    """
    if options.dims:
        raise TosaicError("the dimensions of an MLIR module have no names", "give --input-shape")
    main = find_function(program.module, "main")
    inputs = _open_inputs(main)
    bind_open_inputs(
        inputs,
        input_shapes=options.input_shapes,
        batch_size=options.batch_size,
        constants=options.constants,
    )
    with program.context, ir.Location.unknown():
        _set_shapes(main, inputs)
        _bind_constants(main, inputs, options.constants, program)


def infer_shapes(program: Program, passes: list[Element]) -> None:
    """Run the passes, which make open shapes static from the inputs on, as long as they find any.

    One run is not enough where a shape is computed from another one. Raises TosaicError naming an op that stays open.
    """
    main = find_function(program.module, "main")
    before = None
    while (still_open := list(_open_operations(main))) and len(still_open) != before:
        before = len(still_open)
        run_pipeline(program, passes)
        main = find_function(program.module, "main")
    if still_open:
        first = still_open[0]
        raise TosaicError(
            f"the shape that {first.name} ({place_of(first.location)}) gives depends on data, or is not known",
            "export the model with fixed shapes",
        )


def _open_inputs(main: func.FuncOp) -> list[OpenInput]:
    attributes = ir.ArrayAttr(main.attributes["arg_attrs"]) if main.type.inputs else ()
    names = [ir.StringAttr(entries(ir.DictAttr(known))[NAME]).value for known in attributes]
    return [_open_input(name, type) for name, type in zip(names, main.type.inputs)]


def _open_input(name: str, type: ir.Type) -> OpenInput:
    dtype = numpy_dtype(type.element_type)
    if not isinstance(type, ir.RankedTensorType):
        return OpenInput(name, dtype, None)
    return OpenInput(
        name, dtype, [None if type.is_dynamic_dim(i) else type.shape[i] for i in range(type.rank)]
    )


def _set_shapes(main: func.FuncOp, inputs: list[OpenInput]) -> None:
    for argument, declared in zip(main.arguments, inputs):
        argument.set_type(ir.RankedTensorType.get(declared.shape, argument.type.element_type))
    types = [argument.type for argument in main.arguments]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, main.type.results))


def _bind_constants(
    main: func.FuncOp, inputs: list[OpenInput], constants: Mapping[str, np.ndarray], program: Program
) -> None:
    """The arguments that are bound become `tosa.const` and leave the signature."""
    block = main.entry_block
    for index in reversed([i for i, declared in enumerate(inputs) if declared.name in constants]):
        argument, name = block.arguments[index], inputs[index].name
        element = ir.RankedTensorType(argument.type).element_type
        values = program.weights.attribute(constants[name], name, element)
        with ir.InsertionPoint.at_block_begin(block):
            constant = ir.Operation.create("tosa.const", [argument.type], [], {"values": values})
        argument.replace_all_uses_with(constant.results[0])
        block.erase_argument(index)
        known = list(ir.ArrayAttr(main.attributes["arg_attrs"]))
        main.attributes["arg_attrs"] = ir.ArrayAttr.get(known[:index] + known[index + 1 :])
    types = [argument.type for argument in block.arguments]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, main.type.results))


def _open_operations(main: func.FuncOp) -> Iterator[ir.Operation]:
    for operation in nested_operations(main.entry_block.operations):
        if any(
            isinstance(value.type, ir.ShapedType) and not _is_static(value.type)
            for value in operation.results
        ):
            yield operation


def _is_static(type: ir.Type) -> bool:
    return isinstance(type, ir.RankedTensorType) and type.has_static_shape
