"""Tensors in CBOR (RFC 8949) as typed arrays (RFC 8746).

A tensor is a multi-dimensional array: tag 40 on [dimensions, typed array], the elements in row-major order and little
endian. What RFC 8746 cannot say is an array of three: the dtype's name, the dimensions, and a typed array of the
carrier (`["bfloat16", [2, 3], uint16 typed array]`). Those are the dtypes that no tag names, and tensors without
elements, since tag 40 allows no dimension of 0. Several tensors are a map from names to tensors.

What is written is deterministic (RFC 8949 section 4.2.1): shortest heads, definite lengths, names sorted by their
encodings. What is read may also be column-major (tag 1040), big-endian, clamped, without dimensions, a plain or
homogeneous array of numbers or bools, a byte string (which some write for uint8), of indefinite length, and marked as
CBOR (tag 55799) or as a map (tag 259).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tosaic.errors import TosaicError
from tosaic.tensors.bounds import check_bytes, check_shape
from tosaic.tensors.dtypes import DTYPES, carrier_of, check_dtype, data_of, from_bits, native

UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
BREAK = b"\xff"  # the end of a container of indefinite length
ROW_MAJOR, COLUMN_MAJOR, HOMOGENEOUS, UINT8 = 40, 1040, 41, 64
_MARKS = (55799, 259)  # that this is CBOR, that this is a map

TYPED_ARRAYS = {
    64: ">u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: ">u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: ">i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
"""Tag -> dtype of the elements. 68 is clamped uint8; float128 (83, 87) is no dtype of ONNX."""

_TAG_OF = {
    np.dtype(stored).name: tag
    for tag, stored in TYPED_ARRAYS.items()
    if tag == 64 or tag == 72 or "<" in stored
}


def read_cbor(buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The tensors of one CBOR item, by name; a tensor alone is unnamed. Typed arrays are views of `buffer`.

    Raises:
        TosaicError: the item is malformed, holds other than tensors, or is followed by more.
    """
    reader = _Reader(buffer)
    found = reader.tensors()
    if reader.position != len(buffer):
        raise TosaicError(f"{len(buffer) - reader.position} bytes follow the CBOR item")
    return found


