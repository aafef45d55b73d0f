"""The graph between ONNX and MLIR: each value has one dtype and one static shape, each constant its array."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import onnx

from tosaic.errors import UnsupportedNode


class TensorType(NamedTuple):
    """dtype and static shape."""

    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(eq=False)
class Value:
    """One tensor. `type` is None where it cannot be known; only constants have an `array`."""

    name: str
    type: TensorType | None = None
    array: np.ndarray | None = None

    @property
    def is_known(self) -> bool:
        """Whether it is clear what it holds."""
        return self.type is not None

    @property
    def dtype(self) -> np.dtype:
        assert self.type is not None
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.type is not None
        return self.type.shape

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @cached_property
    def type_proto(self) -> onnx.TypeProto:
        """The type in ONNX's terms."""
        return onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(self.dtype), self.shape
        )


@dataclass(eq=False)
class TensorSequence(Value):
    """A sequence of known length; it has no type, its elements have."""

    elements: list[Value] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        return all(element.is_known for element in self.elements)


_KINDS = {
    "map_type": "a map",
    "opaque_type": "an opaque value",
    "optional_type": "an optional value",
    "sequence_type": "a sequence",
    "sparse_tensor_type": "a sparse tensor",
    "tensor_type": "a tensor",
    None: "a value without a type",
}


def kind_of(type_proto: onnx.TypeProto) -> str:
    """What kind of value a type stands for, with its article."""
    return _KINDS[type_proto.WhichOneof("value")]


def element_dtype(elem_type: int) -> np.dtype | None:
    """The dtype that ONNX's number of an element type stands for, None for a number that it does not know."""
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(elem_type)
    except KeyError:
        return None


def constant(name: str, array: np.ndarray) -> Value:
    return Value(name, TensorType(array.dtype, array.shape), array)


@dataclass(eq=False)
class StaticNode:
    """One node: operands and results (None where absent), its subgraphs, and why it cannot be held, if so.

    `opset` is the version of its domain that it is written in.
    """

    proto: onnx.NodeProto
    name: str
    inputs: list[Value | None]
    outputs: list[Value | None]
    graphs: dict[str, StaticGraph] = field(default_factory=dict)
    failure: UnsupportedNode | None = None
    opset: int = 1

    @property
    def operands(self) -> list[Value]:
        """The operands that are present."""
        return [value for value in self.inputs if value is not None]

    @property
    def results(self) -> list[Value]:
        """The results that are present."""
        return [value for value in self.outputs if value is not None]


@dataclass(eq=False)
class StaticGraph:
    """Nodes in topological order. A subgraph's nodes may use values of the graphs around it."""

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[StaticNode]
