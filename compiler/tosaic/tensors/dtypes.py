"""The dtypes of tensors outside of the compiler: those of ONNX, in the spelling of numpy and ml_dtypes.

Most formats lack some of them. Such a tensor travels as its bits in an integer dtype that every format has, the
carrier: a float as its bit pattern, an integer below 8 bits as its value in a whole byte, a bool as 0 or 1.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tosaic.errors import TosaicError

DTYPES = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn", "int4", "uint4", "int2", "uint2",
)  # fmt: skip
"""Every dtype of docs/types.md."""

_CARRIERS = {
    "bool": "uint8", "float16": "uint16", "float32": "uint32", "float64": "uint64", "bfloat16": "uint16",
    "float8_e4m3fn": "uint8", "float8_e5m2": "uint8", "float8_e4m3fnuz": "uint8", "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8", "float4_e2m1fn": "uint8", "int4": "int8", "uint4": "uint8", "int2": "int8",
    "uint2": "uint8",
}  # fmt: skip

_RANGES = {
    "bool": (0, 1), "float4_e2m1fn": (0, 15), "int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3),
}  # fmt: skip
"""The least and the largest value in the carrier, where not every value is one."""

_BY_VALUE = ("int4", "uint4", "int2", "uint2")


def dtype_of(name: str) -> np.dtype:
    """The numpy dtype of an ONNX dtype name."""
    return np.dtype(getattr(ml_dtypes, name, name))


def check_dtype(name: str) -> None:
    """Raises TosaicError for a dtype that is none of `DTYPES`."""
    if name not in DTYPES:
        raise TosaicError(f"tensors of {name} are not supported", f"use one of {', '.join(DTYPES)}")


def carrier_of(name: str) -> np.dtype:
    """The integer dtype that carries the bits of a dtype (an integer of whole bytes carries itself)."""
    return np.dtype(_CARRIERS.get(name, name))


def to_bits(array: np.ndarray) -> np.ndarray:
    """The tensor in its carrier: same shape, contiguous; a view wherever the bits are these already."""
    check_dtype(array.dtype.name)
    carrier = carrier_of(array.dtype.name)
    whole = native(np.ascontiguousarray(array).reshape(array.shape))
    return whole.astype(carrier) if array.dtype.name in _BY_VALUE else whole.view(carrier)


def data_of(array: np.ndarray) -> memoryview:
    """The elements in row-major order, little-endian, in the carrier; a view wherever they are that already."""
    bits = to_bits(array)
    return bits.astype(bits.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


def from_bits(bits: np.ndarray, name: str) -> np.ndarray:
    """The tensor of dtype `name` whose carrier holds these bits; a view wherever the dtype is as wide.

    Raises:
        TosaicError: a value that the dtype does not have.
    """
    least, largest = _RANGES.get(name, (None, None))
    if least is not None and bits.size and not (least <= bits.min() and bits.max() <= largest):
        raise TosaicError(f"a value of {name} is not between {least} and {largest}")
    dtype = dtype_of(name)
    return bits.astype(dtype) if name in _BY_VALUE else bits.view(dtype)


def native(array: np.ndarray) -> np.ndarray:
    """The same values in this machine's byte order; the array itself if they are."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