def write_cbor(tensors: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The pieces of a CBOR item: a map, or the tensor alone if it has no name."""
    types = {name: (array.dtype.name, array.shape) for name, array in tensors.items()}
    names, prefixes = ([""], [tensor_prefix(*types[""])]) if list(types) == [""] else layout(types)
    found: list[bytes | memoryview] = [] if names else [*prefixes]
    for name, prefix in zip(names, prefixes):
        found += (prefix, data_of(tensors[name]))
    return found


def layout(types: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[list[str], list[bytes]]:
    """The names in the order in which tensors of these dtypes and shapes are written, and what stands before each.

    The data of a tensor follow its prefix at once, as many bytes as its carrier has.
    """
    names = sorted(types, key=lambda name: head(TEXT, len(name.encode())) + name.encode())
    prefixes = [
        head(TEXT, len(name.encode())) + name.encode() + tensor_prefix(*types[name]) for name in names
    ]
    start = head(MAP, len(names))
    return names, [start + prefixes[0], *prefixes[1:]] if prefixes else [start]


def tensor_prefix(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What stands before the elements of a tensor. Raises TosaicError for a dtype that is none of ONNX."""
    dimensions = head(ARRAY, len(shape)) + b"".join(head(UNSIGNED, size) for size in shape)
    check_dtype(dtype)
    if dtype in _TAG_OF and 0 not in shape:
        start, tag = head(TAG, ROW_MAJOR) + head(ARRAY, 2), _TAG_OF[dtype]
    else:
        start = head(ARRAY, 3) + head(TEXT, len(dtype)) + dtype.encode()
        tag = _TAG_OF.get(dtype) or _TAG_OF[carrier_of(dtype).name]
    return start + dimensions + head(TAG, tag) + head(BYTES, prod(shape) * carrier_of(dtype).itemsize)


def head(major: int, value: int) -> bytes:
    """The head of an item: its major type and its value, as short as can be."""
    if value < 24:
        return bytes([major << 5 | value])
    size = next(size for size in (1, 2, 4, 8) if value < 1 << 8 * size)
    return bytes([major << 5 | (23 + size.bit_length())]) + value.to_bytes(size, "big")


class _Head(NamedTuple):
    major: int
    value: int
    is_indefinite: bool
    length: int  # of the head itself


class _Reader:
    """Reads what tensors are made of and nothing else, so that no input nests deeply."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.position = 0

    def tensors(self) -> dict[str, np.ndarray]:
        while (mark := self.peek()).major == TAG and mark.value in _MARKS:
            self.next()
        if self.peek().major != MAP:
            return {"": self.tensor("the tensor")}
        found: dict[str, np.ndarray] = {}
        self.each(self.next(), lambda: self.entry(found))
        return found

    def entry(self, found: dict[str, np.ndarray]) -> None:
        name = self.text(self.expect(TEXT, "a name of a tensor"))
        if name in found:
            raise TosaicError(f"two tensors are named '{name}'")
        found[name] = self.tensor(f"the tensor '{name}'")

    def tensor(self, what: str) -> np.ndarray:
        first = self.peek()
        if first.major == ARRAY:
            return self.array(what)
        if first.major != TAG or first.value not in (ROW_MAJOR, COLUMN_MAJOR):
            return self.elements(what)
        self.next()
        pair = self.expect(ARRAY, f"the dimensions and elements of {what}")
        if not pair.is_indefinite and pair.value != 2:
            raise TosaicError(f"{what} is not an array of dimensions and elements")
        shape = self.shape(what)
        values = self.elements(what)
        if pair.is_indefinite and self.take(1) != BREAK:
            raise TosaicError(f"{what} is more than an array of dimensions and elements")
        if 0 in shape:
            raise TosaicError(f"{what} has a dimension of 0, which tag {first.value} does not allow")
        return _shaped(values, shape, what, "F" if first.value == COLUMN_MAJOR else "C")

    def array(self, what: str) -> np.ndarray:
        """An array of three that begins with a dtype, or a plain array."""
        start = self.position
        items = self.next()
        if items.is_indefinite or items.value != 3 or self.peek().major != TEXT:
            self.position = start
            return self.plain(what)
        name = self.text(self.next())
        if name not in DTYPES:
            raise TosaicError(f"{what} has the dtype '{name}'", f"use one of {', '.join(DTYPES)}")
        shape = self.shape(what)
        values = self.elements(what)
        if values.dtype.name not in (name, carrier_of(name).name):
            raise TosaicError(
                f"{what} is {name}, its typed array is {values.dtype} and not {carrier_of(name)}"
            )
        shaped = _shaped(values, shape, what, "C")
        return shaped if shaped.dtype.name == name else from_bits(shaped, name)

    def shape(self, what: str) -> tuple[int, ...]:
        sizes: list[int] = []
        self.each(self.expect(ARRAY, f"the dimensions of {what}"), lambda: sizes.append(self.size(what)))
        return check_shape(sizes, what)

    def size(self, what: str) -> int:
        return self.expect(UNSIGNED, f"a dimension of {what}").value

    def elements(self, what: str) -> np.ndarray:
        first = self.peek()
        if first.major == ARRAY:
            return self.plain(what)
        if first.major not in (TAG, BYTES):
            raise TosaicError(f"{what} is no typed array (RFC 8746)")
        tag = self.next().value if first.major == TAG else UINT8
        if tag == HOMOGENEOUS:
            return self.plain(what)
        if tag not in TYPED_ARRAYS:
            raise TosaicError(
                f"{what} has the tag {tag}, which is none of an array that is supported (RFC 8746)"
            )
        stored = np.dtype(TYPED_ARRAYS[tag])
        data = self.take(self.definite(self.expect(BYTES, f"the elements of {what}")))
        if len(data) % stored.itemsize:
            raise TosaicError(f"{what} has {len(data)} bytes of data, an element has {stored.itemsize}")
        return native(np.frombuffer(data, stored) if len(data) else np.empty(0, stored))

    def plain(self, what: str) -> np.ndarray:
        """An array of items: all bools, all integers (int64, or uint64 where one needs it), or numbers (float64)."""
        values: list[bool | int | float] = []
        self.each(self.expect(ARRAY, f"the elements of {what}"), lambda: values.append(self.number(what)))
        kinds = {type(value) for value in values}
        if kinds == {bool}:
            return np.array(values, np.bool_)
        if bool in kinds:
            raise TosaicError(f"{what} has bools among its numbers")
        if float in kinds or not values:
            return np.array(values, np.float64)
        dtype = np.uint64 if max(values) > np.iinfo(np.int64).max else np.int64
        if min(values) < np.iinfo(dtype).min:
            raise TosaicError(f"{what} has integers that no dtype holds together")
        return np.array(values, dtype)

    def number(self, what: str) -> bool | int | float:
        item = self.next()
        if item.major == UNSIGNED:
            return item.value
        if item.major == NEGATIVE:
            return -1 - item.value
        if item.major == SIMPLE and item.length == 1 and item.value in (20, 21):
            return item.value == 21
        if item.major == SIMPLE and item.length in (3, 5, 9):
            raw = item.value.to_bytes(item.length - 1, "big")
            return float(np.frombuffer(raw, f">f{item.length - 1}")[0])
        raise TosaicError(f"{what} has elements that are neither numbers nor bools")

    # Items of CBOR

    def each(self, container: _Head, read: Callable[[], None]) -> None:
        """Read every item (every pair, where `read` reads one) of an array or a map."""
        if not container.is_indefinite:
            for _ in range(container.value):
                read()
            return
        while self.buffer[self.position : self.position + 1] != BREAK:
            read()
        self.position += 1

    def expect(self, major: int, what: str) -> _Head:
        found = self.next()
        if found.major != major:
            raise TosaicError(f"{what}: an item of major type {major} is expected, {found.major} is there")
        return found

    def text(self, found: _Head) -> str:
        try:
            return str(self.take(self.definite(found)), "utf-8")
        except UnicodeDecodeError:
            raise TosaicError("a name is not UTF-8") from None

    def definite(self, found: _Head) -> int:
        if found.is_indefinite:
            raise TosaicError("a string of indefinite length is not supported", "write its length")
        return found.value

    def take(self, count: int) -> memoryview:
        if count > len(self.buffer) - self.position:
            raise TosaicError(f"the CBOR ends after {len(self.buffer)} bytes, in the middle of an item")
        self.position += count
        return self.buffer[self.position - count : self.position]

    def peek(self) -> _Head:
        start = self.position
        found = self.next()
        self.position = start
        return found

    def next(self) -> _Head:
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if low < 24:
            return _Head(major, low, False, 1)
        if low < 28:
            size = 1 << low - 24
            return _Head(major, int.from_bytes(self.take(size), "big"), False, 1 + size)
        if low == 31 and major in (BYTES, TEXT, ARRAY, MAP):
            return _Head(major, 0, True, 1)
        raise TosaicError(f"byte {self.position - 1} begins no CBOR item")


def _shaped(values: np.ndarray, shape: tuple[int, ...], what: str, order: str) -> np.ndarray:
    check_bytes(values.nbytes, shape, values.itemsize, what)
    return values.reshape(shape, order="F" if order == "F" else "C")
