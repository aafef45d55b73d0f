"""Loop and Scan whose number of iterations is known: their bodies one after the other, as many nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from tosaic.frontend.added_nodes import AddedNodes
from tosaic.frontend.static_graph import StaticGraph, TensorType, Value, constant

if TYPE_CHECKING:
    from tosaic.frontend.resolution import Resolver, Scope

UNROLLED_NODES = 4096
"""A loop that would become more nodes than this stays a loop."""

UNROLLED_ITERATIONS = 4096
"""So does one that takes more iterations than this, even if all of them fold away."""


class _StaysLoopError(Exception):
    """The loop is too long, or how long it is depends on data."""


def unroll(
    resolver: Resolver, node: onnx.NodeProto, name: str, operands: Sequence[Value | None], scope: Scope
) -> StaticGraph | None:
    """The nodes and results that a Loop or Scan stands for, None for any other node or if it stays a loop."""
    rule = {"Loop": _loop, "Scan": _scan}.get(node.op_type)
    if rule is None or node.domain or any(value is not None and not value.is_known for value in operands):
        return None
    unrolling = _Unrolling(resolver, node, name, scope)
    try:
        outputs = rule(unrolling, operands)
    except _StaysLoopError:
        return None
    return StaticGraph([], outputs, unrolling.nodes)


class _Unrolling(AddedNodes):
    """The nodes of the iterations so far."""

    def __init__(self, resolver: Resolver, node: onnx.NodeProto, name: str, scope: Scope) -> None:
        super().__init__(resolver, name)
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.opset = resolver.opsets.versions.get("", 1)
        self._scope = scope
        self._iterations = 0

    def iterate(self, inputs: Sequence[Value], rest: int | None) -> list[Value]:
        """The results of the body on these inputs; `rest` more iterations will follow, if that is known."""
        body = self._body(inputs, str(self._iterations))
        self._iterations += 1
        self.nodes += body.nodes
        length = len(self.nodes) + len(body.nodes) * (rest or 0)
        if length > UNROLLED_NODES or self._iterations + (rest or 0) > UNROLLED_ITERATIONS:
            raise _StaysLoopError
        if not all(output.is_known for output in body.outputs) or any(node.failure for node in body.nodes):
            raise _StaysLoopError
        return body.outputs

    def output_types(self, inputs: Sequence[Value]) -> list[TensorType]:
        """The types of the body's results, for a loop that never runs it."""
        types = [output.type for output in self._body(inputs, "0").outputs]
        known = [type for type in types if type is not None]
        if len(known) < len(types):
            raise _StaysLoopError
        return known

    def _body(self, inputs: Sequence[Value], part: str) -> StaticGraph:
        return self._resolver.graph(self.attributes["body"], inputs, self._scope, f"{self.name}/{part}/")

    def element(self, sequence: Value, axis: int, index: int) -> Value:
        """One slice of a sequence, without the axis."""
        where = constant("index", np.array(index, np.int64))
        return self.apply("Gather", [sequence, where], axis=axis)

    def stack(self, slices: Sequence[Value], axis: int) -> Value:
        """Slices one after the other along a new axis."""
        shape = list(slices[0].shape)
        if any(list(piece.shape) != shape for piece in slices):
            raise _StaysLoopError
        axis += len(shape) + 1 if axis < 0 else 0
        wider = constant("shape", np.array([*shape[:axis], 1, *shape[axis:]], np.int64))
        if 0 in shape:
            return constant(self.name, np.zeros([*shape[:axis], len(slices), *shape[axis:]], slices[0].dtype))
        return self.apply("Concat", [self.apply("Reshape", [s, wider]) for s in slices], axis=axis)


