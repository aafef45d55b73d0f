"""Makes a graph static: one walk in topological order that infers every type and folds what is constant."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference

from tosaic.errors import TosaicError, UnsupportedNode, UnsupportedNodesError
from tosaic.frontend import control_flow
from tosaic.frontend.control_flow import BIND, UnresolvedError
from tosaic.frontend.function_body import function_body
from tosaic.frontend.ml_type_rules import ML, has_ml_rule, infer_ml_types
from tosaic.frontend.model_file import TensorStore
from tosaic.frontend.node_evaluation import Opsets, fold, infer_types
from tosaic.frontend.sequences import resolve_sequence
from tosaic.frontend.static_graph import (
    StaticGraph,
    StaticNode,
    TensorSequence,
    TensorType,
    Value,
    constant,
    element_dtype,
    kind_of,
)
from tosaic.frontend.type_rules import has_rule, infer_types_by_rule, infer_types_by_value
from tosaic.frontend.unrolling import unroll

Scope = ChainMap[str, Value]

IsLowered = Callable[[str, str, int], bool]
"""Whether an operator (name, domain, the model's opset of that domain) can be lowered."""

_GRAPH_KINDS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_CARRIED = {
    onnx.AttributeProto.AttributeType.Value(name)
    for name in ("INT", "FLOAT", "STRING", "TENSOR", "INTS", "FLOATS", "STRINGS", "GRAPH")
}
"""Kinds of attributes that an operation in MLIR carries; a graph becomes its region."""


def resolve(
    model: onnx.ModelProto,
    inputs: Sequence[Value],
    opsets: Opsets,
    tensors: TensorStore,
    is_lowered: IsLowered | None = None,
) -> StaticGraph:
    """The model's graph with static types, constants folded and dead nodes gone.

    An operator that `is_lowered` does not know is replaced by what it is made of, where ONNX says so.
    `inputs` are the graph's inputs; those with an array are constants and no longer inputs of the result.

    Raises:
        UnsupportedNodesError: every node whose results have no static type, together with those that
            `is_lowered` knows will not be lowered.
    """
    graph = Resolver(opsets, tensors, is_lowered).graph(model.graph, inputs, ChainMap())
    graph.inputs = [value for value in inputs if value.array is None]
    _refuse_sequences(model.graph, graph)
    _drop_dead_nodes(graph, set())
    nodes = list(_all_nodes(graph))
    failures = [_failure(node) for node in nodes]
    if any(failures):
        unlowered = [_unlowered(node, is_lowered) if is_lowered else None for node in nodes]
        deciding = _deciding_inputs(graph)
        found = [
            _with_inputs(failure, deciding[node]) if failure else other
            for node, failure, other in zip(nodes, failures, unlowered)
        ]
        raise UnsupportedNodesError([reason for reason in found if reason is not None])
    return graph


def _refuse_sequences(proto: onnx.GraphProto, graph: StaticGraph) -> None:
    for info, output in zip(proto.output, graph.outputs):
        if isinstance(output, TensorSequence):
            raise TosaicError(
                f"output '{info.name}' is a sequence; tosaic gives tensors only",
                "end the model with its elements (SequenceAt) or with all of them joined (ConcatFromSequence)",
            )


class Resolver:
    """Walks graphs and the graphs inside their nodes."""

    def __init__(self, opsets: Opsets, tensors: TensorStore, is_lowered: IsLowered | None = None) -> None:
        self.opsets = opsets
        self._tensors = tensors
        self._is_lowered = is_lowered

    def graph(
        self, proto: onnx.GraphProto, inputs: Sequence[Value], outer: Scope, prefix: str = ""
    ) -> StaticGraph:
        """`outer` are the values of the graphs around; `prefix` keeps node names apart between graphs."""
        scope = outer.new_child()
        for info, value in zip(control_flow.graph_inputs(proto), inputs):
            scope[info.name] = value
        for tensor in proto.initializer:
            scope[tensor.name] = constant(tensor.name, self._tensors.array(tensor))
        for sparse in proto.sparse_initializer:
            scope[sparse.values.name] = constant(sparse.values.name, self._tensors.dense(sparse))
        nodes: list[StaticNode] = []
        live = _live_nodes(proto)
        declared = _declared_types(proto)
        for index, node in enumerate(proto.node):
            if index not in live:
                continue
            resolved = self.node(node, prefix + (node.name or f"{node.op_type}_{index}"), scope)
            _adopt(resolved, declared)
            nodes += resolved
        return StaticGraph(list(inputs), [scope[info.name] for info in proto.output], nodes)

    def node(self, proto: onnx.NodeProto, name: str, scope: Scope) -> list[StaticNode]:
        """Binds the results in `scope`; returns the nodes that compute them, none if they are constant."""
        if proto.op_type == "Constant" and not proto.domain:
            scope[proto.output[0]] = constant(proto.output[0], _constant_value(proto, self._tensors))
            return []
        control_flow.check_signature(proto, name, self.opsets.versions.get("", 1))
        inputs = [scope[operand] if operand else None for operand in proto.input]
        branch = control_flow.taken_branch(proto, inputs)
        if branch is not None:
            return self._inline(proto, self.graph(branch, [], scope, f"{name}/"), scope)
        unrolled = unroll(self, proto, name, inputs, scope)
        if unrolled is not None:
            return self._inline(proto, unrolled, scope)
        results = [Value(result) if result else None for result in proto.output]
        node = StaticNode(proto, name, inputs, results, opset=self.opsets.versions.get(proto.domain, 1))
        of_sequences = self._resolve_sequence(node, scope)
        if of_sequences is not None:
            return of_sequences
        self._infer(node, scope)
        scope.update((result.name, result) for result in node.results)
        arrays = fold(node, self.opsets)
        if arrays is None:
            return self._expand(node, scope) or [node]
        for result, array in zip(node.outputs, arrays):
            if result is not None:
                result.array = array
        return []

    def _resolve_sequence(self, node: StaticNode, scope: Scope) -> list[StaticNode] | None:
        """The nodes that one of sequences stands for, itself where that is not clear, None for all others."""
        try:
            found = resolve_sequence(self, node.proto, node.name, node.inputs)
        except UnresolvedError as error:
            node.failure = UnsupportedNode(node.name, node.proto.op_type, str(error), error.remedy)
            scope.update((result.name, result) for result in node.results)
            return [node]
        if found is None:
            return None
        added, scope[node.proto.output[0]] = found
        return added.nodes

    def _inline(self, proto: onnx.NodeProto, graph: StaticGraph, scope: Scope) -> list[StaticNode]:
        scope.update((result, value) for result, value in zip(proto.output, graph.outputs) if result)
        return graph.nodes

    def _expand(self, node: StaticNode, scope: Scope) -> list[StaticNode] | None:
        """The nodes of the body of an operator without lowering, if it has a body and that is static."""
        if self._is_lowered is None or _unlowered(node, self._is_lowered) is None:
            return None
        found = function_body(node, self.opsets)
        if found is None:
            return None
        body, opsets = found
        graph = Resolver(opsets, self._tensors, self._is_lowered).graph(
            body, node.operands, ChainMap(), f"{node.name}/"
        )
        if any(value.type is None for value in graph.outputs):
            return None
        scope.update((result.name, value) for result, value in zip(node.results, graph.outputs))
        return graph.nodes

    def _infer(self, node: StaticNode, scope: Scope) -> None:
        """Sets the types of the results, or says why it cannot; silent if an operand has none already."""
        try:
            self._require_known(node.proto)
            _require_positive(node.proto)
            if any(operand.type is None for operand in node.operands):
                return
            for result, type_proto in zip(node.outputs, self._types(node, scope)):
                if result is not None and type_proto is not None:
                    result.type = _static_type(result.name, type_proto)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            remedy = error.remedy if isinstance(error, UnresolvedError) else ""
            node.failure = UnsupportedNode(node.name, node.proto.op_type, reason, remedy)

    def _types(self, node: StaticNode, scope: Scope) -> Sequence[onnx.TypeProto | None]:
        proto = node.proto
        if any(attribute.type in _GRAPH_KINDS for attribute in proto.attribute):
            return control_flow.infer(self, node, scope)
        if proto.domain == ML:
            return infer_ml_types(proto, node.operands)
        schema = self.opsets.schema(proto.domain, proto.op_type)
        if schema is not None and schema.has_type_and_shape_inference_function:
            by_value = infer_types_by_value(proto, node.inputs)
            return by_value or infer_types(proto, node.inputs, schema, self.opsets)
        types = infer_types_by_rule(proto, node.inputs)
        if types is None:
            raise UnresolvedError("the shapes of this variant's results are not known")
        return types

    def _require_known(self, proto: onnx.NodeProto) -> None:
        """Raises unless there is a rule for the types of the results."""
        schema = self.opsets.schema(proto.domain, proto.op_type)
        inferable = schema is not None and schema.has_type_and_shape_inference_function
        known = has_ml_rule(proto.op_type) if proto.domain == ML else has_rule(proto.domain, proto.op_type)
        if not known and (proto.domain == ML or not inferable):
            raise UnresolvedError(
                f"no operator of domain '{proto.domain or 'ai.onnx'}' with a known result type"
            )


_POSITIVE = frozenset(
    {
        "blocksize",
        "dilations",
        "group",
        "kernel_shape",
        "num_groups",
        "num_outputs",
        "offset_group",
        "p",
        "strides",
    }
)
"""Attributes that something is divided by: in onnx's own inference a 0 of them ends the process."""


def _require_positive(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in _POSITIVE and any(value < 1 for value in _integers(attribute)):
            raise UnresolvedError(f"its attribute '{attribute.name}' is not positive")


def _integers(attribute: onnx.AttributeProto) -> Sequence[int]:
    return [attribute.i] if attribute.type == onnx.AttributeProto.INT else list(attribute.ints)


def _static_type(name: str, type_proto: onnx.TypeProto) -> TensorType | None:
    """None if a dimension or the dtype is unknown."""
    kind = type_proto.WhichOneof("value")
    if kind is None:
        return None
    if kind != "tensor_type":
        raise UnresolvedError(f"its result '{name}' is no tensor but {kind_of(type_proto)}")
    tensor = type_proto.tensor_type
    is_static = tensor.HasField("shape") and all(
        dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim
    )
    if not is_static or not tensor.elem_type:
        return None
    dtype = element_dtype(tensor.elem_type)
    return None if dtype is None else TensorType(dtype, tuple(dim.dim_value for dim in tensor.shape.dim))


def _declared_types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """The static types that the model itself states for its values."""
    types = {}
    for info in (*graph.value_info, *graph.output):
        if info.type.WhichOneof("value") == "tensor_type":
            types[info.name] = _static_type(info.name, info.type)
    return {name: type for name, type in types.items() if type is not None}


def _adopt(nodes: Sequence[StaticNode], declared: Mapping[str, TensorType]) -> None:
    """Where a shape depends on data, the model's own statement counts (how many rows Unique gives, say)."""
    for node in nodes:
        if node.failure is None and all(operand.type is not None for operand in node.operands):
            for result in node.results:
                result.type = result.type or declared.get(result.name)


def _constant_value(node: onnx.NodeProto, tensors: TensorStore) -> np.ndarray:
    """The array of a Constant node, whichever of its attributes holds it."""
    if not node.attribute:
        raise UnsupportedNodesError(
            [UnsupportedNode(node.name or node.output[0], "Constant", "it has no value")]
        )
    attribute = node.attribute[0]
    if attribute.name == "value":
        return tensors.array(attribute.t)
    dtypes = {"value_int": np.int64, "value_float": np.float32, "value_string": object}
    dtype = dtypes.get(attribute.name.removesuffix("s"))
    if dtype is None:
        reason = f"its value is given as {attribute.name}"
        raise UnsupportedNodesError([UnsupportedNode(node.name or node.output[0], "Constant", reason)])
    return np.array(onnx.helper.get_attribute_value(attribute), dtype)


def _live_nodes(graph: onnx.GraphProto) -> set[int]:
    """Indices of the nodes that the outputs depend on; dead ones need not be understood."""
    needed = {info.name for info in graph.output}
    live: set[int] = set()
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if not needed.isdisjoint(node.output):
            live.add(index)
            needed.update(_used_names(node))
    return live


def _used_names(node: onnx.NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPH_KINDS else ():
            yield from (info.name for info in graph.output)
            for inner in graph.node:
                yield from _used_names(inner)


def _drop_dead_nodes(graph: StaticGraph, needed: set[Value | None]) -> None:
    """Keeps what the outputs and `needed` depend on, and adds to `needed` what the nodes kept depend on."""
    needed.update(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.results):
            continue
        node.outputs = [o if o in needed or (o and o.type) else None for o in node.outputs]
        for subgraph in node.graphs.values():
            _drop_dead_nodes(subgraph, needed)
        needed.update(node.operands)
        kept.append(node)
    graph.nodes = kept[::-1]


def _all_nodes(graph: StaticGraph) -> Iterator[StaticNode]:
    for node in graph.nodes:
        for subgraph in node.graphs.values():
            yield from _all_nodes(subgraph)
        yield node


def _failure(node: StaticNode) -> UnsupportedNode | None:
    return node.failure or _string_tensor(node) or _unreadable_attribute(node) or _unknown_result(node)


def _deciding_inputs(graph: StaticGraph) -> dict[StaticNode, list[str]]:
    """The names of the graph's inputs that a node's type depends on: of an If those that its condition comes from."""
    origins: dict[Value | None, set[str]] = {value: {value.name} for value in graph.inputs}
    deciding: dict[StaticNode, list[str]] = {}

    def visit(graph: StaticGraph) -> None:
        for node in graph.nodes:
            names = set().union(*(origins.get(operand, set()) for operand in node.operands))
            deciding[node] = sorted(names)
            for subgraph in node.graphs.values():
                origins.update(dict.fromkeys(subgraph.inputs, names))
                visit(subgraph)
                names = names.union(*(origins.get(output, set()) for output in subgraph.outputs))
            origins.update(dict.fromkeys(node.results, names))

    visit(graph)
    return deciding


def _with_inputs(failure: UnsupportedNode, names: list[str]) -> UnsupportedNode:
    if failure.remedy != BIND:
        return failure
    shown = ", ".join(map(repr, names[:3])) + (" or others" if len(names) > 3 else "")
    return replace(failure, remedy=BIND.format(inputs=shown) if names else "")


def _unlowered(node: StaticNode, is_lowered: IsLowered) -> UnsupportedNode | None:
    op, domain = node.proto.op_type, node.proto.domain
    if is_lowered(op, domain, node.opset):
        return None
    return UnsupportedNode(node.name, op, "the operator has no lowering to TOSA")


def _string_tensor(node: StaticNode) -> UnsupportedNode | None:
    for value in (*node.operands, *node.results):
        if value.type is not None and value.dtype.kind in "OSU":
            reason = f"'{value.name}' is a tensor of strings"
            return UnsupportedNode(node.name, node.proto.op_type, reason, _remedy_for_strings(node))
    return None


def _remedy_for_strings(node: StaticNode) -> str:
    """Classifiers name their classes by strings if they were trained so; skl2onnx can leave the names out."""
    if node.proto.domain != ML:
        return ""
    return "convert it with numbers for classes: skl2onnx with options={'zipmap': False, 'nocl': True}"


def _unreadable_attribute(node: StaticNode) -> UnsupportedNode | None:
    for attribute in node.proto.attribute:
        if attribute.type not in _CARRIED:
            kind = onnx.AttributeProto.AttributeType.Name(attribute.type).lower().replace("_", " ")
            reason = f"its attribute '{attribute.name}' is a {kind}"
            return UnsupportedNode(node.name, node.proto.op_type, reason)
        if not all(map(_is_text, (attribute.s, *attribute.strings))):
            return UnsupportedNode(
                node.name, node.proto.op_type, f"its attribute '{attribute.name}' is not UTF-8"
            )
    return None


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unknown_result(node: StaticNode) -> UnsupportedNode | None:
    """The failure of a node that has no static result although its operands are static."""
    unknown = [result for result in node.results if result.type is None]
    if not unknown or any(operand.type is None for operand in node.operands):
        return None
    reason = f"the shape of its result '{unknown[0].name}' depends on the values of its operands"
    return UnsupportedNode(node.name, node.proto.op_type, reason, BIND)
