"""Writes a static graph as `onnx.*` operations on builtin tensors (contract 1 of docs/design.md)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import onnx
from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic.frontend.model_file import TensorStore
from tosaic.frontend.static_graph import StaticGraph, StaticNode, Value
from tosaic_passes.border import DTYPE, NAME
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable, element_type

DEFAULT_DOMAIN = "ai.onnx"
"""How the module attribute `onnx.opset` spells ONNX's default domain, which has no name in a file."""

_REGION_ORDER = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}


def import_graph(
    graph: StaticGraph,
    outputs: Iterable[str],
    opsets: dict[str, int],
    tensors: TensorStore,
    context: ir.Context,
) -> Program:
    """A module with one function `@main`; `outputs` are the names of the results, in order."""
    context.allow_unregistered_dialects = True
    with context, ir.Location.unknown():
        module = ir.Module.create()
        module.operation.attributes["onnx.opset"] = _opset_attribute(opsets)
        program = Program(module, WeightTable())
        with ir.InsertionPoint(module.body):
            _Importer(program.weights, tensors, opsets).function(graph, list(outputs))
    return program


def _opset_attribute(opsets: dict[str, int]) -> ir.DictAttr:
    si64 = ir.IntegerType.get_signed(64)
    return ir.DictAttr.get({d or DEFAULT_DOMAIN: ir.IntegerAttr.get(si64, v) for d, v in opsets.items()})


class _Importer:
    """Emits one function; `_values` maps each value of the graph to its SSA value."""

    def __init__(self, weights: WeightTable, tensors: TensorStore, opsets: dict[str, int]) -> None:
        self._opsets = opsets
        self._weights = weights
        self._tensors = tensors
        self._values: dict[Value | None, ir.Value] = {}
        self._si64 = ir.IntegerType.get_signed(64)
        self._f32 = ir.F32Type.get()
        self._none = ir.NoneType.get()
        self._tensor_type = cache(self._make_tensor_type)

    def function(self, graph: StaticGraph, names: list[str]) -> None:
        signature = ir.FunctionType.get(self._types(graph.inputs), self._types(graph.outputs))
        function = func.FuncOp("main", signature)
        function.attributes["arg_attrs"] = _border([v.name for v in graph.inputs], graph.inputs)
        function.attributes["res_attrs"] = _border(names, graph.outputs)
        block = function.add_entry_block()
        self._values.update(zip(graph.inputs, block.arguments))
        with ir.InsertionPoint(block):
            self._constants(graph)
            for node in graph.nodes:
                self._node(node)
            func.ReturnOp([self._values[output] for output in graph.outputs])

    def _constants(self, graph: StaticGraph) -> None:
        """All constants, in order of first use, at the head of the function, where regions see them too."""
        for value in _used_values(graph):
            if value in self._values:
                continue
            if value is None:
                self._values[None] = ir.Operation.create("onnx.NoValue", results=[self._none]).results[0]
            elif value.array is not None:
                attribute = self._weights.attribute(value.array, value.name)
                self._values[value] = ir.Operation.create(
                    "onnx.Constant",
                    results=[self._tensor_type(value.dtype, value.shape)],
                    attributes={"value": attribute},
                    loc=ir.Location.name(value.name),
                ).results[0]

    def _node(self, node: StaticNode) -> None:
        graphs = [node.graphs[key] for key in _REGION_ORDER.get(node.proto.op_type, ()) if key in node.graphs]
        operation = ir.Operation.create(
            f"onnx.{node.proto.op_type}",
            results=self._types(node.outputs),
            operands=[self._values[operand] for operand in node.inputs],
            attributes=self._attributes(node),
            regions=len(graphs),
            loc=ir.Location.name(node.name),
        )
        self._values.update(
            (o, result) for o, result in zip(node.outputs, operation.results) if o is not None
        )
        for region, graph in zip(operation.regions, graphs):
            self._region(region, graph)

    def _region(self, region: ir.Region, graph: StaticGraph) -> None:
        types = self._types(graph.inputs)
        block = ir.Block.create_at_start(region, types, [ir.Location.unknown()] * len(types))
        self._values.update(zip(graph.inputs, block.arguments))
        with ir.InsertionPoint(block):
            for node in graph.nodes:
                self._node(node)
            ir.Operation.create("onnx.Yield", operands=[self._values[output] for output in graph.outputs])

    def _types(self, values: Iterable[Value | None]) -> list[ir.Type]:
        return [self._none if v is None else self._tensor_type(v.dtype, v.shape) for v in values]

    def _make_tensor_type(self, dtype: np.dtype, shape: tuple[int, ...]) -> ir.Type:
        return ir.RankedTensorType.get(shape, element_type(dtype))

    def _attributes(self, node: StaticNode) -> dict[str, ir.Attribute]:
        attributes = {a.name: self._attribute(a) for a in node.proto.attribute if a.name not in node.graphs}
        attributes["onnx_node_name"] = ir.StringAttr.get(node.name)
        if node.proto.domain not in ("", DEFAULT_DOMAIN):
            attributes["domain"] = ir.StringAttr.get(node.proto.domain)
        if node.opset != self._opsets.get(node.proto.domain, 1):
            attributes["onnx_opset"] = self._int(node.opset)
        return attributes

    def _attribute(self, attribute: onnx.AttributeProto) -> ir.Attribute:
        kinds = onnx.AttributeProto
        match attribute.type:
            case kinds.INT:
                return self._int(attribute.i)
            case kinds.FLOAT:
                return ir.FloatAttr.get(self._f32, attribute.f)
            case kinds.STRING:
                return ir.StringAttr.get(attribute.s)
            case kinds.TENSOR:
                return self._weights.attribute(self._tensors.array(attribute.t), attribute.name)
            case kinds.INTS:
                return ir.ArrayAttr.get([self._int(value) for value in attribute.ints])
            case kinds.FLOATS:
                return ir.ArrayAttr.get([ir.FloatAttr.get(self._f32, value) for value in attribute.floats])
            case kinds.STRINGS:
                return ir.ArrayAttr.get([ir.StringAttr.get(value) for value in attribute.strings])
        raise ValueError(f"attribute '{attribute.name}' has kind {attribute.type}")

    def _int(self, value: int) -> ir.IntegerAttr:
        return ir.IntegerAttr.get(self._si64, value)


def _border(names: list[str], values: list[Value]) -> ir.ArrayAttr:
    """What the caller sees of each argument or result: its ONNX name and dtype."""
    return ir.ArrayAttr.get(
        [
            ir.DictAttr.get({NAME: ir.StringAttr.get(name), DTYPE: ir.StringAttr.get(value.dtype.name)})
            for name, value in zip(names, values)
        ]
    )


def _used_values(graph: StaticGraph) -> Iterable[Value | None]:
    for node in graph.nodes:
        yield from node.inputs
        for subgraph in node.graphs.values():
            yield from _used_values(subgraph)
    yield from graph.outputs
