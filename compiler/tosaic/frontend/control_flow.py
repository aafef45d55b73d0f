"""If, Loop and Scan: which branch is taken where the condition is constant, and the types of the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from tosaic.errors import TosaicError
from tosaic.frontend.static_graph import StaticGraph, StaticNode, TensorType, Value, constant

if TYPE_CHECKING:
    from tosaic.frontend.resolution import Resolver, Scope


BIND = "bind {inputs} with --constant"
"""The remedy where data decide; the inputs that do are filled in when the whole graph is known."""


class UnresolvedError(ValueError):
    """The results of a node have no static type, with the reason."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def taken_branch(node: onnx.NodeProto, operands: Sequence[Value | None]) -> onnx.GraphProto | None:
    """The branch of an If whose condition is constant, None for all else."""
    if node.op_type != "If" or node.domain or not _is_constant(operands[0]):
        return None
    return _graph(node, "then_branch" if _is_true(operands[0]) else "else_branch")


def check_signature(node: onnx.NodeProto, name: str, opset: int) -> None:
    """The graphs inside an If, Loop or Scan take what the node gives and give what it wants; no checker looks at that.

    Raises:
        TosaicError: naming the node and the numbers that do not fit.
    """
    if node.domain or node.op_type not in ("If", "Loop", "Scan"):
        return
    given, states = _operand_counts(node, opset)
    results = len(node.output) + (node.op_type == "Loop")  # and whether it goes on
    for attribute in node.attribute:
        if attribute.type != onnx.AttributeProto.GRAPH:
            continue
        graph, what = attribute.g, f"{node.op_type} node '{name}': its {attribute.name.replace('_', ' ')}"
        if len(graph_inputs(graph)) != given:
            raise TosaicError(f"{what} has {len(graph_inputs(graph))} inputs, and it gets {given}")
        if len(graph.output) < max(results, states):
            raise TosaicError(
                f"{what} has {len(graph.output)} results, and {max(results, states)} are needed"
            )


def _operand_counts(node: onnx.NodeProto, opset: int) -> tuple[int, int]:
    """How many inputs the graphs inside get, and how many results they have to give at least."""
    if node.op_type == "If":
        return 0, 0
    if node.op_type == "Loop":
        return max(2, len(node.input)), 1 + len(node.input[2:])
    operands = len(node.input) - (opset < 9)
    sequences = next(attribute.i for attribute in node.attribute if attribute.name == "num_scan_inputs")
    return operands, operands - sequences


def graph_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a graph; IR versions below 4 list the initializers among them."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in initializers]


def infer(resolver: Resolver, node: StaticNode, scope: Scope) -> list[onnx.TypeProto | None]:
    """Resolves the subgraphs of a node into `node.graphs` and returns the types of its results.

    Raises:
        UnresolvedError: the types depend on values that are not constant.
    """
    rules = {"If": _infer_if, "Loop": _infer_loop, "Scan": _infer_scan}
    rule = rules.get(node.proto.op_type)
    if rule is None:
        raise UnresolvedError("no rule gives the shapes of its results")
    return rule(resolver, node, scope)


def _infer_if(resolver: Resolver, node: StaticNode, scope: Scope) -> list[onnx.TypeProto | None]:
    for key in ("then_branch", "else_branch"):
        branch = _graph(node.proto, key)
        node.graphs[key] = resolver.graph(branch, [], scope, f"{node.name}/{key}/")
        if any(output.type is None for output in node.graphs[key].outputs):
            raise UnresolvedError(
                f"data decides whether its {key.replace('_', ' ')} is taken, which gives no static shapes",
                BIND,
            )
    pairs = zip(node.graphs["then_branch"].outputs, node.graphs["else_branch"].outputs)
    return [_common_type(one, other) for one, other in pairs]


def _common_type(one: Value, other: Value) -> onnx.TypeProto:
    assert one.type is not None
    assert other.type is not None
    if one.type != other.type:
        raise UnresolvedError(f"its branches give {_shown(one.type)} and {_shown(other.type)}")
    return one.type_proto


