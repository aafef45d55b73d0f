"""The operators on integers that stand for a float operator between dequantizations and a quantization.

Operators of onnxruntime (domain com.microsoft) are described in its docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_operations import (
    OnnxEditor,
    attributes_of,
    dtype_of,
    int_attribute,
    is_op,
    operand,
    producer_of,
    shape_of,
    with_shape,
)
from tosaic_passes.weights import element_type

_EIGHT_BITS = (np.dtype(np.int8), np.dtype(np.uint8))
_INT32 = np.dtype(np.int32)
QUANTIZER_DOMAINS = ("", "com.microsoft")
"""Where QuantizeLinear and DequantizeLinear are defined, with the same meaning."""
_UNIT_TOLERANCE = 1e-5
"""A bias counts as a whole number of units up to this difference: scales are f32 numbers."""


@dataclass(frozen=True)
class Quantization:
    """A value `q` of integers with constant parameters: it stands for (q - zero) * scale."""

    q: ir.Value
    scale: ir.Value
    zero: ir.Value | None
    scale_array: np.ndarray
    zero_array: np.ndarray
    axis: int
    is_constant: bool

    @staticmethod
    def of_operand(operation: ir.Operation, editor: OnnxEditor) -> Quantization | None:
        """What a DequantizeLinear reads, None if its parameters are computed or stand for blocks."""
        return _quantization(operation, operation.operands[0], editor)

    @staticmethod
    def of_result(operation: ir.Operation, editor: OnnxEditor) -> Quantization | None:
        """What a QuantizeLinear gives, None as above."""
        return _quantization(operation, operation.results[0], editor)

    @property
    def is_per_tensor(self) -> bool:
        return self.scale_array.size == 1 and self.dtype in _EIGHT_BITS

    @property
    def dtype(self) -> np.dtype:
        return dtype_of(self.q)

    @property
    def number(self) -> float:
        """The scale of a whole tensor."""
        return float(self.scale_array.reshape(-1)[0])

    def is_per_channel(self, axis: int) -> bool:
        """8 bits, with one scale, or one for each index of this axis."""
        rank = len(shape_of(self.q))
        return self.dtype in _EIGHT_BITS and (self.scale_array.size == 1 or self.axis % rank == axis % rank)

    def same_as(self, other: Quantization) -> bool:
        """Whether equal integers stand for equal numbers (both per tensor)."""
        return (
            self.is_per_tensor
            and self.dtype == other.dtype
            and self.number == other.number
            and int(self.zero_array) == int(other.zero_array)
        )

    def quantized(self, number: float) -> int:
        """A number quantised as onnxruntime does."""
        info = np.iinfo(self.dtype)
        quotient = np.float32(number) / np.float32(self.number)
        rounded = np.rint(np.clip(quotient, -(2.0**20), 2.0**20))
        return int(np.clip(rounded + int(self.zero_array), info.min, info.max))

    def parameters(self, before: ir.Operation, editor: OnnxEditor) -> list[ir.Value]:
        """Scale and zero point, as operators with both want them."""
        zero = self.zero if self.zero is not None else editor.constant(self.zero_array, before)
        return [self.scale, zero]

    def operands(self, before: ir.Operation, editor: OnnxEditor) -> list[ir.Value]:
        """The integers, their scale and their zero point."""
        return [self.q, *self.parameters(before, editor)]


def _quantization(operation: ir.Operation, q: ir.Value, editor: OnnxEditor) -> Quantization | None:
    scale, zero = operand(operation, 1), operand(operation, 2)
    scale_array, zero_array = editor.constant_value(scale), editor.constant_value(zero)
    if scale is None or scale_array is None or (zero is not None and zero_array is None):
        return None
    if int_attribute(operation, "block_size", 0) or dtype_of(scale) != np.float32:
        return None
    if zero_array is None:
        zero_array = np.zeros(scale_array.shape, dtype_of(q))
    if scale_array.size == 1:
        zero_array = zero_array.reshape(())
    axis = int_attribute(operation, "axis", 1)
    constant = editor.constant_value(q) is not None
    return Quantization(q, scale, zero, scale_array, zero_array, axis, constant)


def read_dequantization(value: ir.Value | None, editor: OnnxEditor) -> Quantization | None:
    """The integers that a value is dequantized from, None for any other value."""
    operation = producer_of(value)
    if operation is None or not is_op(operation, "DequantizeLinear", domains=QUANTIZER_DOMAINS):
        return None
    return Quantization.of_operand(operation, editor)


Rule = Callable[[ir.Operation, Quantization | None, OnnxEditor], ir.Value | None]


def build_quantized(
    operation: ir.Operation, target: Quantization | None, editor: OnnxEditor
) -> ir.Value | None:
    """The quantised result of an operator on integers that stands for this one, None if there is none.

    Without a target the result is one of floats, and replaces that of the operation.
    """
    rule = (_QUANTIZED if target is not None else _TO_FLOATS).get(operation.name.removeprefix("onnx."))
    if rule is None or "domain" in operation.attributes:
        return None
    result = rule(operation, target, editor)
    if result is not None and target is None:
        operation.results[0].replace_all_uses_with(result)
    return result


def _build(
    operation: ir.Operation,
    op_type: str,
    operands: list[ir.Value | None],
    target: Quantization | None,
    editor: OnnxEditor,
    *,
    without: tuple[str, ...] = (),
    contrib: bool = False,
    **more: ir.Attribute,
) -> ir.Value:
    """An operator with the attributes of the one it stands for, at its place."""
    attributes = {**attributes_of(operation, *without), **more}
    if contrib:
        attributes["domain"] = ir.StringAttr.get("com.microsoft")
    result = operation.results[0]
    type = result.type if target is None else with_shape(target.q, shape_of(result))
    return editor.build(op_type, operands, [type], operation, attributes)[0]


def _conv(operation: ir.Operation, target: Quantization | None, editor: OnnxEditor) -> ir.Value | None:
    x, w = (read_dequantization(operation.operands[i], editor) for i in (0, 1))
    if x is None or w is None or not x.is_per_tensor or not w.is_per_channel(0):
        return None
    scale = np.float32(x.number) * w.scale_array.reshape(-1)
    bias = operand(operation, 2)
    whole = None if bias is None else _integer_bias(bias, scale, editor, exact=target is None)
    if bias is not None and whole is None:
        return None
    if target is None:
        return _conv_to_floats(operation, x, w, scale, whole, editor)
    operands = [*x.operands(operation, editor), *w.operands(operation, editor)]
    last = [] if whole is None else [editor.constant(whole, operation)]
    return _build(
        operation, "QLinearConv", [*operands, *target.parameters(operation, editor), *last], target, editor
    )


def _conv_to_floats(
    operation: ir.Operation,
    x: Quantization,
    w: Quantization,
    scale: np.ndarray,
    bias: np.ndarray | None,
    editor: OnnxEditor,
) -> ir.Value:
    """Sums of integers, dequantized with the products of the scales."""
    (_, x_zero), (_, w_zero) = (t.parameters(operation, editor) for t in (x, w))
    shape = shape_of(operation.results[0])
    sums_type = ir.RankedTensorType.get(shape, element_type(_INT32))
    attributes = attributes_of(operation)
    (sums,) = editor.build("ConvInteger", [x.q, w.q, x_zero, w_zero], [sums_type], operation, attributes)
    if bias is not None:
        column = editor.constant(bias.reshape(-1, *(1,) * (len(shape) - 2)), operation)
        (sums,) = editor.build("Add", [sums, column], [sums_type], operation, {})
    factor = editor.constant(scale if scale.size > 1 else scale.reshape(()), operation)
    return editor.build("DequantizeLinear", [sums, factor], [operation.results[0].type], operation, {})[0]


def _integer_bias(bias: ir.Value, scale: np.ndarray, editor: OnnxEditor, *, exact: bool) -> np.ndarray | None:
    """A constant bias in units of the sums it is added to, None if it is computed or does not fit i32.

    It is rounded to a unit, which is far less than a step of a quantised result; `exact`: it must not need that.
    """
    numbers = editor.constant_value(bias)
    if numbers is None:
        source = read_dequantization(bias, editor)
        integers = None if source is None else editor.constant_value(source.q)
        if source is None or integers is None:
            return None
        numbers = (integers.astype(np.float64) - source.zero_array) * source.scale_array.astype(np.float64)
    units = numbers.astype(np.float64) / scale
    whole = np.rint(units)
    if exact and not np.allclose(units, whole, rtol=_UNIT_TOLERANCE, atol=_UNIT_TOLERANCE):
        return None
    return whole.astype(_INT32) if np.abs(whole).max(initial=0) < 2.0**31 else None


def _gemm(operation: ir.Operation, target: Quantization | None, editor: OnnxEditor) -> ir.Value | None:
    a, b = (read_dequantization(operation.operands[i], editor) for i in (0, 1))
    columns = 0 if int_attribute(operation, "transB", 0) else 1
    if a is None or b is None or not a.is_per_tensor or not b.is_per_channel(columns):
        return None
    alpha, beta = _factor(operation, "alpha"), _factor(operation, "beta")
    bias = operand(operation, 2) if beta else None
    scale = np.float32(alpha * a.number) * b.scale_array.reshape(-1)
    whole = None if bias is None else _integer_bias(bias, scale, editor, exact=target is None)
    if bias is not None and (whole is None or beta != 1):
        return None
    operands = [*a.operands(operation, editor), *b.operands(operation, editor)]
    operands.append(None if whole is None else editor.constant(whole, operation))
    if target is not None:
        operands += target.parameters(operation, editor)
    return _build(operation, "QGemm", operands, target, editor, without=("beta",), contrib=True)


def _factor(operation: ir.Operation, name: str) -> float:
    return operation.attributes[name].value if name in operation.attributes else 1.0


def _matmul(operation: ir.Operation, target: Quantization | None, editor: OnnxEditor) -> ir.Value | None:
    a, b = (read_dequantization(operation.operands[i], editor) for i in (0, 1))
    if a is None or b is None or not a.is_per_tensor or not b.is_per_channel(-1):
        return None
    if b.scale_array.size > 1 and len(shape_of(b.q)) != 2:
        return None
    if target is None:
        (a_scale, a_zero), (b_scale, b_zero) = (x.parameters(operation, editor) for x in (a, b))
        operands = [a.q, b.q, a_scale, b_scale, a_zero, b_zero]
        return _build(operation, "MatMulIntegerToFloat", operands, None, editor, contrib=True)
    operands = [
        *a.operands(operation, editor),
        *b.operands(operation, editor),
        *target.parameters(operation, editor),
    ]
    return _build(operation, "QLinearMatMul", operands, target, editor)


def _binary(op_type: str) -> Rule:
    """QLinearAdd, QLinearMul: two quantised operands, then the parameters of the result."""

    def rule(operation: ir.Operation, target: Quantization | None, editor: OnnxEditor) -> ir.Value | None:
        operands = _all_dequantized(operation, editor)
        if target is None or operands is None or len(operands) != 2:
            return None
        given = [value for x in operands for value in x.operands(operation, editor)]
        return _build(
            operation, op_type, [*given, *target.parameters(operation, editor)], target, editor, contrib=True
        )

    return rule


def _unary(op_type: str, **more: int) -> Rule:
    """One quantised operand, then the parameters of the result; `more` are attributes to add."""

    def rule(operation: ir.Operation, target: Quantization | None, editor: OnnxEditor) -> ir.Value | None:
        operands = _all_dequantized(operation, editor)
        if target is None or operands is None:
            return None
        si64 = ir.IntegerType.get_signed(64)
        given = [*operands[0].operands(operation, editor), *target.parameters(operation, editor)]
        added = {key: ir.IntegerAttr.get(si64, value) for key, value in more.items()}
        return _build(operation, op_type, given, target, editor, contrib=True, **added)

    return rule


def _average_pool(
    operation: ir.Operation, target: Quantization | None, editor: OnnxEditor
) -> ir.Value | None:
    dilated = "dilations" in operation.attributes and any(
        item.value != 1 for item in operation.attributes["dilations"]
    )
    flags = (int_attribute(operation, name, 0) for name in ("ceil_mode", "count_include_pad"))
    if (
        dilated or all(flags) or len(shape_of(operation.operands[0])) > 4
    ):  # both: onnxruntime counts another way
        return None
    return _unary("QLinearAveragePool")(operation, target, editor)


def _concat(operation: ir.Operation, target: Quantization | None, editor: OnnxEditor) -> ir.Value | None:
    operands = _all_dequantized(operation, editor)
    if target is None or operands is None:
        return None
    given = [value for x in operands for value in x.operands(operation, editor)]
    return _build(
        operation,
        "QLinearConcat",
        [*target.parameters(operation, editor), *given],
        target,
        editor,
        contrib=True,
    )


def _all_dequantized(operation: ir.Operation, editor: OnnxEditor) -> list[Quantization] | None:
    """All operands, if each is dequantized from 8 bits with one scale."""
    operands = [read_dequantization(value, editor) for value in operation.operands]
    known = [x for x in operands if x is not None and x.is_per_tensor]
    return known if len(known) == len(operands) else None


_QUANTIZED: dict[str, Rule] = {
    "Add": _binary("QLinearAdd"),
    "AveragePool": _average_pool,
    "Concat": _concat,
    "Conv": _conv,
    "Gemm": _gemm,
    "GlobalAveragePool": _unary("QLinearGlobalAveragePool", channels_last=0),
    "LeakyRelu": _unary("QLinearLeakyRelu"),
    "MatMul": _matmul,
    "Mul": _binary("QLinearMul"),
    "Sigmoid": _unary("QLinearSigmoid"),
}
"""Float operator -> what stands for it with its result quantised."""

_TO_FLOATS: dict[str, Rule] = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
"""Float operator -> what stands for it where its result stays float."""
