"""Operators that ONNX defines by a function: what their schema says they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

from tosaic.frontend.node_evaluation import Opsets
from tosaic.frontend.static_graph import StaticNode


def function_body(node: StaticNode, opsets: Opsets) -> tuple[onnx.GraphProto, Opsets] | None:
    """The graph that a node stands for and the opsets it is written in, None if ONNX gives none.

    The graph's inputs and outputs are the node's, in order; operands that the node leaves out are gone.
    """
    function = _function(node, opsets)
    if function is None:
        return None
    absent = {name for name, value in _padded(function.input, node) if value is None}
    attributes = {a.name: a for a in (*function.attribute_proto, *node.proto.attribute)}
    nodes = [_bound(inner, attributes, absent) for inner in function.node]
    kept = [name for name, value in _padded(function.input, node) if value is not None]
    results = [name for name, value in zip(function.output, node.outputs) if value is not None]
    graph = onnx.GraphProto(
        node=nodes,
        input=[onnx.ValueInfoProto(name=name) for name in kept],
        output=[onnx.ValueInfoProto(name=name) for name in results],
    )
    versions = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
    return graph, Opsets(versions, opsets.ir_version)


def _function(node: StaticNode, opsets: Opsets) -> onnx.FunctionProto | None:
    """The newest body that is not newer than the model's opset, or else the oldest one."""
    schema: Any = opsets.schema(node.proto.domain, node.proto.op_type)  # the package's stubs miss half of it
    if schema is None or any(operand.type is None for operand in node.operands):
        return None
    model_version = opsets.versions[node.proto.domain]
    if schema.has_function:
        version = _chosen(schema.function_opset_versions, model_version)
        return onnx.FunctionProto.FromString(schema.get_function_with_opset_version(version))
    if not schema.has_context_dependent_function:
        return None
    version = _chosen(schema.context_dependent_function_opset_versions, model_version)
    types = [b"" if v is None else v.type_proto.SerializeToString() for v in node.inputs]
    body = schema.get_context_dependent_function_with_opset_version(
        version, node.proto.SerializeToString(), types
    )
    return onnx.FunctionProto.FromString(body) if body else None


def _chosen(versions: list[int], model_version: int) -> int:
    return max((v for v in versions if v <= model_version), default=min(versions))


def _padded(names: Sequence[str], node: StaticNode) -> Iterator[tuple[str, object]]:
    """The function's inputs with the node's operands, None for those left out at the end."""
    yield from zip(names, [*node.inputs, *[None] * len(names)])


def _bound(
    node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto], absent: set[str]
) -> onnx.NodeProto:
    """A node of the body with the caller's attributes in place of references and without absent operands."""
    bound = onnx.NodeProto()
    bound.CopyFrom(node)
    for index, name in enumerate(node.input):
        if name in absent:
            bound.input[index] = ""
    del bound.attribute[:]
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name in attributes:
                given = bound.attribute.add()
                given.CopyFrom(attributes[attribute.ref_attr_name])
                given.name = attribute.name
            continue
        own = bound.attribute.add()
        own.CopyFrom(attribute)
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = [_bound(n, attributes, absent) for n in attribute.g.node]
            del own.g.node[:]
            own.g.node.extend(inner)
    return bound
