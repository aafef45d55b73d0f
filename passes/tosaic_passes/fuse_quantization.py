"""`fuse-quantization`: floats between dequantization and quantization become integers.

Input and output: ONNX ops (docs/design.md, contract 1). Dequantizations move behind ops that only move numbers or
keep their order, and vanish where a quantization with the same parameters follows. What then stands between
dequantizations and a quantization becomes one operator on integers: those of ONNX and of onnxruntime, as
onnxruntime itself fuses them.

    %x = "onnx.DequantizeLinear"(%xq, %xs, %xz)
    %w = "onnx.DequantizeLinear"(%wq, %ws, %wz)            %yq = "onnx.QLinearConv"(%xq, %xs, %xz, %wq, %ws, %wz,
    %y = "onnx.Conv"(%x, %w) {group = 1 : si64}        ->                          %ys, %yz) {group = 1 : si64}
    %yq = "onnx.QuantizeLinear"(%y, %ys, %yz)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from tosaic_passes.functions import find_function
from tosaic_passes.onnx_operations import (
    OnnxEditor,
    attributes_of,
    dtype_of,
    erase_unused,
    has_one_use,
    is_op,
    operand,
    producer_of,
    shape_of,
    with_shape,
)
from tosaic_passes.program import Program
from tosaic_passes.quantized_operators import (
    QUANTIZER_DOMAINS,
    Quantization,
    build_quantized,
    read_dequantization,
)

_MOVES = (
    "DepthToSpace Flatten Gather GatherElements GatherND Identity Reshape Slice SpaceToDepth Split Squeeze "
    "Transpose Unsqueeze"
).split()
"""Ops that put the elements of their first operand elsewhere."""

_KEEPS_ORDER = ("MaxPool",)
"""Ops whose results are elements of their operand, chosen by their order."""


@dataclass(frozen=True)
class FuseQuantizationPass:
    """Turn what stands between dequantizations and a quantization into operators on integers."""

    name: ClassVar[str] = "fuse-quantization"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            block = find_function(program.module, "main").entry_block
            editor = OnnxEditor(program.weights)
            for view in list(block.operations):
                _sink_dequantization(view.operation, editor)
            for view in list(block.operations):
                if is_op(view.operation, "QuantizeLinear", domains=QUANTIZER_DOMAINS):
                    _fuse_or_cancel(view.operation, editor)
            for view in list(block.operations):
                build_quantized(view.operation, None, editor)
            erase_unused(block)


def _sink_dequantization(operation: ir.Operation, editor: OnnxEditor) -> None:
    """op(dequantize(q)) -> dequantize(op(q)), where that dequantizes no more numbers than before."""
    if not is_op(operation, *_MOVES, *_KEEPS_ORDER, "Relu"):
        return
    source = read_dequantization(operation.operands[0], editor)
    if (
        source is None
        or not source.is_per_tensor
        or source.number <= 0
        or not _stays_small(operation, source)
    ):
        return
    if is_op(operation, *_KEEPS_ORDER) and len(operation.results) > 1:
        return
    moved = _on_integers(operation, source, editor)
    for old, new in zip(operation.results, moved, strict=True):
        (floats,) = editor.build(
            "DequantizeLinear",
            [new, source.scale, source.zero],
            [old.type],
            operation,
            {},
        )
        old.replace_all_uses_with(floats)
    operation.erase()


def _stays_small(operation: ir.Operation, source: Quantization) -> bool:
    results = sum(math.prod(shape_of(result)) for result in operation.results)
    return source.is_constant or results <= math.prod(shape_of(source.q))


def _on_integers(operation: ir.Operation, source: Quantization, editor: OnnxEditor) -> list[ir.Value]:
    """The results of an op that moves numbers, or of Relu, on quantised ones."""
    types = [with_shape(source.q, shape_of(result)) for result in operation.results]
    if is_op(operation, "Relu"):
        zero = editor.constant(source.zero_array, operation)
        return editor.build("Max", [source.q, zero], types, operation, attributes_of(operation))
    others = list(operation.operands)[1:]
    op_type = operation.name.removeprefix("onnx.")
    return editor.build(op_type, [source.q, *others], types, operation, attributes_of(operation))


def _fuse_or_cancel(operation: ir.Operation, editor: OnnxEditor) -> None:
    """Replaces a quantization by the integers that its operand was made of, or by one operator on integers."""
    target = Quantization.of_result(operation, editor)
    if target is None or not target.is_per_tensor:
        return
    source = read_dequantization(operation.operands[0], editor)
    if source is not None and source.same_as(target):
        target.q.replace_all_uses_with(source.q)
        return
    bounds, value = _without_bounds(operation.operands[0], editor)
    producer = producer_of(value)
    if producer is None or not has_one_use(value) or not _in_range(bounds):
        return
    fused = build_quantized(producer, target, editor)
    if fused is not None:
        target.q.replace_all_uses_with(_bounded(fused, bounds, target, operation, editor))


Bounds = tuple[float, float]


def _without_bounds(value: ir.Value, editor: OnnxEditor) -> tuple[Bounds, ir.Value]:
    """What a Relu or a Clip with constant bounds, that nobody else reads, is applied to, and its bounds."""
    free = (-math.inf, math.inf)
    operation = producer_of(value)
    if operation is None or not has_one_use(value):
        return free, value
    if is_op(operation, "Relu"):
        return (0.0, math.inf), operation.operands[0]
    if not is_op(operation, "Clip"):
        return free, value
    low, high = (_clip_bound(operation, index, editor) for index in (1, 2))
    if low is None or high is None:
        return free, value
    return (low, high), operation.operands[0]


def _clip_bound(operation: ir.Operation, index: int, editor: OnnxEditor) -> float | None:
    """A bound of a Clip, an attribute up to opset 10, an operand since; None: not constant."""
    name, free = (("min", -math.inf), ("max", math.inf))[index - 1]
    if name in operation.attributes:
        return operation.attributes[name].value
    value = operand(operation, index)
    if value is None:
        return free
    array = editor.constant_value(value)
    return None if array is None else float(array.item())


def _in_range(bounds: Bounds) -> bool:
    return bounds[0] <= bounds[1]


def _bounded(
    fused: ir.Value, bounds: Bounds, target: Quantization, before: ir.Operation, editor: OnnxEditor
) -> ir.Value:
    """Quantised numbers between quantised bounds: quantization keeps the order, so that both come to the same."""
    lowest, highest = np.iinfo(dtype_of(target.q)).min, np.iinfo(dtype_of(target.q)).max
    low, high = (target.quantized(bound) for bound in bounds)
    for op_type, bound, end in (("Max", low, lowest), ("Min", high, highest)):
        if bound != end:
            limit = editor.constant(np.array(bound, dtype_of(target.q)), before)
            (fused,) = editor.build(op_type, [fused, limit], [fused.type], before, {})
    return fused
