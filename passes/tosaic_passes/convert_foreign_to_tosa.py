"""`convert-foreign-to-tosa`: what other producers leave between TOSA ops becomes TOSA.

Input: a module of TOSA as converters from PyTorch, TFLite and others print it, its calls inlined (`inline`). Output:
the same as one function without
- constants and reshapes of `arith` and `tensor` (`arith.constant`, `tensor.expand_shape`, `tensor.collapse_shape`);
- sizes that a reshape leaves to its operand (-1);
- `tensor.cast` that changes nothing or forgets sizes: the results of the function have the shapes that are known;
- quantised types, which only note what a number stands for: `!quant.uniform<i8:f32, 0.5>` is its storage, i8.

    %0 = arith.constant dense<2.0> : tensor<4x6xf32>          %0 = "tosa.const"() <{values = dense<2.0> ...
    %1 = tensor.expand_shape %x [[0, 1], [2]] ...       ->    %1 = tosa.reshape %x, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir
from torch_mlir.dialects import func, quant

from tosaic_passes.errors import TosaicError
from tosaic_passes.functions import entry_function, functions, nested_operations
from tosaic_passes.program import Program


@dataclass(frozen=True)
class ConvertForeignToTosaPass:
    """Keep the entry function alone, and make TOSA of what constants, reshapes and quantised types mean.

    f64 in arguments and results is refused unless `float64_as_float32`, as nobody knows yet whether it fits f32.
    """

    name: ClassVar[str] = "convert-foreign-to-tosa"
    float64_as_float32: bool = False

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            entry = entry_function(program.module)
            _refuse_calls(entry)
            if not self.float64_as_float32:
                _refuse_float64(entry)
            for function in list(functions(program.module)):
                if function.name.value != entry.name.value:
                    function.erase()
            _strip_quantised_types(entry)
            for operation in list(nested_operations([entry])):
                if convert := _CONVERSIONS.get(operation.name):
                    convert(operation)
            _give_what_is_returned(entry)


def has_float64(module: ir.Module) -> bool:
    """Whether an op of the entry function gives f64, which TOSA does not have."""
    operations = nested_operations([entry_function(module)])
    return any(_is_float64(value.type) for operation in operations for value in operation.results)


def _is_float64(type: ir.Type) -> bool:
    return isinstance(type, ir.RankedTensorType) and isinstance(type.element_type, ir.F64Type)


def _refuse_calls(entry: func.FuncOp) -> None:
    """Whatever could be inlined is; what is left calls itself or has no body."""
    for operation in nested_operations([entry]):
        if operation.name == "func.call":
            callee = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
            raise TosaicError(
                f"@{entry.name.value} calls @{callee}, which has no body or calls itself",
                "give a module whose calls end in TOSA",
            )


def _refuse_float64(entry: func.FuncOp) -> None:
    for type in (*entry.type.inputs, *entry.type.results):
        if _is_float64(type):
            raise TosaicError(
                f"@{entry.name.value} takes or gives {type}, and TOSA computes in float32",
                "allow it with --float64-as-float32",
            )


def _convert_constant(operation: ir.Operation) -> None:
    result = operation.results[0]
    if isinstance(result.type, ir.RankedTensorType):
        _replace(operation, "tosa.const", [], {"values": operation.attributes["value"]})


def _convert_reshape(operation: ir.Operation) -> None:
    if _is_static(operation.results[0].type):
        _replace(operation, "tosa.reshape", [operation.operands[0], _result_shape(operation)], {})


def _complete_reshape(operation: ir.Operation) -> None:
    type, shape = operation.results[0].type, operation.operands[1].owner
    if not _is_static(type) or shape.name != "tosa.const_shape":
        return
    if list(ir.DenseIntElementsAttr(shape.attributes["values"])) != list(type.shape):
        operation.operands[1] = _result_shape(operation)


def _is_static(type: ir.Type) -> bool:
    return isinstance(type, ir.RankedTensorType) and type.has_static_shape


def _result_shape(operation: ir.Operation) -> ir.Value:
    """The shape of the op's result, as a new constant before the op."""
    sizes = np.array(ir.RankedTensorType(operation.results[0].type).shape, np.int64)
    values = ir.DenseElementsAttr.get(sizes, type=ir.IndexType.get())
    shape = ir.Type.parse(f"!tosa.shape<{len(sizes)}>")
    with ir.InsertionPoint(operation), operation.location:
        return ir.Operation.create("tosa.const_shape", [shape], [], {"values": values}).results[0]


def _convert_cast(operation: ir.Operation) -> None:
    if _knows_as_much(operation.operands[0].type, operation.results[0].type):
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.erase()


def _knows_as_much(type: ir.Type, other: ir.Type) -> bool:
    """Whether a tensor type has every size that another one has."""
    if not isinstance(type, ir.RankedTensorType) or isinstance(other, ir.UnrankedTensorType):
        return isinstance(other, ir.UnrankedTensorType)
    return type.rank == other.rank and all(
        other.is_dynamic_dim(axis) or type.shape[axis] == other.shape[axis] for axis in range(type.rank)
    )


def _give_what_is_returned(entry: func.FuncOp) -> None:
    """The function's results get the types of the values that it returns."""
    returned = [value.type for value in entry.entry_block.operations[-1].operation.operands]
    entry.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(entry.type.inputs, returned))


_CONVERSIONS: dict[str, Callable[[ir.Operation], None]] = {
    "arith.constant": _convert_constant,
    "tensor.cast": _convert_cast,
    "tensor.collapse_shape": _convert_reshape,
    "tensor.expand_shape": _convert_reshape,
    "tosa.reshape": _complete_reshape,
}


def _replace(
    operation: ir.Operation, name: str, operands: list[ir.Value], attributes: dict[str, ir.Attribute]
) -> None:
    with ir.InsertionPoint(operation), operation.location:
        made = ir.Operation.create(name, [operation.results[0].type], operands, attributes)
    operation.results[0].replace_all_uses_with(made.results[0])
    operation.erase()


def _strip_quantised_types(entry: func.FuncOp) -> None:
    inputs, results = (
        [_storage(type) for type in types] for types in (entry.type.inputs, entry.type.results)
    )
    entry.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, results))
    for operation in nested_operations([entry]):
        arguments = [a for region in operation.regions for block in region.blocks for a in block.arguments]
        for value in (*operation.results, *arguments):
            value.set_type(_storage(value.type))


def _storage(type: ir.Type) -> ir.Type:
    """The type without its scales; i8 for unsigned bytes as well, as TOSA holds them."""
    if not isinstance(type, ir.RankedTensorType) or not isinstance(type.element_type, quant.QuantizedType):
        return type
    return ir.RankedTensorType.get(type.shape, type.element_type.storage_type)
