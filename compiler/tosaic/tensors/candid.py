"""Candid messages that carry tensors: an argument or result `vec` for each tensor, in row-major order.

Binary format: https://github.com/dfinity/candid/blob/master/spec/Candid.md#binary-format. Element types of Candid are
those of the ONNX dtypes; a dtype that Candid lacks travels in its carrier: float16 and bfloat16 as the bit patterns
`nat16`, floats of 8 bits and less as `nat8`, integers below 8 bits as `int8` and `nat8`. The header is canonical (each
type once, in the order of its first use, shortest LEB128 numbers), as all common Candid libraries write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tosaic.errors import TosaicError
from tosaic.tensors.dtypes import DTYPES, carrier_of, data_of, from_bits, native
from tosaic.wasm.opcodes import leb128_unsigned

MAGIC = b"DIDL"
TEXT, VEC = 0x71, 0x6D
_NATIVE = {
    "bool": ("bool", 0x7E), "uint8": ("nat8", 0x7B), "uint16": ("nat16", 0x7A), "uint32": ("nat32", 0x79),
    "uint64": ("nat64", 0x78), "int8": ("int8", 0x77), "int16": ("int16", 0x76), "int32": ("int32", 0x75),
    "int64": ("int64", 0x74), "float32": ("float32", 0x73), "float64": ("float64", 0x72),
}  # fmt: skip
PRIMITIVES = {dtype: _NATIVE.get(dtype) or _NATIVE[carrier_of(dtype).name] for dtype in DTYPES}
"""ONNX dtype (numpy or ml_dtypes spelling) -> name and code of the Candid type of an element."""

_DTYPE_OF = {code: dtype for dtype, (_, code) in _NATIVE.items()}


@dataclass(frozen=True)
class TensorType:
    """The dtype (ONNX, numpy or ml_dtypes spelling) and the shape of one argument or result."""

    dtype: str
    shape: tuple[int, ...]
    name: str = ""

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of all elements as they travel."""
        return self.size * _carrier(self.dtype).itemsize


def type_name(dtype: str) -> str:
    """The Candid type of a tensor of this dtype, such as `vec float32`.

    Raises:
        TosaicError: Candid cannot carry it.
    """
    return f"vec {_primitive(dtype)[0]}"


def header(dtypes: Sequence[str]) -> bytes:
    """Everything of a message before the first value: magic, type table, types of the arguments."""
    codes = [_primitive(dtype)[1] for dtype in dtypes]
    table = list(dict.fromkeys(codes))
    types = b"".join(bytes([VEC, code]) for code in table)
    arguments = b"".join(leb128_unsigned(table.index(code)) for code in codes)
    return MAGIC + leb128_unsigned(len(table)) + types + leb128_unsigned(len(codes)) + arguments


def encode(arrays: Sequence[np.ndarray]) -> bytes:
    """The message of these tensors; shapes do not travel."""
    return b"".join(_pieces(arrays))


