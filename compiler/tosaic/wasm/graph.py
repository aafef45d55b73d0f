"""A TOSA program in the backend's own terms: values and nodes in program order, free of MLIR's cursors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch_mlir import ir

from tosaic.wasm.kernel import ELEMENT_BYTES


@dataclass(eq=False)
class Value:
    """A tensor: element type (MLIR spelling), static shape, and its values where they are known.

    `producer` is None for arguments and constants; `users` are all readers, each once, in program order.
    """

    element: str
    shape: tuple[int, ...]
    array: np.ndarray | None = field(default=None, repr=False)
    producer: Node | None = field(default=None, repr=False)
    users: list[Node] = field(default_factory=list, repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * ELEMENT_BYTES[self.element]


@dataclass(eq=False)
class Node:
    """One TOSA op. `op` is its name without prefix; operands that must be constants (shapes, zero points) are
    Python values in `attributes`, all others are `inputs`.

    Regions are graphs of their own. Their inputs are those of the node (for `cond_if` without the condition, the
    first one); constants are known inside. The first inputs of a `while_loop`, as many as it has outputs, are its
    states; what it hands on unchanged is none of its outputs.
    """

    op: str
    index: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attributes: Mapping[str, Any]
    operation: ir.Operation = field(repr=False)
    segment: int = 0
    regions: tuple[Graph, ...] = ()

    @property
    def output(self) -> Value:
        return self.outputs[0]


@dataclass(frozen=True, eq=False)
class Folded:
    """An op on constants that was computed at compile time: it runs no code and belongs to the nodes that read it."""

    inputs: tuple[Value, ...]
    output: Value
    operation: ir.Operation


@dataclass(frozen=True)
class Border:
    """An argument or result of the program, by its ONNX name, dtype and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    value: Value


@dataclass(eq=False)
class Graph:
    """A whole program, calls of segments inlined; or a region, whose inputs and outputs have no names."""

    inputs: list[Border] = field(default_factory=list)
    outputs: list[Border] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    folded: list[Folded] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)


def scalar(array: np.ndarray) -> int | float:
    """The one value of a single-element array as a Python number; bool counts as int."""
    value = array.reshape(-1)[0]
    return float(value) if array.dtype.kind not in "biu" else int(value)
