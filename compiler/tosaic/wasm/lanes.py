"""Elements of every type as vector lanes: loads that widen, stores that narrow, and rounding between float formats.

In a register every element type has one form ("wide"): f32 lanes for all floats, sign-extended i32 lanes for i8, i16
and i32, i64 lanes for i48 and i64, and i32 masks (0 or -1) for i1. A vector has four lanes, two as soon as
64-bit elements take part; 32-bit elements then use its low half. With fewer valid lanes the rest is unspecified.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES
from tosaic.wasm.math import splat_f32, splat_i32

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


@dataclass(frozen=True)
class FloatFormat:
    """A float narrower than f32, `bytes` wide: mantissa bits, least normal exponent, bias, first value that overflows.

    `overflow_limit` is the least f32 that rounds to infinity, or to NaN in a format without infinities.
    """

    bytes: int
    mantissa_bits: int
    minimum_exponent: int
    overflow_limit: float
    has_infinity: bool = True


FLOAT_FORMATS = {
    "f16": FloatFormat(2, 10, -14, 65520.0),
    "bf16": FloatFormat(2, 7, -126, float.fromhex("0x1.ffp+127")),
    "f8E5M2": FloatFormat(1, 2, -14, 61440.0),
    "f8E4M3FN": FloatFormat(1, 3, -6, float.fromhex("0x1.d00002p+8"), has_infinity=False),
}
"""Formats that are computed in f32: IEEE 754 binary16, bfloat16, and OCP's two 8-bit floats."""


def max_lanes(elements: tuple[str, ...]) -> int:
    """Lanes of a vector in which elements of all these types meet."""
    return 2 if any(KINDS[element] == INT64 for element in elements) else 4


def load_lanes(
    f: Function, element: str, lanes: int, address: Push, offset: int = 0, step: int | None = None
) -> None:
    """Push `lanes` (1, 2 or 4) elements that lie `step` bytes apart, wide; `step` 0 loads one into all lanes.

    `address` pushes the address of the first; nothing beyond the elements is read.
    """
    size = ELEMENT_BYTES[element]
    step = size if step is None else step
    if lanes == 1 or step == 0:
        _load_splat(f, element, address, offset)
    elif step == size:
        _load_adjacent(f, element, lanes, address, offset)
    else:
        _load_apart(f, element, lanes, address, offset, step)
    _widen_float(f, element)


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
        _narrow_float(f, element)
        _mask_to_byte(f, element)
        f.memory(f"v128.store{8 * size}_lane", offset, 0)
    elif step == size:
        address()
        value()
        _narrow_float(f, element)
        _mask_to_byte(f, element)
        _narrow_lanes(f, element)
        total = lanes * size
        if total == 16:
            f.memory("v128.store", offset)
        else:
            f.memory(f"v128.store{8 * total}_lane", offset, 0)
    else:
        value()
        _narrow_float(f, element)
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


def reverse_lanes(f: Function, size: int, lanes: int) -> None:
    """Reverse the low `lanes` lanes of `size` bytes."""
    order = [lane * size + byte for lane in reversed(range(lanes)) for byte in range(size)]
    splat_i32(f, 0)
    f.shuffle(order + [16] * (16 - len(order)))


def round_to(f: Function, element: str) -> None:
    """Round f32 lanes to the nearest value of a narrower float type, ties to even (f32: nothing)."""
    if element not in FLOAT_FORMATS:
        return
    form = FLOAT_FORMATS[element]
    dropped = 23 - form.mantissa_bits
    x, magnitude = f.local("v128"), f.local("v128")
    f.tee(x)
    f.get(x)
    f.op("f32x4.abs")
    f.tee(magnitude)
    # Add half a unit, less one if the last kept bit is 0, and cut.
    f.get(magnitude)
    f.i32(dropped)
    f.op("i32x4.shr_u")
    splat_i32(f, 1)
    f.op("v128.and")
    f.op("i32x4.add")
    splat_i32(f, (1 << dropped - 1) - 1)
    f.op("i32x4.add")
    splat_i32(f, -(1 << dropped))
    f.op("v128.and")
    if form.minimum_exponent > -126:
        _round_subnormal(f, magnitude, form)
    # Infinite or NaN: a finite number plus infinity is infinite, NaN stays NaN.
    f.get(magnitude)
    splat_f32(f, float("inf") if form.has_infinity else float("nan"))
    f.op("f32x4.add")
    f.get(magnitude)
    splat_i32(f, _f32_bits(form.overflow_limit))
    f.op("i32x4.lt_s")
    f.op("v128.bitselect")
    splat_i32(f, 0x80000000)
    f.op("v128.bitselect")
    f.release(x, magnitude)


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