def read_candid(buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The vectors of a message, by their positions; a vector alone is unnamed. They are views of `buffer`.

    Raises:
        TosaicError: the message is malformed, or holds other than vectors of numbers.
    """
    values = decode_values(buffer)
    vectors = [value for value in values if isinstance(value, np.ndarray)]
    if len(vectors) != len(values):
        raise TosaicError("the message holds values that are no vectors of numbers")
    return {"": vectors[0]} if len(vectors) == 1 else {str(i): vector for i, vector in enumerate(vectors)}


def write_candid(tensors: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The pieces of the message of these tensors, in their order; neither names nor shapes travel."""
    return _pieces(list(tensors.values()))


def tensor_bytes(array: np.ndarray) -> bytes:
    """The elements as they travel: little-endian, integers below 8 bits as whole bytes."""
    return bytes(data_of(array))


def tensor_of(data: bytes | memoryview, type: TensorType) -> np.ndarray:
    """The tensor whose elements travelled as these bytes."""
    return _shaped(np.frombuffer(data, _carrier(type.dtype)), type, 0)


def encode_text(text: str) -> bytes:
    """The message of one `text`."""
    data = text.encode()
    return MAGIC + bytes([0, 1, TEXT]) + leb128_unsigned(len(data)) + data


def decode(message: bytes | memoryview, types: Sequence[TensorType]) -> list[np.ndarray]:
    """The tensors of a message, in the shapes and dtypes that are expected.

    Raises:
        TosaicError: the message is malformed, or other than expected.
    """
    values = decode_values(message)
    if len(values) != len(types):
        raise TosaicError(f"the message holds {len(values)} values where {len(types)} are expected")
    return [_shaped(value, type, position) for position, (value, type) in enumerate(zip(values, types))]


def decode_values(message: bytes | memoryview) -> list[np.ndarray | np.generic | str]:
    """All values of a message: flat arrays for vectors of numbers, scalars for numbers, str for texts.

    Raises:
        TosaicError: the message is malformed, or holds other types.
    """
    reader = _Reader(message)
    if reader.take(4) != MAGIC:
        raise TosaicError("the message is not Candid: it does not start with 'DIDL'")
    table = [reader.vector_type() for _ in range(reader.unsigned())]
    arguments = [reader.argument_type(table) for _ in range(reader.unsigned())]
    values = [reader.value(code, is_vector) for code, is_vector in arguments]
    if reader.position != len(message):
        raise TosaicError(f"the message has {len(message) - reader.position} bytes too many")
    return values


def _pieces(arrays: Sequence[np.ndarray]) -> list[bytes | memoryview]:
    found: list[bytes | memoryview] = [header([array.dtype.name for array in arrays])]
    for array in arrays:
        found += (leb128_unsigned(array.size), data_of(array))
    return found


def _primitive(dtype: str) -> tuple[str, int]:
    if dtype not in PRIMITIVES:
        raise TosaicError(f"Candid has no type for tensors of {dtype}", f"use one of {', '.join(PRIMITIVES)}")
    return PRIMITIVES[dtype]


def _carrier(dtype: str) -> np.dtype:
    """The dtype in which the elements travel."""
    return np.dtype(_DTYPE_OF[_primitive(dtype)[1]])


def _shaped(value: np.ndarray | np.generic | str, type: TensorType, position: int) -> np.ndarray:
    label = f"value {position}" + (f" ('{type.name}')" if type.name else "")
    carrier = _carrier(type.dtype)
    if not isinstance(value, np.ndarray) or value.dtype != carrier:
        found = "text" if isinstance(value, str) else getattr(value, "dtype", value)
        raise TosaicError(f"{label} is {found} where {type_name(type.dtype)} is expected")
    if value.size != type.size:
        raise TosaicError(
            f"{label} has {value.size} elements where {type.size} are expected (shape {list(type.shape)})"
        )
    return from_bits(value.view(carrier_of(type.dtype)), type.dtype).reshape(type.shape)


class _Reader:
    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes | memoryview:
        if self.position + count > len(self.data):
            raise TosaicError(f"the message ends after {len(self.data)} bytes, in the middle of a value")
        self.position += count
        return self.data[self.position - count : self.position]

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise TosaicError("the message holds a number that is too long")

    def vector_type(self) -> int:
        """The element code of an entry of the type table, which must be a `vec` of numbers."""
        kind, element = self.take(2)
        if kind != VEC or element not in _DTYPE_OF:
            raise TosaicError("the message holds types other than texts, numbers and vectors of numbers")
        return element

    def argument_type(self, table: Sequence[int]) -> tuple[int, bool]:
        index = self.unsigned()  # an SLEB128 number, of which the negative ones are types that need no table
        if index < min(len(table), 64):
            return table[index], True
        if index == TEXT or index in _DTYPE_OF:
            return index, False
        raise TosaicError("the message holds types other than texts, numbers and vectors of numbers")

    def text(self) -> str:
        try:
            return str(self.take(self.unsigned()), "utf-8")
        except UnicodeDecodeError as error:
            raise TosaicError("the message holds a text that is not UTF-8") from error

    def value(self, code: int, is_vector: bool) -> np.ndarray | np.generic | str:
        if code == TEXT:
            return self.text()
        dtype = np.dtype(_DTYPE_OF[code])
        count = self.unsigned() if is_vector else 1
        data = self.take(count * dtype.itemsize)
        raw = np.frombuffer(data, dtype.newbyteorder("<")) if count else np.empty(0, dtype)
        if code == 0x7E and (raw.view(np.uint8) > 1).any():
            raise TosaicError("the message holds a bool that is neither 0 nor 1")
        values = native(raw)
        return values if is_vector else values[0]
