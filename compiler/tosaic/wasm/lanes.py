"""Elements of every type as vector lanes: loads that widen, stores that narrow, and rounding between float formats.

In a register every element type has one form ("wide"): f32 lanes for all floats, sign-extended i32 lanes for i8, i16
and i32, i64 lanes for i48 and i64, and i32 masks (0 or -1) for i1. A vector has four lanes, two as soon as
64-bit elements take part; 32-bit elements then use its low half. With fewer valid lanes the rest is unspecified.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np

from tosaic.wasm.float_formats import narrow_float, widen_float
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES
from tosaic.wasm.math import splat_i32

FLOAT, INT32, INT64, BOOL = "float", "int32", "int64", "bool"

KINDS = {
    "i1": BOOL, "i8": INT32, "i16": INT32, "i32": INT32, "i48": INT64, "i64": INT64,
    "f32": FLOAT, "f16": FLOAT, "bf16": FLOAT, "f8E4M3FN": FLOAT, "f8E5M2": FLOAT,
}  # fmt: skip
"""Element type -> form in a register."""

STORAGE: dict[str, type] = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i48": np.int64, "i64": np.int64,
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip
"""Element type -> numpy dtype of its bytes in memory."""

Push = Callable[[], None]


def max_lanes(elements: tuple[str, ...]) -> int:
    """Lanes of a vector in which elements of all these types meet."""
    return 2 if any(KINDS[element] == INT64 for element in elements) else 4


def load_lanes(
    f: Function, element: str, lanes: int, address: Push, offset: int = 0, step: int | None = None
) -> None:
    """Push `lanes` (1 to 4) elements that lie `step` bytes apart, wide; `step` 0 loads one into all lanes.

    `address` pushes the address of the first; nothing beyond the elements is read.
    """
    size = ELEMENT_BYTES[element]
    step = size if step is None else step
    if lanes == 3 and step:
        load_lanes(f, element, 2, address, offset, step)
        load_lanes(f, element, 1, address, offset + 2 * step)
        f.shuffle([*range(8), *range(16, 24)])
        return
    if lanes == 1 or step == 0:
        _load_splat(f, element, address, offset)
    elif step == size:
        _load_adjacent(f, element, lanes, address, offset)
    else:
        _load_apart(f, element, lanes, address, offset, step)
    widen_float(f, element)


def store_saturates(element: str, lanes: int, step: int | None = None) -> bool:
    """True if `store_lanes` saturates i32 lanes that exceed the element, so that nothing before it needs to."""
    return element in INT_RANGES and lanes > 1 and step in (None, ELEMENT_BYTES[element])


def store_lanes(
    f: Function,
    element: str,
    lanes: int,
    address: Push,
    value: Push,
    offset: int = 0,
    step: int | None = None,
) -> None:
    """Store the low `lanes` lanes that `value` pushes, `step` bytes apart; nothing else is written."""
    size = ELEMENT_BYTES[element]
    step = size if step is None else step
    register_bytes = 8 if KINDS[element] == INT64 else 4
    if lanes == 1:
        address()
        value()
        narrow_float(f, element)
        _mask_to_byte(f, element)
        f.memory(f"v128.store{8 * size}_lane", offset, 0)
    elif step == size:
        address()
        value()
        narrow_float(f, element)
        _mask_to_byte(f, element)
        _narrow_lanes(f, element)
        total = lanes * size
        if total == 16:
            f.memory("v128.store", offset)
        else:
            f.memory(f"v128.store{8 * total}_lane", offset, 0)
    else:
        value()
        narrow_float(f, element)
        _mask_to_byte(f, element)
        vector = f.local("v128")
        f.set(vector)
        for i in range(lanes):
            address()
            f.get(vector)
            f.memory(f"v128.store{8 * size}_lane", offset + i * step, i * register_bytes // size)
        f.release(vector)


def load_raw(
    f: Function, size: int, lanes: int, address: Push, offset: int = 0, step: int | None = None
) -> None:
    """Push `lanes` elements of `size` bytes as they are, at most 16 bytes, packed from the low end."""
    step = size if step is None else step
    if step == size:
        total = size * lanes
        address()
        if total == 16:
            f.memory("v128.load", offset)
        else:
            f.memory(f"v128.load{8 * total}_{'zero' if total >= 4 else 'splat'}", offset)
    elif step == 0:
        address()
        f.memory(f"v128.load{8 * size}_splat", offset)
    else:
        for _ in range(lanes):
            address()
        f.memory(f"v128.load{8 * size}_splat", offset)
        for i in range(1, lanes):
            f.memory(f"v128.load{8 * size}_lane", offset + i * step, i)


def store_raw(
    f: Function, size: int, lanes: int, address: Push, value: Push, offset: int = 0, step: int | None = None
) -> None:
    """Store `lanes` packed elements of `size` bytes, `step` bytes apart."""
    step = size if step is None else step
    if step == size or lanes == 1:
        total = size * lanes
        address()
        value()
        if total == 16:
            f.memory("v128.store", offset)
        else:
            f.memory(f"v128.store{8 * total}_lane", offset, 0)
        return
    value()
    vector = f.local("v128")
    f.set(vector)
    for i in range(lanes):
        address()
        f.get(vector)
        f.memory(f"v128.store{8 * size}_lane", offset + i * step, i)
    f.release(vector)


def store_raw_pieces(f: Function, size: int, count: int, address: Push, value: Push, offset: int = 0) -> None:
    """Store `count` packed elements of `size` bytes side by side, in as few pieces as possible."""
    if size * count in (16, 8, 4, 2, 1):
        store_raw(f, size, count, address, value, offset)
        return
    vector, first = f.local("v128"), 0
    value()
    f.set(vector)
    for piece in (8, 4, 2, 1):
        if size * count & piece:
            address()
            f.get(vector)
            f.memory(f"v128.store{8 * piece}_lane", offset + first, first // piece)
            first += piece
    f.release(vector)


def reverse_lanes(f: Function, size: int, lanes: int) -> None:
    """Reverse the low `lanes` lanes of `size` bytes."""
    order = [lane * size + byte for lane in reversed(range(lanes)) for byte in range(size)]
    splat_i32(f, 0)
    f.shuffle(order + [16] * (16 - len(order)))


INT_RANGES = {"i8": (-128, 127), "i16": (-32768, 32767)}
"""Integers narrower than their lanes: least and largest value."""


def saturate(f: Function, element: str) -> None:
    """Clamp i32 lanes into the range of a narrower integer type (others: nothing)."""
    if element not in INT_RANGES:
        return
    low, high = INT_RANGES[element]
    splat_i32(f, low)
    f.op("i32x4.max_s")
    splat_i32(f, high)
    f.op("i32x4.min_s")


def wrap(f: Function, element: str) -> None:
    """Keep the low bits, sign-extended."""
    if element not in INT_RANGES:
        return
    for operator in ("i32x4.shl", "i32x4.shr_s"):
        f.i32(24 if element == "i8" else 16)
        f.op(operator)


def zero_extend(f: Function, element: str) -> None:
    if element in INT_RANGES:
        splat_i32(f, 0xFF if element == "i8" else 0xFFFF)
        f.op("v128.and")


def saturate_unsigned(f: Function, element: str) -> None:
    """Into the unsigned range; the bits then stand for a signless element, sign-extended."""
    if element not in INT_RANGES:
        return
    splat_i32(f, 0)
    f.op("i32x4.max_s")
    splat_i32(f, 0xFF if element == "i8" else 0xFFFF)
    f.op("i32x4.min_s")
    wrap(f, element)


def unsigned(value: int, element: str) -> int:
    return value & (0xFF if element == "i8" else 0xFFFF) if element in INT_RANGES else value


def widen_mask(f: Function) -> None:
    """i32 masks -> i64 masks of the low two lanes."""
    f.op("i64x2.extend_low_i32x4_s")


def low_words(f: Function) -> None:
    """i64 lanes -> their low words in the low two i32 lanes."""
    splat_i32(f, 0)
    f.shuffle([0, 1, 2, 3, 8, 9, 10, 11, *[16] * 8])


def _load_splat(f: Function, element: str, address: Push, offset: int) -> None:
    size = ELEMENT_BYTES[element]
    address()
    if KINDS[element] == INT64 or size == 4:
        f.memory(f"v128.load{8 * size}_splat", offset)
        return
    signed = KINDS[element] == INT32
    f.memory(f"i32.load{8 * size}_{'s' if signed else 'u'}", offset)
    f.op("i32x4.splat")
    if element == "i1":
        f.op("i32x4.neg")


def _load_adjacent(f: Function, element: str, lanes: int, address: Push, offset: int) -> None:
    size = ELEMENT_BYTES[element]
    total = size * lanes
    address()
    if total == 16:
        f.memory("v128.load", offset)
    elif size == 2 and lanes == 4:
        f.memory(f"v128.load16x4_{_sign(element)}", offset)
        return
    elif total >= 4:
        f.memory(f"v128.load{8 * total}_zero", offset)
    else:  # two bytes
        f.memory("i32.load16_u", offset)
        f.op("i32x4.splat")
    _extend_lanes(f, element)


def _load_apart(f: Function, element: str, lanes: int, address: Push, offset: int, step: int) -> None:
    """One lane load each; the addresses are pushed first, so the vector stays on the stack."""
    size = ELEMENT_BYTES[element]
    register_bytes = 8 if KINDS[element] == INT64 else 4
    for _ in range(lanes):
        address()
    if size >= 4:
        f.memory(f"v128.load{8 * size}_zero", offset)
    else:
        f.memory(f"i32.load{8 * size}_u", offset)
        f.op("i32x4.splat")
    for i in range(1, lanes):
        f.memory(f"v128.load{8 * size}_lane", offset + i * step, i * register_bytes // size)
    if size >= 4:
        return
    if element == "i1":
        f.op("i32x4.neg")
    elif KINDS[element] == INT32:
        _sign_extend(f, size)


def _extend_lanes(f: Function, element: str) -> None:
    """Packed elements in the low bytes -> 32-bit lanes."""
    size, sign = ELEMENT_BYTES[element], _sign(element)
    if size == 1:
        f.op(f"i16x8.extend_low_i8x16_{sign}")
    if size <= 2:
        f.op(f"i32x4.extend_low_i16x8_{sign}")
    if element == "i1":
        f.op("i32x4.neg")


def _narrow_lanes(f: Function, element: str) -> None:
    """32-bit lanes that fit the element -> packed elements in the low bytes."""
    size, sign = ELEMENT_BYTES[element], _sign(element)
    if size <= 2:
        splat_i32(f, 0)
        f.op(f"i16x8.narrow_i32x4_{sign}")
    if size == 1:
        splat_i32(f, 0)
        f.op(f"i8x16.narrow_i16x8_{sign}")


def _mask_to_byte(f: Function, element: str) -> None:
    if element == "i1":
        f.op("i32x4.neg")


def _sign(element: str) -> str:
    return "s" if KINDS[element] == INT32 else "u"


def _sign_extend(f: Function, size: int) -> None:
    for shift in ("i32x4.shl", "i32x4.shr_s"):
        f.i32(32 - 8 * size)
        f.op(shift)