def _loop(unrolling: _Unrolling, operands: Sequence[Value | None]) -> list[Value]:
    trip_count, condition = operands[:2]
    states = _present(operands[2:])
    count = _known_count(trip_count)
    going_on = constant("condition", np.array(True))
    slices: list[list[Value]] = []
    while (count is None or len(slices) < count) and _is_true(condition):
        iteration = constant("iteration", np.array(len(slices), np.int64))
        rest = None if count is None else count - len(slices) - 1
        condition, *outputs = unrolling.iterate([iteration, going_on, *states], rest)
        states, scanned = outputs[: len(states)], outputs[len(states) :]
        slices.append(scanned)
    if slices:
        return states + [unrolling.stack(pieces, 0) for pieces in zip(*slices)]
    inputs = [Value("iteration", TensorType(np.dtype(np.int64), ())), going_on, *states]
    return states + [_nothing(type) for type in unrolling.output_types(inputs)[1 + len(states) :]]


def _present(values: Sequence[Value | None]) -> list[Value]:
    """The states and sequences; a node that leaves one out is not unrolled, and then refused."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        raise _StaysLoopError
    return present


def _known_count(trip_count: Value | None) -> int | None:
    """None where only the condition ends the loop."""
    if trip_count is None:
        return None
    if trip_count.array is None:
        raise _StaysLoopError
    return max(0, int(trip_count.array.reshape(())))


def _is_true(condition: Value | None) -> bool:
    if condition is None:
        return True
    if condition.array is None:
        raise _StaysLoopError
    return bool(condition.array.reshape(()))


def _nothing(type: TensorType) -> Value:
    return constant("nothing", np.zeros((0, *type.shape), type.dtype))


def _scan(unrolling: _Unrolling, operands: Sequence[Value | None]) -> list[Value]:
    if unrolling.opset < 9:
        return _scan_batch(unrolling, operands)
    values = _present(operands)
    count = unrolling.attributes["num_scan_inputs"]
    axes = unrolling.attributes.get("scan_input_axes", [0] * count)
    backwards = unrolling.attributes.get("scan_input_directions", [0] * count)
    return _scan_values(unrolling, values[:-count], list(zip(values[-count:], axes, backwards)))


def _scan_values(
    unrolling: _Unrolling, states: list[Value], sequences: Sequence[tuple[Value, int, int]]
) -> list[Value]:
    """`sequences` are values with their axis and whether they are read from the end."""
    first, axis, _ = sequences[0]
    length = first.shape[axis]
    slices = []
    for step in range(length):
        elements = [
            unrolling.element(sequence, axis, length - 1 - step if backwards else step)
            for sequence, axis, backwards in sequences
        ]
        outputs = unrolling.iterate([*states, *elements], length - 1 - step)
        states, scanned = outputs[: len(states)], outputs[len(states) :]
        slices.append(scanned)
    if not slices:
        raise _StaysLoopError
    stacked = list(zip(*slices))
    axes = unrolling.attributes.get("scan_output_axes", [0] * len(stacked))
    backwards = unrolling.attributes.get("scan_output_directions", [0] * len(stacked))
    return states + [
        unrolling.stack(pieces[::-1] if reverse else pieces, axis)
        for pieces, axis, reverse in zip(stacked, axes, backwards)
    ]


def _scan_batch(unrolling: _Unrolling, operands: Sequence[Value | None]) -> list[Value]:
    """Opset 8: every value has a batch axis in front, the sequences' own axis is the next."""
    lengths, *rest = operands
    values = _present(rest)
    count = unrolling.attributes["num_scan_inputs"]
    backwards = unrolling.attributes.get("directions", [0] * count)
    if lengths is not None or not values[0].shape[0]:
        raise _StaysLoopError
    results = []
    for row in range(values[0].shape[0]):
        picked = [unrolling.element(value, 0, row) for value in values]
        sequences = [(value, 0, reverse) for value, reverse in zip(picked[-count:], backwards)]
        results.append(_scan_values(unrolling, picked[:-count], sequences))
    return [unrolling.stack(rows, 0) for rows in zip(*results)]
