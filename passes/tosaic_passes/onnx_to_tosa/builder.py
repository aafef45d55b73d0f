"""Building TOSA without its warts: ranks, shapes, shifts, zero points and result types are filled in here.

Every method takes and gives `Tensor`; where all operands are constants the result is one, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa import folding
from tosaic_passes.onnx_to_tosa.dtypes import (
    BFLOAT16,
    BOOL,
    FLOAT8,
    FLOAT16,
    FLOAT32,
    INT8,
    INT32,
    MAX_RANK,
    UINT32,
    arithmetic_dtype,
    is_float,
    is_unsigned,
    limits,
    narrowed,
    storage_type,
)
from tosaic_passes.onnx_to_tosa.emitter import Operand
from tosaic_passes.onnx_to_tosa.merging import merge, runs
from tosaic_passes.onnx_to_tosa.shaping import ShapeBuilder
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_COMPARISONS = {"equal", "greater", "greater_equal"}
_ORDERED = {"greater", "greater_equal", "maximum", "minimum"}


class TosaBuilder(ShapeBuilder):
    """Elementwise ops, conversions, reductions and products, emitted at the current insertion point and location."""

    # Elementwise

    def elementwise(self, name: str, *operands: Operand) -> Tensor:
        """An elementwise op with numpy broadcasting.

        All tensors have one dtype (`select`: from the second on). Dtypes that TOSA has no arithmetic
        for are widened to i32 or f32 and the result is narrowed back (integers wrap around, as in ONNX).
        """
        tensors = self._same_dtype(operands)
        dtype = tensors[0].dtype
        if name.startswith("bitwise"):
            return self._broadcast_op(name, tensors, dtype)
        if name == "equal" and dtype == BOOL:
            return self.logical_not(self.elementwise("logical_xor", *tensors))
        compute = self.cast_all(tensors, arithmetic_dtype(dtype))
        if dtype == UINT32 and name in _ORDERED:
            compute = [
                self.elementwise("bitwise_xor", x, np.array(-(2**31), np.int32))
                for x in self._as_int32(compute)
            ]
            result = self._broadcast_op(name, compute, BOOL if name in _COMPARISONS else INT32)
            return (
                result
                if name in _COMPARISONS
                else self.reinterpret(
                    self.elementwise("bitwise_xor", result, np.array(-(2**31), np.int32)), UINT32
                )
            )
        result = self._broadcast_op(name, compute, BOOL if name in _COMPARISONS else compute[0].dtype)
        return result if name in _COMPARISONS else self.cast(result, dtype)

    def select(self, condition: Tensor, on_true: Operand, on_false: Operand) -> Tensor:
        """`condition ? on_true : on_false` with broadcasting."""
        branches = self._same_dtype([on_true, on_false])
        dtype = branches[0].dtype
        compute = self.cast_all(branches, FLOAT32) if dtype in FLOAT8 else branches
        return self.cast(self._broadcast_op("select", [condition, *compute], compute[0].dtype), dtype)

    def _broadcast_op(self, name: str, tensors: list[Tensor], dtype: np.dtype) -> Tensor:
        shape = self.broadcast_shape(*tensors)
        if all(x.is_constant for x in tensors):
            folded = folding.fold_elementwise(name, [x.array for x in tensors if x.array is not None], dtype)
            if folded is not None:
                return self.constant(folded)
        operands: list[Tensor | ir.Value] = [self.with_rank(x, len(shape)) for x in tensors]
        if name == "mul":
            operands.append(self.constant(np.zeros(1, np.int8)))
        if name == "negate":
            zero = self.constant(np.zeros(1, dtype))
            operands += [zero, zero]
        return self.emit(name, operands, shape, dtype)

    def _same_dtype(self, operands: Sequence[Operand]) -> list[Tensor]:
        like = next((x for x in operands if isinstance(x, Tensor)), None)
        if like is None:
            raise TypeError("an elementwise op needs a tensor")
        tensors = [x if isinstance(x, Tensor) else self._number(x, like.dtype) for x in operands]
        if len({x.dtype for x in tensors}) > 1:
            self.fail(f"operands of different types: {', '.join(str(x.dtype) for x in tensors)}")
        return tensors

    def _number(self, number: Any, dtype: np.dtype) -> Tensor:
        """A Python number as a constant."""
        try:
            return self.constant(np.asarray(number, dtype))
        except OverflowError:
            self.fail(f"the number {number} does not fit {dtype}, in which TOSA holds its operand")

    def add(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("add", a, b)

    def sub(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("mul", a, b)

    def div(self, a: Operand, b: Operand) -> Tensor:
        """a / b: floats by `a * reciprocal(b)`, integers truncated by `tosa.intdiv`."""
        a, b = self._same_dtype([a, b])
        if is_float(a.dtype):
            return self._float_div(a, b)
        if a.dtype == UINT32:
            raise TypeError("tosa.intdiv is signed: uint32 is divided by divide_unsigned")
        wide = self.cast_all([a, b], INT32)
        if all(x.is_constant for x in wide):
            self.fail("the division of two constants is not folded", "fold the constants of the model")
        return self.cast(self._broadcast_op("intdiv", wide, INT32), a.dtype)

    def _float_div(self, a: Tensor, b: Tensor) -> Tensor:
        if a.array is not None and b.array is not None and a.dtype == FLOAT32:
            with np.errstate(all="ignore"):
                return self.constant(np.asarray(a.array / b.array))
        return self.mul(a, self.reciprocal(b))

    def maximum(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("maximum", a, b)

    def minimum(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("minimum", a, b)

    def negate(self, x: Tensor) -> Tensor:
        return self.elementwise("negate", x)

    def abs(self, x: Tensor) -> Tensor:
        return x if is_unsigned(x.dtype) else self.elementwise("abs", x)

    def exp(self, x: Tensor) -> Tensor:
        return self.elementwise("exp", x)

    def log(self, x: Tensor) -> Tensor:
        return self.elementwise("log", x)

    def tanh(self, x: Tensor) -> Tensor:
        return self.elementwise("tanh", x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return self.elementwise("sigmoid", x)

    def erf(self, x: Tensor) -> Tensor:
        return self.elementwise("erf", x)

    def floor(self, x: Tensor) -> Tensor:
        return self.elementwise("floor", x)

    def ceil(self, x: Tensor) -> Tensor:
        return self.elementwise("ceil", x)

    def reciprocal(self, x: Tensor) -> Tensor:
        return self.elementwise("reciprocal", x)

    def rsqrt(self, x: Tensor) -> Tensor:
        return self.elementwise("rsqrt", x)

    def sqrt(self, x: Tensor) -> Tensor:
        """x * rsqrt(x), with the roots of 0 and infinity put right (rsqrt is infinite, or 0, there)."""
        if x.array is not None:
            with np.errstate(all="ignore"):
                return self.constant(np.sqrt(x.array))
        root = self.mul(x, self.rsqrt(x))
        own_root = self.logical_or(self.equal(x, 0), self.equal(x, np.array(np.inf).astype(x.dtype)))
        return self.select(own_root, x, root)

    def equal(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("equal", a, b)

    def greater(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("greater", a, b)

    def greater_equal(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("greater_equal", a, b)

    def logical_and(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("logical_and", a, b)

    def logical_or(self, a: Operand, b: Operand) -> Tensor:
        return self.elementwise("logical_or", a, b)

    def logical_not(self, x: Tensor) -> Tensor:
        return self.elementwise("logical_not", x)

    def clamp(self, x: Tensor, low: float | None, high: float | None) -> Tensor:
        """min(max(x, low), high); None: no bound. A NaN stays one.

        Bounds outside of an integer dtype (those of int64, say, which is held in 32 bits) bound nothing.
        """
        if low is None and high is None:
            return x
        least, most = limits(x.dtype)
        lowest = -math.inf if is_float(x.dtype) else least
        highest = math.inf if is_float(x.dtype) else most
        low, high = lowest if low is None else low, highest if high is None else high
        if not is_float(x.dtype):
            if low > most or high < least:
                self.fail(f"no {x.dtype}, in which TOSA holds its operand, lies between {low} and {high}")
            low, high = max(low, least), min(high, most)
        if not is_float(x.dtype) or x.dtype in FLOAT8 or x.is_constant:
            above = self.maximum(x, low) if low != lowest else x
            return self.minimum(above, high) if high != highest else above
        element = storage_type([], x.dtype).element_type
        bounds = {"min_val": ir.FloatAttr.get(element, low), "max_val": ir.FloatAttr.get(element, high)}
        return self.emit("clamp", [x], x.shape, x.dtype, **bounds)

    # Types

    def cast_all(self, tensors: Sequence[Tensor], dtype: np.dtype) -> list[Tensor]:
        """Each tensor cast to one dtype."""
        return [self.cast(x, dtype) for x in tensors]

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """The same numbers in another dtype: integers wrap around, floats round to nearest even."""
        target = narrowed(np.dtype(dtype))
        if x.dtype == target:
            return x
        if x.array is not None:
            return self.constant(_cast_array(x.array, x.dtype, target))
        if target == BOOL:
            return self.logical_not(self.equal(x, 0))
        if is_unsigned(x.dtype):
            return self._from_unsigned(x, target)
        if is_unsigned(target):
            return self._to_unsigned(x, target)
        return self._cast_signed(x, target)

    def _cast_signed(self, x: Tensor, target: np.dtype) -> Tensor:
        half_steps = {x.dtype, target} == {FLOAT16, BFLOAT16}
        if half_steps or (x.dtype in FLOAT8 and (target in FLOAT8 or not is_float(target))):
            x = self.emit("cast", [x], x.shape, FLOAT32)
        elif x.dtype == BOOL and is_float(target):
            x = self.emit("cast", [x], x.shape, INT8)
        elif target in FLOAT8 and not is_float(x.dtype):
            x = self.cast(x, FLOAT32)
        return self.emit("cast", [x], x.shape, target)

    def _from_unsigned(self, x: Tensor, target: np.dtype) -> Tensor:
        if x.dtype == UINT32:
            bits = self.reinterpret(x, INT32)
            if not is_float(target):
                return self.cast(bits, target)
            wrapped = self.cast(bits, FLOAT32)
            return self.cast(self.select(self.greater(0, bits), self.add(wrapped, 2.0**32), wrapped), target)
        mask = (1 << 8 * x.dtype.itemsize) - 1
        wide = self.emit(
            "cast", [self.reinterpret(x, np.dtype(f"int{8 * x.dtype.itemsize}"))], x.shape, INT32
        )
        return self.cast(self.elementwise("bitwise_and", wide, mask), target)

    def _to_unsigned(self, x: Tensor, target: np.dtype) -> Tensor:
        if target == UINT32:
            return self.reinterpret(
                self._float_to_bits(x) if is_float(x.dtype) else self.cast(x, INT32), UINT32
            )
        narrow = self.cast(self.cast(x, INT32), np.dtype(f"int{8 * target.itemsize}"))
        return self.reinterpret(narrow, target)

    def _float_to_bits(self, x: Tensor) -> Tensor:
        """A float from 0 to 2^32 as the bits of an uint32: the upper half is shifted down first."""
        wide = self.cast(x, FLOAT32)
        upper = self.greater_equal(wide, 2.0**31)
        half = self.cast(self.select(upper, self.sub(wide, 2.0**31), wide), INT32)
        return self.select(upper, self.elementwise("bitwise_xor", half, np.array(-(2**31), np.int32)), half)

    def _as_int32(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [self.reinterpret(x, INT32) for x in tensors]

    def reinterpret(self, x: Tensor, dtype: np.dtype) -> Tensor:
        """The same bits read as another dtype of the same width; costs nothing."""
        if x.array is not None:
            return self.constant(x.array.astype(x.dtype, order="C").view(dtype))
        return Tensor(x.shape, dtype, value=x.value)

    # Reductions, indexing, products

    def reduce(self, name: str, x: Tensor, axes: Sequence[int], *, keepdims: bool = True) -> Tensor:
        """`reduce_sum`, `reduce_max`, ... over axes, one TOSA op an axis."""
        axes = sorted({int(axis) % x.rank for axis in axes})
        kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        shape = kept if keepdims else [size for axis, size in enumerate(x.shape) if axis not in axes]
        if x.array is not None:
            result = folding.REDUCTIONS[name](x.array, axis=tuple(axes), keepdims=True)
            return self.reshape(self.constant(np.asarray(result)), shape)
        if x.rank > MAX_RANK:
            groups = runs([axis in axes for axis in range(x.rank)])
            if len(groups) > MAX_RANK:
                half = self.reduce(name, x, axes[: len(axes) // 2])
                return self.reshape(self.reduce(name, half, axes[len(axes) // 2 :]), shape)
            reduced = [index for index, group in enumerate(groups) if group[0] in axes]
            return self.reshape(self.reduce(name, self.reshape(x, merge(x.shape, groups)), reduced), shape)
        wide = x if x.dtype == BOOL else self.cast(x, arithmetic_dtype(x.dtype))
        for axis in axes:
            if wide.shape[axis] != 1:
                sizes = [1 if i == axis else size for i, size in enumerate(wide.shape)]
                wide = self.emit(name, [wide], sizes, wide.dtype, axis=axis)
        return self.reshape(self.cast(wide, x.dtype), shape)

    def argmax(self, x: Tensor, axis: int) -> Tensor:
        """i32 positions of the greatest elements along an axis, the first of equal ones; the axis goes."""
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        if x.rank > MAX_RANK:
            flat = (math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))
            return self.reshape(self.argmax(self.reshape(x, flat), 1), shape)
        return self.emit("argmax", [x], shape, INT32, axis=axis)

    def gather(self, values: Tensor, indices: Tensor) -> Tensor:
        """[N, K, C] and i32 indices [N, W] in 0..K-1 -> [N, W, C]."""
        if values.dtype == BOOL:
            return self.cast(self.gather(self.cast(values, INT8), indices), BOOL)
        batch, _, channels = values.shape
        return self.emit("gather", [values, indices], (batch, indices.shape[1], channels), values.dtype)

    def matmul(self, a: Tensor, b: Tensor, *, a_zero: int = 0, b_zero: int = 0, dtype: Any = None) -> Tensor:
        """[N, H, C] x [N, C, W] -> [N, H, W]; floats give their own dtype, i8 gives i32."""
        out = np.dtype(dtype) if dtype is not None else (a.dtype if is_float(a.dtype) else INT32)
        zeros = [self.constant(np.full(1, a_zero, a.dtype)), self.constant(np.full(1, b_zero, b.dtype))]
        return self.emit("matmul", [a, b, *zeros], (a.shape[0], a.shape[1], b.shape[2]), out)


def _cast_array(array: np.ndarray, source: np.dtype, target: np.dtype) -> np.ndarray:
    if array.dtype == target:
        return array
    with np.errstate(all="ignore"):
        if is_float(source) and not is_float(target) and target != BOOL:
            return np.rint(array.astype(np.float64)).astype(np.int64).astype(target)
        if array.dtype.type in (ml_dtypes.int4, ml_dtypes.uint4):
            array = array.astype(np.int32)
        return array.astype(target)
