"""Emitting TOSA: constants, result types, attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.dtypes import held_shape, storage_type, store
from tosaic_passes.onnx_to_tosa.failure import LoweringFailure
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.weights import WeightTable

Operand = Tensor | np.ndarray | float | int | bool
"""What the builder takes in place of a tensor: numbers get the dtype of the tensors beside them."""

RegionBody = Callable[[list[Tensor]], Sequence[Tensor]]
"""Emits the inside of a region on its arguments and gives what it yields."""


class Emitter:
    """Emits TOSA at the current insertion point and location."""

    def __init__(self, weights: WeightTable) -> None:
        self._weights = weights
        self._constants: dict[ir.Attribute, ir.Value] = {}
        self._i32 = ir.IntegerType.get_signless(32)

    def fail(self, reason: str, remedy: str = "") -> NoReturn:
        """The node cannot be lowered: raised, and reported together with all other nodes that cannot."""
        raise LoweringFailure(reason, remedy)

    def constant(self, values: np.ndarray | np.generic | float | Sequence, dtype: Any = None) -> Tensor:
        """A known tensor; it becomes a `tosa.const` only if an op uses it."""
        return Tensor.constant(np.asarray(values, dtype))

    def value(self, tensor: Tensor) -> ir.Value:
        """The SSA value of a tensor, a constant is emitted on first use."""
        if tensor.value is not None:
            return tensor.value
        if tensor.array is None:
            raise ValueError("a tensor is a constant or has a value")
        if tensor.size == 0:
            self.fail(f"TOSA has no tensors without elements, and this one has shape {list(tensor.shape)}")
        try:
            attribute = self._weights.attribute(store(tensor.array).reshape(held_shape(tensor.shape)))
        except ValueError as error:
            raise LoweringFailure(str(error)) from None
        return self._constant_value("tosa.const", attribute, attribute.type)

    def shape_value(self, sizes: Sequence[int]) -> ir.Value:
        """A `tosa.const_shape`."""
        count = len(sizes)
        tensor = ir.RankedTensorType.get([count], ir.IndexType.get())
        attribute = ir.DenseElementsAttr.get(np.array(sizes, np.int64), type=tensor)
        return self._constant_value("tosa.const_shape", attribute, ir.Type.parse(f"!tosa.shape<{count}>"))

    def emit(
        self,
        name: str,
        operands: Sequence[Tensor | ir.Value],
        shape: Sequence[int],
        dtype: Any,
        **attributes: Any,
    ) -> Tensor:
        """Any TOSA op with one result. Attributes: int (i32), ints (i64 array), bool, `ir.Attribute`."""
        shape, dtype = tuple(int(size) for size in shape), np.dtype(dtype)
        if 0 in shape:
            return self.constant(np.zeros(shape, dtype))
        values = [self.value(x) if isinstance(x, Tensor) else x for x in operands]
        operation = ir.Operation.create(
            f"tosa.{name}",
            results=[storage_type(shape, dtype)],
            operands=values,
            attributes={key: self._attribute(value) for key, value in attributes.items()},
        )
        return Tensor(shape, dtype, value=operation.results[0])

    def fill_region(self, region: ir.Region, inputs: Sequence[Tensor], body: RegionBody) -> None:
        """One block with arguments like `inputs`, what `body` emits on them, and a `tosa.yield` of its results.

        The body may read what is around; the constants that it makes are not used outside.
        """
        types = [storage_type(x.shape, x.dtype) for x in inputs]
        block = ir.Block.create_at_start(region, types, [ir.Location.current] * len(types))
        arguments = [Tensor(x.shape, x.dtype, value=v) for x, v in zip(inputs, block.arguments)]
        outside = self._constants
        self._constants = dict(outside)
        try:
            with ir.InsertionPoint(block):
                results = [self.value(result) for result in body(arguments)]
                ir.Operation.create("tosa.yield", operands=results)
        finally:
            self._constants = outside

    def _constant_value(self, name: str, attribute: ir.Attribute, type: ir.Type) -> ir.Value:
        if attribute not in self._constants:
            operation = ir.Operation.create(name, results=[type], attributes={"values": attribute})
            self._constants[attribute] = operation.results[0]
        return self._constants[attribute]

    def _attribute(self, value: Any) -> ir.Attribute:
        if isinstance(value, ir.Attribute):
            return value
        if isinstance(value, bool):
            return ir.BoolAttr.get(value)
        if isinstance(value, int):
            return ir.IntegerAttr.get(self._i32, value)
        return ir.DenseI64ArrayAttr.get([int(item) for item in value])
