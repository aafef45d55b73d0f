"""What each ONNX dtype becomes inside TOSA (docs/types.md is the same table in prose).

Two steps: `narrowed` maps an ONNX dtype to the dtype that values have inside the lowering (TOSA 1.0
has no 64-bit numbers and no data below 8 bits), and `storage_type` gives the MLIR type that holds it
(TOSA integers are signless, so uint8 is held in i8 and the lowering keeps track of the sign).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np
from torch_mlir import ir

from tosaic_passes.weights import element_type

MAX_RANK = 6
MAX_LIST = 64
"""TOSA 1.0, level 8k: MAX_RANK, and MAX_TENSOR_LIST_SIZE of a concat's operands."""

BOOL = np.dtype(np.bool_)
INT8 = np.dtype(np.int8)
INT16 = np.dtype(np.int16)
INT32 = np.dtype(np.int32)
INT64 = np.dtype(np.int64)
UINT8 = np.dtype(np.uint8)
UINT16 = np.dtype(np.uint16)
UINT32 = np.dtype(np.uint32)
FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))

_NARROWED: dict[np.dtype, np.dtype] = {
    INT64: INT32,
    np.dtype(np.uint64): UINT32,
    np.dtype(np.float64): FLOAT32,
    np.dtype(ml_dtypes.int4): INT8,
    np.dtype(ml_dtypes.uint4): UINT8,
    np.dtype(ml_dtypes.int2): INT8,
    np.dtype(ml_dtypes.uint2): UINT8,
    np.dtype(ml_dtypes.float4_e2m1fn): FLOAT32,
    np.dtype(ml_dtypes.float8_e4m3fnuz): FLOAT32,
    np.dtype(ml_dtypes.float8_e5m2fnuz): FLOAT32,
    np.dtype(ml_dtypes.float8_e8m0fnu): FLOAT32,
}
_LOSSY = {np.dtype(np.int64), np.dtype(np.uint64), np.dtype(np.float64)}
_SIGNLESS: dict[np.dtype, np.dtype] = {UINT8: INT8, UINT16: INT16, UINT32: INT32}
_ARITHMETIC: dict[np.dtype, np.dtype] = {
    INT8: INT32,
    INT16: INT32,
    UINT8: INT32,
    UINT16: INT32,
    FLOAT8[0]: FLOAT32,
    FLOAT8[1]: FLOAT32,
}
_NAMES = {
    "i1": "bool",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "bf16": "bfloat16",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
    "f8E4M3FNUZ": "float8_e4m3fnuz",
    "f8E5M2FNUZ": "float8_e5m2fnuz",
    "f8E8M0FNU": "float8_e8m0fnu",
    "f4E2M1FN": "float4_e2m1fn",
    **{f"i{bits}": f"int{bits}" for bits in (2, 4, 8, 16, 32, 64)},
    **{f"si{bits}": f"int{bits}" for bits in (2, 4, 8, 16, 32, 64)},
    **{f"ui{bits}": f"uint{bits}" for bits in (2, 4, 8, 16, 32, 64)},
}


def onnx_dtype(element: ir.Type) -> np.dtype | None:
    """The ONNX dtype of a contract-1 element type, None where it is no number (a string, say)."""
    name = _NAMES.get(str(element))
    return np.dtype(getattr(ml_dtypes, name, name)) if name else None


def narrowed(dtype: np.dtype) -> np.dtype:
    """The dtype in which TOSA computes with values of an ONNX dtype: at most 32 bits, at least 8."""
    return _NARROWED.get(dtype, dtype)


def narrowing_loses(dtype: np.dtype) -> bool:
    """True where the narrowed dtype cannot hold every value of the ONNX dtype."""
    return dtype in _LOSSY


def arithmetic_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of elementwise arithmetic: TOSA adds and compares only i32, f16, bf16 and f32."""
    return _ARITHMETIC.get(dtype, dtype)


def storage_dtype(dtype: np.dtype) -> np.dtype:
    """The signless dtype of the same width."""
    return _SIGNLESS.get(dtype, dtype)


def held_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape in which TOSA holds a tensor: its own up to rank 6, flat above."""
    return tuple(shape) if len(shape) <= MAX_RANK else (math.prod(shape),)


def storage_type(shape: Sequence[int], dtype: np.dtype) -> ir.RankedTensorType:
    """The TOSA type of a tensor with a narrowed dtype."""
    return ir.RankedTensorType.get(held_shape(shape), element_type(storage_dtype(dtype)))


def is_float(dtype: np.dtype) -> bool:
    """True for every floating-point dtype, those of ml_dtypes included."""
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)


def is_unsigned(dtype: np.dtype) -> bool:
    """True for uint8, uint16 and uint32."""
    return dtype in _SIGNLESS


def limits(dtype: np.dtype) -> tuple[float, float] | tuple[int, int]:
    """Lowest and highest finite value of a dtype."""
    if dtype == BOOL:
        return 0, 1
    info = ml_dtypes.finfo(dtype) if is_float(dtype) else ml_dtypes.iinfo(dtype)
    return (float(info.min), float(info.max)) if is_float(dtype) else (int(info.min), int(info.max))


def store(array: np.ndarray) -> np.ndarray:
    """The array as TOSA stores it: narrowed, signless. ValueError where an integer does not fit.

    Infinity-sized f64 values become infinities in f32, as in any conversion of a model to f32.
    """
    dtype = narrowed(array.dtype)
    if array.dtype.kind in "iu" and array.dtype != dtype and array.size:
        _check_range(array, dtype)
    with np.errstate(over="ignore"):
        small = array.astype(dtype, copy=False)
    return (
        small.view(storage_dtype(dtype))
        if small.ndim
        else small.reshape(1).view(storage_dtype(dtype)).reshape(())
    )


def _check_range(array: np.ndarray, dtype: np.dtype) -> None:
    low, high = limits(dtype)
    if int(array.min()) < low or int(array.max()) > high:
        worst = int(array.max()) if int(array.max()) > high else int(array.min())
        raise ValueError(
            f"the constant {worst} ({array.dtype}) does not fit {dtype}, in which TOSA 1.0 holds it"
        )
