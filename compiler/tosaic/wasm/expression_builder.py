"""Elementwise ops as one expression of a kernel: what it reads, and what it computes from that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tosaic.wasm.calls import Placed
from tosaic.wasm.graph import Node, Value, scalar
from tosaic.wasm.kernel import Expression

_ZERO_POINTS = {"rescale": ("input_zp", "output_zp"), "negate": ("input1_zp", "output_zp")}
"""Attributes that become constant arguments in an expression."""


class ExpressionBuilder:
    """Collects the nodes of an expression over a shape, and the inputs that they read.

    `place` tells where a value is in memory.
    """

    def __init__(self, place: Callable[[Value], Placed], shape: tuple[int, ...]) -> None:
        self.place = place
        self.shape = shape
        self.inputs: list[tuple[Placed, np.ndarray | None]] = []
        self.nodes: list[tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...]]] = []
        self.elements: list[str] = []
        self.index: dict[Value, int] = {}

    def result(self, value: Value) -> None:
        """The value that the root computes."""
        self.index[value] = self._node("result", (), (), value.element)

    def add(self, node: Node) -> None:
        attributes = dict(node.attributes)
        arguments = [self._argument(value, node) for value in node.inputs if not is_table(value, node)]
        if node.op == "table":
            attributes["input"] = self._input(self.place(node.inputs[1]), node.inputs[1].array)
        if node.op == "exp" and _is_less_its_maximum(node.inputs[0]):
            attributes["never_positive"] = True
        for name in _ZERO_POINTS.get(node.op, ()):
            element = node.inputs[0].element if name.startswith("input") else node.output.element
            arguments.append(self._constant(attributes.pop(name), element))
        self.index[node.output] = self._node(
            node.op, tuple(arguments), tuple(sorted(attributes.items())), node.output.element
        )

    def build(self) -> Expression:
        return Expression(tuple(self.nodes), tuple(self.elements))

    def _argument(self, value: Value, node: Node) -> int:
        if value not in self.index:
            self.index[value] = self._external(value, node)
        return self.index[value]

    def _external(self, value: Value, node: Node) -> int:
        if value.array is not None and is_uniform(value.array):
            return self._constant(scalar(value.array), value.element)
        place, array = self.place(value), value.array
        window = place.window
        if node.op == "rescale" and len(value.shape) < len(self.shape):
            aligned = (1,) * (len(self.shape) - len(value.shape)) + value.shape
            window = window.with_dims(aligned, (0,) * (len(aligned) - len(value.shape)) + window.strides)
            array = None if array is None else array.reshape(aligned)
        window = window.broadcast(self.shape)
        array = None if array is None else np.broadcast_to(array, self.shape)
        index = self._input(Placed(place.buffer, window), array)
        return self._node("input", (index,), (), value.element)

    def _input(self, place: Placed, array: np.ndarray | None) -> int:
        self.inputs.append((place, array))
        return len(self.inputs) - 1

    def _constant(self, value: int | float, element: str) -> int:
        return self._node("constant", (), (("element", element), ("value", value)), element)

    def _node(self, op: str, arguments: tuple, attributes: tuple, element: str) -> int:
        self.nodes.append((op, arguments, attributes))
        self.elements.append(element)
        return len(self.nodes) - 1


def _is_less_its_maximum(value: Value) -> bool:
    """True for x less the maximum of x along an axis, as in every softmax: never positive."""
    node = value.producer
    if node is None or node.op != "sub":
        return False
    x, largest = node.inputs
    maximum = largest.producer
    return maximum is not None and maximum.op == "reduce_max" and maximum.inputs[0] is x


def is_uniform(array: np.ndarray) -> bool:
    """True if all elements have the same bits, as in a splat, which is one element in memory."""
    if array.size <= 1 or not any(array.strides):
        return array.size > 0
    first, last = (array[(at,) * array.ndim].tobytes() for at in (0, -1))
    if first != last:
        return False
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
    return bool((raw == raw[0]).all())


def is_table(value: Value, node: Node) -> bool:
    """True if the node looks results up in the value."""
    return node.op == "table" and value is node.inputs[1]


def constant(element: str, value: int | float) -> Expression:
    """The same value everywhere."""
    attributes = (("element", element), ("value", value))
    return Expression((("constant", (), attributes),), (element,))
