"""Reading and building `onnx.*` operations (contract 1 of docs/design.md), for the passes that rewrite them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch_mlir import ir

from tosaic_passes.weights import WeightTable, numpy_dtype

ONNX = "onnx."


class OnnxEditor:
    """Finds the constants of a program's ONNX operations and builds new operations beside old ones."""

    def __init__(self, weights: WeightTable) -> None:
        self._weights = weights

    def constant_value(self, value: ir.Value | None) -> np.ndarray | None:
        """The array of an `onnx.Constant`, None for any other value."""
        producer = producer_of(value)
        if producer is None or producer.name != "onnx.Constant" or "value" not in producer.attributes:
            return None
        return self._weights.array(producer.attributes["value"])

    def constant(self, array: np.ndarray, before: ir.Operation) -> ir.Value:
        """A new `onnx.Constant`."""
        attribute = self._weights.attribute(array)
        with ir.InsertionPoint(before), before.location:
            operation = ir.Operation.create(
                "onnx.Constant", results=[attribute.type], attributes={"value": attribute}
            )
        return operation.results[0]

    def build(
        self,
        op_type: str,
        operands: Sequence[ir.Value | None],
        types: Sequence[ir.Type],
        before: ir.Operation,
        attributes: Mapping[str, Any],
    ) -> list[ir.Value]:
        """The results of a new operation (None: an absent operand), at the location of the one it stands before."""
        with ir.InsertionPoint(before), before.location:
            values = [self._no_value() if value is None else value for value in operands]
            operation = ir.Operation.create(
                f"{ONNX}{op_type}", results=types, operands=values, attributes=dict(attributes)
            )
        return list(operation.results)

    def _no_value(self) -> ir.Value:
        return ir.Operation.create("onnx.NoValue", results=[ir.NoneType.get()]).results[0]


def producer_of(value: ir.Value | None) -> ir.Operation | None:
    """The operation that gives a value, None for an argument."""
    owner = None if value is None else value.owner
    return owner.operation if isinstance(owner, ir.Operation | ir.OpView) else None


def operand(operation: ir.Operation, index: int) -> ir.Value | None:
    """An operand, None for one that is absent."""
    if index >= len(operation.operands):
        return None
    value = operation.operands[index]
    return None if isinstance(value.type, ir.NoneType) else value


def is_op(operation: ir.Operation | None, *op_types: str, domains: Collection[str] = ("",)) -> bool:
    """Whether it is one of these operators, of ONNX's default domain if no others are given."""
    if operation is None or not operation.name.startswith(ONNX):
        return False
    domain = operation.attributes["domain"].value if "domain" in operation.attributes else ""
    return operation.name.removeprefix(ONNX) in op_types and domain in domains


def attributes_of(operation: ir.Operation, *without: str) -> dict[str, ir.Attribute]:
    """The attributes, the node's name included, but for those named."""
    return {key: value for key, value in operation.attributes.items() if key not in without}


def int_attribute(operation: ir.Operation, name: str, default: int) -> int:
    """An integer attribute or its default."""
    return operation.attributes[name].value if name in operation.attributes else default


def has_one_use(value: ir.Value) -> bool:
    """Whether exactly one operand, of any operation, is this value."""
    return sum(1 for _ in value.uses) == 1


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The (static) shape."""
    return tuple(ir.RankedTensorType(value.type).shape)


def dtype_of(value: ir.Value) -> np.dtype:
    """The ONNX dtype."""
    return numpy_dtype(ir.RankedTensorType(value.type).element_type)


def with_shape(like: ir.Value, shape: Sequence[int]) -> ir.Type:
    """A tensor type with the elements of `like`."""
    return ir.RankedTensorType.get(shape, ir.RankedTensorType(like.type).element_type)


def erase_unused(block: ir.Block) -> None:
    """Erases ONNX operations whose results nobody reads; they have no effects."""
    for view in reversed(list(block.operations)):
        operation = view.operation
        if operation.name.startswith(ONNX) and operation.results and not any(_uses(operation)):
            operation.erase()


def _uses(operation: ir.Operation) -> list[bool]:
    return [any(True for _ in result.uses) for result in operation.results]
