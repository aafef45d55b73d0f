"""What one ONNX node gives: the types of its results, and their values where its operands are constants."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx.shape_inference

from tosaic.frontend.static_graph import StaticNode, Value

INFERENCE_ELEMENTS = 4096
"""Constants up to this size are shown to shape inference: shapes, axes, pads, scales, split sizes."""

FOLD_BYTES = 1 << 20
"""A folded constant may take this much, or twice the operands it replaces."""

_KEPT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Left to the lowering, which reads scales and integer weights off them."""

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)

_FILTERS = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3}
"""Where the filters of a convolution stand among its operands."""

_MISREAD_DEFAULTS = {"STFT": {"onesided": 1}}
"""Attributes whose default the onnx package's inference takes for another value; they are spelled out to it."""

_ONLY_SHAPE_MATTERS = frozenset({"Shape", "Size"})
"""Ops whose result follows from the type of their operand."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opsets:
    """The operator sets and the IR version that a model is written in."""

    versions: dict[str, int]
    ir_version: int

    def schema(self, domain: str, op_type: str) -> onnx.defs.OpSchema | None:
        version = self.versions.get(domain)
        return None if version is None else _schema(op_type, version, domain)

    def imports(self) -> list[onnx.OperatorSetIdProto]:
        return [onnx.helper.make_opsetid(domain, version) for domain, version in self.versions.items()]


@cache
def _schema(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def infer_types(
    node: onnx.NodeProto, operands: Sequence[Value | None], schema: onnx.defs.OpSchema, opsets: Opsets
) -> list[onnx.TypeProto | None]:
    """The types that ONNX's shape inference gives the results of a node without subgraphs.

    Raises:
        onnx.shape_inference.InferenceError: the operands do not fit the operator.
    """
    _require_equal_ranks(schema.name, operands)
    present = [operand for operand in operands if operand is not None]
    names = [name for name in node.input if name]
    types = {name: operand.type_proto for name, operand in zip(names, present)}
    data = {name: _tensor_proto(operand) for name, operand in zip(names, present) if _is_shown(operand)}
    inferred = onnx.shape_inference.infer_node_outputs(
        schema,
        _as_inference_reads(node),
        types,
        data,
        opset_imports=opsets.imports(),
        ir_version=opsets.ir_version,
    )
    return [inferred.get(name) for name in node.output]


def _require_equal_ranks(op_type: str, operands: Sequence[Value | None]) -> None:
    """Refuses filters of another rank than the data, which onnx's inference reads beyond their end."""
    place = _FILTERS.get(op_type)
    if place is None or len(operands) <= place:
        return
    data, filters = operands[0], operands[place]
    if data is not None and filters is not None and len(data.shape) != len(filters.shape):
        raise onnx.shape_inference.InferenceError(
            f"filters of rank {len(filters.shape)} do not fit data of rank {len(data.shape)}"
        )


def _as_inference_reads(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with the same meaning in the form that the onnx package's inference understands."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name}
    defaults: Mapping[str, Any] = _MISREAD_DEFAULTS.get(node.op_type, {})
    changed = {name: value for name, value in defaults.items() if name not in given}
    if node.op_type == "Slice" and "axes" in given:
        changed |= _sorted_by_axis(given)
    if not changed:
        return node
    rewritten = onnx.NodeProto()
    rewritten.CopyFrom(node)
    del rewritten.attribute[:]
    kept = [attribute for attribute in node.attribute if attribute.name not in changed]
    rewritten.attribute.extend(
        [*kept, *(onnx.helper.make_attribute(key, value) for key, value in changed.items())]
    )
    return rewritten


def _sorted_by_axis(attributes: Mapping[str, Any]) -> dict[str, list[int]]:
    """The attributes of a Slice before opset 10, of which inference takes ascending axes only."""
    names = ("axes", "starts", "ends")
    rows = sorted(zip(*(attributes[name] for name in names)))
    return {name: list(column) for name, column in zip(names, zip(*rows))}


def _is_shown(value: Value) -> bool:
    array = value.array
    return array is not None and array.size <= INFERENCE_ELEMENTS and array.dtype.kind != "O"


def _tensor_proto(value: Value) -> onnx.TensorProto:
    assert value.array is not None
    return onnx.numpy_helper.from_array(value.array, value.name)


def fold(node: StaticNode, opsets: Opsets) -> list[np.ndarray | None] | None:
    """The values of the results of a node, None if they are not constant or better not computed here."""
    if not _is_foldable(node):
        return None
    try:
        results = _evaluate(node, opsets)
    except Exception as error:  # the reference implementation raises whatever its ops raise
        _log.debug("%s '%s' is not folded: %s", node.proto.op_type, node.name, error)
        return None
    as_inferred = all(_agrees(result, output) for result, output in zip(results, node.outputs))
    return results if as_inferred else None


def _is_foldable(node: StaticNode) -> bool:
    op_type = node.proto.op_type
    if node.proto.domain not in ("", "ai.onnx") or op_type in _KEPT | _RANDOM or node.graphs:
        return False
    if any(value.type is None for value in node.operands + node.results):
        return False
    if op_type in _ONLY_SHAPE_MATTERS:
        return True
    if any(operand.array is None for operand in node.operands):
        return False
    operand_bytes = sum(operand.nbytes for operand in node.operands)
    return sum(result.nbytes for result in node.results) <= max(FOLD_BYTES, 2 * operand_bytes)


def _stand_in(value: Value) -> np.ndarray:
    """The array of a constant; for any other value one of the same type that takes no memory."""
    if value.array is not None:
        return value.array
    return np.broadcast_to(np.zeros((), value.dtype), value.shape)


def _evaluate(node: StaticNode, opsets: Opsets) -> list[np.ndarray | None]:
    """By ONNX's reference implementation."""
    feeds = {
        name: _stand_in(value) for name, value in zip(node.proto.input, node.inputs) if value is not None
    }
    evaluator = onnx.reference.ReferenceEvaluator(_one_node_model(node.proto, node.inputs, opsets))
    with np.errstate(all="ignore"):
        results = iter(evaluator.run(None, feeds))
    return [np.asarray(next(results)) if name else None for name in node.proto.output]


def _one_node_model(
    node: onnx.NodeProto, operands: Sequence[Value | None], opsets: Opsets
) -> onnx.ModelProto:
    named = {name: operand for name, operand in zip(node.input, operands) if operand is not None}
    inputs = [onnx.ValueInfoProto(name=name, type=operand.type_proto) for name, operand in named.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "node", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=opsets.imports(), ir_version=opsets.ir_version)


def _agrees(result: np.ndarray | None, output: Value | None) -> bool:
    if result is None or output is None:
        return result is None and output is None
    return result.dtype == output.dtype and result.shape == output.shape
