"""A value of the graph being lowered: a known array, or an SSA value of the TOSA function."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.dtypes import narrowed


@dataclass(frozen=True, eq=False)
class Tensor:
    """Shape and (narrowed) dtype, with `array` if the values are known at compile time, else `value`.

    Unsigned dtypes stay unsigned here though TOSA stores them signless. The array of a constant
    keeps its ONNX dtype (an int64 array has dtype int32): it is narrowed when it becomes a `tosa.const`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    array: np.ndarray | None = None
    value: ir.Value | None = None

    @staticmethod
    def constant(array: np.ndarray) -> Tensor:
        return Tensor(tuple(array.shape), narrowed(array.dtype), array=array)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_constant(self) -> bool:
        return self.array is not None


@dataclass(frozen=True)
class ResultType:
    """What ONNX says about a result: shape, narrowed dtype, and the ONNX dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    onnx_dtype: np.dtype

    @property
    def rank(self) -> int:
        return len(self.shape)