def _infer_loop(resolver: Resolver, node: StaticNode, scope: Scope) -> list[onnx.TypeProto | None]:
    trip_count, condition = node.inputs[:2]
    states = _present(node.inputs[2:])
    iteration = Value("iteration", TensorType(np.dtype(np.int64), ()))
    going_on = constant("condition", np.array(True))  # or else the iteration would not run
    body = _body(resolver, node, [iteration, going_on, *_carried(states)], scope)
    next_condition, *outputs = body.outputs
    _require_same_types(states, outputs[: len(states)])
    counted = (condition is None or _is_true(condition)) and _is_true(next_condition)
    length = _trip_count(trip_count) if counted else None
    return [state.type_proto for state in states] + [_stacked(o, length, 0) for o in outputs[len(states) :]]


def _trip_count(limit: Value | None) -> int | None:
    if limit is None or limit.array is None:
        return None
    return max(0, int(limit.array.reshape(())))


def _infer_scan(resolver: Resolver, node: StaticNode, scope: Scope) -> list[onnx.TypeProto | None]:
    if resolver.opsets.versions[""] < 9:
        raise UnresolvedError("Scan of opset 8, with its batch axis, is not taken")
    attributes = {attribute.name: attribute for attribute in node.proto.attribute}
    operands = _present(node.inputs)
    count = attributes["num_scan_inputs"].i
    states, sequences = operands[:-count], operands[-count:]
    axes = _axes(attributes, "scan_input_axes", count)
    elements = [_element(sequence, axis) for sequence, axis in zip(sequences, axes)]
    body = _body(resolver, node, [*_carried(states), *elements], scope)
    _require_same_types(states, body.outputs[: len(states)])
    outputs = body.outputs[len(states) :]
    length = sequences[0].shape[axes[0]]
    out_axes = _axes(attributes, "scan_output_axes", len(outputs))
    stacked = [_stacked(output, length, axis) for output, axis in zip(outputs, out_axes)]
    return [state.type_proto for state in states] + stacked


def _axes(attributes: dict[str, onnx.AttributeProto], name: str, count: int) -> list[int]:
    return list(attributes[name].ints) if name in attributes else [0] * count


def _element(sequence: Value, axis: int) -> Value:
    shape = list(sequence.shape)
    del shape[axis]
    return Value(sequence.name, TensorType(sequence.dtype, tuple(shape)))


def _carried(states: Sequence[Value]) -> list[Value]:
    """The body's view of the states: same types, no values, for they change."""
    return [Value(state.name, state.type) for state in states]


def _body(resolver: Resolver, node: StaticNode, inputs: list[Value], scope: Scope) -> StaticGraph:
    body = resolver.graph(_graph(node.proto, "body"), inputs, scope, f"{node.name}/")
    node.graphs["body"] = body
    return body


def _require_same_types(states: Sequence[Value], results: Sequence[Value]) -> None:
    for state, result in zip(states, results):
        if state.type is not None and result.type is not None and state.type != result.type:
            raise UnresolvedError(
                f"its state '{state.name}' changes from {_shown(state.type)} to {_shown(result.type)}, "
                "and how often it runs depends on data or is too often for unrolling"
            )


def _stacked(output: Value, length: int | None, axis: int) -> onnx.TypeProto | None:
    """The type of a scan output: one slice for each iteration."""
    if length is None or output.type is None:
        return None
    shape = list(output.shape)
    shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, length)
    return Value(output.name, TensorType(output.dtype, tuple(shape))).type_proto


def _present(values: Sequence[Value | None]) -> list[Value]:
    present = [value for value in values if value is not None]
    if len(present) != len(values):
        raise UnresolvedError("one of its states is absent")
    return present


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.array is not None


def _is_true(value: Value | None) -> bool:
    return value is not None and value.array is not None and bool(value.array.reshape(()))


def _shown(type: TensorType) -> str:
    return f"{type.dtype.name}{list(type.shape)}"


def _graph(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    return next(attribute.g for attribute in node.attribute if attribute.name == name)
