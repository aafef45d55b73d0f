"""Comparisons, logic, bits and selection."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL
from tosaic_passes.onnx_to_tosa.elementwise import align_legacy_broadcast
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_BINARY = {
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
    "Equal": "equal",
    "Greater": "greater",
}
_BITWISE = {"BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor"}


def _register_binary(op: str, tosa: str, *, swapped: bool = False) -> None:
    def function(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
        return ctx.elementwise(tosa, b, a) if swapped else ctx.elementwise(tosa, a, b)

    def legacy(
        ctx: LoweringContext, a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0
    ) -> Tensor:
        return function(ctx, a, align_legacy_broadcast(ctx, a, b, axis, broadcast))

    operands = " of the swapped operands" if swapped else ""
    function.__doc__ = f"`tosa.{tosa}`{operands} with broadcasting."
    legacy.__doc__ = f"`tosa.{tosa}`{operands}; the second operand is aligned at `axis`."
    lowering(op)(legacy)
    lowering(op, since=7)(function)


for _op, _tosa in (_BINARY | _BITWISE).items():
    _register_binary(_op, _tosa)
_register_binary("Less", "greater", swapped=True)
_register_binary("GreaterOrEqual", "greater_equal")
_register_binary("LessOrEqual", "greater_equal", swapped=True)


@lowering("Not")
def not_(ctx: LoweringContext, x: Tensor) -> Tensor:
    """`tosa.logical_not`."""
    return ctx.logical_not(x)


@lowering("BitwiseNot")
def bitwise_not(ctx: LoweringContext, x: Tensor) -> Tensor:
    """`tosa.bitwise_not`."""
    return ctx.elementwise("bitwise_not", x)


@lowering("BitShift", since=11)
def bit_shift(ctx: LoweringContext, x: Tensor, amount: Tensor, *, direction: str) -> Tensor:
    """`tosa.logical_left_shift` or `tosa.logical_right_shift`; a shift by all bits or more gives 0.

    No shift of uint64 to the left: its upper bits would be lost.
    """
    if direction == "LEFT" and ctx.result.onnx_dtype.itemsize == 8:
        ctx.fail("a shift of uint64 to the left needs more than the 32 bits that TOSA has")
    bits = 8 * x.dtype.itemsize
    moved = ctx.elementwise(f"logical_{direction.lower()}_shift", x, ctx.minimum(amount, bits - 1))
    return ctx.select(ctx.greater_equal(amount, bits), 0, moved)


@lowering("Where")
def where(ctx: LoweringContext, condition: Tensor, on_true: Tensor, on_false: Tensor) -> Tensor:
    """`tosa.select` with broadcasting."""
    return ctx.select(condition, on_true, on_false)


@lowering("IsNaN")
def is_nan(ctx: LoweringContext, x: Tensor) -> Tensor:
    """x is not `tosa.equal` to itself."""
    return ctx.logical_not(ctx.equal(x, x))


@lowering("IsInf")
def is_inf(ctx: LoweringContext, x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """`tosa.equal` to the wanted infinities."""
    wanted = [sign * np.inf for sign, asked in ((1, detect_positive), (-1, detect_negative)) if asked]
    if not wanted:
        return ctx.constant(np.zeros(x.shape, BOOL))
    if len(wanted) == 2:
        return ctx.equal(ctx.abs(x), np.inf)
    return ctx.equal(x, wanted[0])
