"""The numbers that a product multiplies and adds, by the element types of its operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tosaic.errors import TosaicError
from tosaic.wasm.kernel import KernelRequest
from tosaic.wasm.kernels.staging import Conversion
from tosaic.wasm.kernels.tile import F32, I16_BY_I8, I16_BY_I16, I32, I32_TO_I64, Arithmetic
from tosaic.wasm.lanes import FLOAT, KINDS

_DTYPES = {"f32": np.float32, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i48": np.int64}


@dataclass(frozen=True)
class Numbers:
    """`arithmetic` on both operands, each converted on its way, with sums of type `sum`."""

    arithmetic: Arithmetic
    left: Conversion
    right: Conversion
    sum: str

    def converted(self, array: np.ndarray) -> np.ndarray:
        """A constant right operand as it is multiplied."""
        dtype = _DTYPES[self.right.staged]
        if self.right.zero_point:
            return (array.astype(np.int32) - self.right.zero_point).astype(dtype)
        return array.astype(dtype)

    def bias(self, array: np.ndarray) -> np.ndarray:
        return array.astype(_DTYPES[self.sum])


def numbers_of(request: KernelRequest, zero_points: tuple[str, str], pairs: bool = True) -> Numbers:
    """For the first two inputs, whose zero points are the attributes of these names.

    Floats are multiplied and added in f32, i8 by i8 in i32 (with `pairs` in pairs of i16, whose products are added
    at once), i16 with 64-bit sums.
    """
    left, right = (operand.view.element for operand in request.inputs[:2])
    if KINDS[left] == KINDS[right] == FLOAT:
        return Numbers(F32, Conversion(left, "f32"), Conversion(right, "f32"), "f32")
    left_zero, right_zero = (int(request.attributes.get(name, 0)) for name in zero_points)
    if left == right == "i8" and not pairs:
        return Numbers(I32, Conversion("i8", "i32", left_zero), Conversion("i8", "i32", right_zero), "i32")
    if left == right == "i8":
        narrow = _fits_i8(request.inputs[1].array, right_zero)
        return Numbers(
            I16_BY_I8 if narrow else I16_BY_I16,
            Conversion("i8", "i16", left_zero),
            Conversion("i8", "i8" if narrow else "i16", right_zero),
            "i32",
        )
    if left == "i16" and right in ("i8", "i16") and left_zero == 0:
        return Numbers(I32_TO_I64, Conversion("i16", "i32"), Conversion(right, "i32", right_zero), "i48")
    raise TosaicError(f"tosa.{request.op} has no kernel for {left} by {right}")


def _fits_i8(array: np.ndarray | None, zero_point: int) -> bool:
    if array is None:
        return False
    return int(array.min()) - zero_point >= -128 and int(array.max()) - zero_point <= 127