def _widen_float(f: Function, element: str) -> None:
    """Bits of a narrow float in i32 lanes -> f32. The exponent is moved by a product, which also scales subnormals."""
    if element not in FLOAT_FORMATS:
        return
    if element == "bf16":
        f.i32(16)
        f.op("i32x4.shl")
        return
    form = FLOAT_FORMATS[element]
    bits, mask = f.local("v128"), (1 << 8 * form.bytes - 1) - 1
    f.tee(bits)
    splat_i32(f, mask)
    f.op("v128.and")
    f.i32(23 - form.mantissa_bits)
    f.op("i32x4.shl")
    splat_f32(f, 2.0 ** (126 + form.minimum_exponent))
    f.op("f32x4.mul")
    # The largest exponent: infinity and NaN, or a NaN of all ones in a format without infinities.
    special = mask & ~((1 << form.mantissa_bits) - 1) if form.has_infinity else mask
    f.get(bits)
    splat_i32(f, special)
    f.op("v128.and")
    splat_i32(f, special)
    f.op("i32x4.eq")
    splat_i32(f, 0x7F800000 if form.has_infinity else 0x7FC00000)
    f.op("v128.and")
    f.op("v128.or")
    f.get(bits)
    splat_i32(f, mask + 1)
    f.op("v128.and")
    f.i32(32 - 8 * form.bytes)
    f.op("i32x4.shl")
    f.op("v128.or")
    f.release(bits)


def _narrow_float(f: Function, element: str) -> None:
    """f32 lanes that hold values of a narrow format -> its bits in i32 lanes."""
    if element not in FLOAT_FORMATS:
        return
    if element == "bf16":
        f.i32(16)
        f.op("i32x4.shr_u")
        return
    form = FLOAT_FORMATS[element]
    x, mask = f.local("v128"), (1 << 8 * form.bytes - 1) - 1
    f.tee(x)
    f.op("f32x4.abs")
    splat_f32(f, 2.0 ** -(126 + form.minimum_exponent))
    f.op("f32x4.mul")
    f.i32(23 - form.mantissa_bits)
    f.op("i32x4.shr_u")
    splat_i32(f, mask)
    f.op("v128.and")
    if not form.has_infinity:
        f.get(x)
        f.get(x)
        f.op("f32x4.ne")
        splat_i32(f, mask)
        f.op("v128.and")
        f.op("v128.or")
    f.get(x)
    f.i32(32 - 8 * form.bytes)
    f.op("i32x4.shr_u")
    splat_i32(f, mask + 1)
    f.op("v128.and")
    f.op("v128.or")
    f.release(x)


def _round_subnormal(f: Function, magnitude: int, form: FloatFormat) -> None:
    """Below the least normal number a sum with a power of two rounds to the fixed unit there."""
    unit = 2.0 ** (form.minimum_exponent - form.mantissa_bits + 23)
    f.get(magnitude)
    splat_f32(f, unit)
    f.op("f32x4.add")
    splat_f32(f, unit)
    f.op("f32x4.sub")
    f.get(magnitude)
    splat_f32(f, 2.0**form.minimum_exponent)
    f.op("i32x4.ge_s")
    f.op("v128.bitselect")


def _f32_bits(value: float) -> int:
    return struct.unpack("<i", struct.pack("<f", value))[0]
