"""`convert-uint8-to-int8`: quantised tensors of uint8 become int8 where only quantised operators see them.

Input and output: ONNX ops (docs/design.md, contract 1). TOSA multiplies int8 only. A uint8 q with the zero point z
stands for the same number as the int8 q - 128 with z - 128: other constants save flipping signs at run time.

    %q = "onnx.QuantizeLinear"(%x, %s, %z) ... -> tensor<4xui8>        ... -> tensor<4xi8>, with %z - 128
    %y = "onnx.QLinearMatMul"(%q, %s, %z, ...)                    ->   reads it with %z - 128
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from tosaic_passes.functions import find_function, nested_operations
from tosaic_passes.onnx_operations import OnnxEditor, dtype_of, operand, producer_of, shape_of
from tosaic_passes.program import Program
from tosaic_passes.weights import element_type

_UINT8, _INT8 = np.dtype(np.uint8), np.dtype(np.int8)
_FLIP = 128


@dataclass(frozen=True)
class _Places:
    """Where an operator has quantised operands with their zero points, and the zero point of its result."""

    operands: tuple[tuple[int, int], ...] = ()
    result_zero: int | None = None


_TWO_OPERANDS = _Places(((0, 2), (3, 5)), 7)
_ONE_OPERAND = _Places(((0, 2),), 4)
_QUANTIZED = {
    "DequantizeLinear": _Places(((0, 2),)),
    "MatMulIntegerToFloat": _Places(((0, 4), (1, 5))),
    "QGemm": _Places(((0, 2), (3, 5)), 8),
    "QLinearAdd": _TWO_OPERANDS,
    "QLinearAveragePool": _ONE_OPERAND,
    "QLinearConv": _TWO_OPERANDS,
    "QLinearGlobalAveragePool": _ONE_OPERAND,
    "QLinearLeakyRelu": _ONE_OPERAND,
    "QLinearMatMul": _TWO_OPERANDS,
    "QLinearMul": _TWO_OPERANDS,
    "QLinearSigmoid": _ONE_OPERAND,
    "QLinearSoftmax": _ONE_OPERAND,
    "QuantizeLinear": _Places((), 2),
}
_ORDERED = frozenset(
    "DepthToSpace Flatten Gather GatherElements GatherND Identity MaxPool Reshape Slice SpaceToDepth Split Squeeze "
    "Transpose Unsqueeze".split()
)
"""Operators that move elements of their first operand, or choose them by their order, which flipping keeps."""
_WITH_CONSTANTS = frozenset(("Max", "Min"))
"""Operators whose operands are all of one kind; constants among them are changed, too."""


@dataclass(frozen=True)
class ConvertUint8ToInt8Pass:
    """Hold quantised numbers as int8 where they are uint8 and nobody but quantised operators sees them."""

    name: ClassVar[str] = "convert-uint8-to-int8"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            operations = list(nested_operations([find_function(program.module, "main")]))
            editor = OnnxEditor(program.weights)
            values = _convertible(operations, editor)
            for operation in operations if values else ():
                _move_zero_points(operation, values, editor)
            for value in values:
                value.set_type(ir.RankedTensorType.get(shape_of(value), element_type(_INT8)))


def _convertible(operations: list[ir.Operation], editor: OnnxEditor) -> set[ir.Value]:
    """The largest set of uint8 values that producers and readers can hold as int8 together."""
    unsigned = element_type(_UINT8)
    values = {
        result
        for operation in operations
        for result in operation.results
        if isinstance(result.type, ir.RankedTensorType) and result.type.element_type == unsigned
    }
    while dropped := {value for value in values if not _can_convert(value, values, editor)}:
        values -= dropped
    return values


def _can_convert(value: ir.Value, values: set[ir.Value], editor: OnnxEditor) -> bool:
    producer = producer_of(value)
    assert producer is not None
    return _gives(producer, values, editor) and all(
        _reads(use.owner.operation, use.operand_number, values, editor) for use in value.uses
    )


def _gives(operation: ir.Operation, values: set[ir.Value], editor: OnnxEditor) -> bool:
    """Whether an operation can give its uint8 results as int8."""
    if not operation.name.startswith("onnx."):
        return False
    places = _places(operation)
    if places is not None:
        return places.result_zero is not None and _is_zero_point(operation, places.result_zero, editor)
    return (
        all(_is_known(value, values, editor) for value in _data(operation)) and _kind(operation) is not None
    )


def _reads(operation: ir.Operation, index: int, values: set[ir.Value], editor: OnnxEditor) -> bool:
    """Whether an operation can take int8 for this uint8 operand."""
    if not operation.name.startswith("onnx."):
        return False
    places = _places(operation)
    if places is not None:
        return any(
            data == index and _is_zero_point(operation, zero, editor) for data, zero in places.operands
        )
    if _kind(operation) is None or (operation.name[5:] in _ORDERED and index != 0):
        return False
    return all(result in values for result in operation.results) and all(
        _is_known(value, values, editor) for value in _data(operation)
    )


def _kind(operation: ir.Operation) -> frozenset[str] | None:
    op_type = operation.name.removeprefix("onnx.")
    return next((kind for kind in (_ORDERED, _WITH_CONSTANTS) if op_type in kind), None)


def _data(operation: ir.Operation) -> list[ir.Value]:
    """The operands whose elements an operation without zero points passes on."""
    operands = list(operation.operands)
    return operands if _kind(operation) is _WITH_CONSTANTS else operands[:1]


def _is_known(value: ir.Value, values: set[ir.Value], editor: OnnxEditor) -> bool:
    return value in values or (editor.constant_value(value) is not None and dtype_of(value) == _UINT8)


def _is_zero_point(operation: ir.Operation, index: int, editor: OnnxEditor) -> bool:
    zero = operand(operation, index)
    return zero is not None and dtype_of(zero) == _UINT8 and editor.constant_value(zero) is not None


def _places(operation: ir.Operation) -> _Places | None:
    op_type = operation.name.removeprefix("onnx.")
    if op_type == "QLinearConcat":
        return _Places(tuple((i, i + 2) for i in range(2, len(operation.operands), 3)), 1)
    return _QUANTIZED.get(op_type)


def _move_zero_points(operation: ir.Operation, values: set[ir.Value], editor: OnnxEditor) -> None:
    """The zero points, or the constants, that belong to converted values, 128 less."""
    for index in _constants_to_move(operation, values, editor):
        array = editor.constant_value(operation.operands[index])
        assert array is not None
        moved = (array.astype(np.int16) - _FLIP).astype(_INT8)
        operation.operands[index] = editor.constant(moved, operation)


def _constants_to_move(operation: ir.Operation, values: set[ir.Value], editor: OnnxEditor) -> Iterator[int]:
    places = _places(operation)
    if places is not None:
        yield from (zero for data, zero in places.operands if operation.operands[data] in values)
        if places.result_zero is not None and operation.results[0] in values:
            yield places.result_zero
    elif any(result in values for result in operation.results):
        for index, value in enumerate(_data(operation)):
            if editor.constant_value(value) is not None:
                yield index
