"""Casts between all element types."""

from __future__ import annotations

from collections.abc import Callable

from tosaic.wasm.emission import Emission, Operands
from tosaic.wasm.float_formats import round_to
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES
from tosaic.wasm.lanes import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    INT_RANGES,
    KINDS,
    low_words,
    saturate,
    widen_mask,
    wrap,
)
from tosaic.wasm.math import splat_f32, splat_i32, splat_i64


def cast(e: Emission, node: Operands) -> None:
    """TOSA CAST: float to integer rounds to nearest even and saturates, integer to narrower integer wraps."""
    source, target = e.element(node.arguments[0]), e.element(node.index)
    e.push(node.arguments[0])
    if KINDS[source] == FLOAT and target in INT_RANGES:
        _round_to_int(e.f)
        if not e.is_saturated_later(node.index):
            saturate(e.f, target)
    elif source != target:
        _CASTS[KINDS[source], KINDS[target]](e, source, target)


def _cast_bool_to_int(e: Emission, source: str, target: str) -> None:
    if KINDS[target] == INT64:
        widen_mask(e.f)
    e.f.op("i32x4.neg" if KINDS[target] == INT32 else "i64x2.neg")


def _cast_bool_to_float(e: Emission, source: str, target: str) -> None:
    splat_f32(e.f, 1.0)
    e.f.op("v128.and")


def _cast_to_bool(e: Emission, source: str, target: str) -> None:
    if KINDS[source] == INT64:
        splat_i64(e.f, 0)
        e.f.op("i64x2.ne")
        low_words(e.f)
        return
    splat_i32(e.f, 0)
    e.f.op("f32x4.ne" if KINDS[source] == FLOAT else "i32x4.ne")


def _cast_int32_to_int32(e: Emission, source: str, target: str) -> None:
    if ELEMENT_BYTES[target] < ELEMENT_BYTES[source]:
        wrap(e.f, target)


def _cast_int32_to_int64(e: Emission, source: str, target: str) -> None:
    e.f.op("i64x2.extend_low_i32x4_s")


def _cast_int64_to_int32(e: Emission, source: str, target: str) -> None:
    low_words(e.f)
    wrap(e.f, target)


def _cast_int32_to_float(e: Emission, source: str, target: str) -> None:
    e.f.op("f32x4.convert_i32x4_s")
    round_to(e.f, target)


def _cast_float_to_int32(e: Emission, source: str, target: str) -> None:
    _round_to_int(e.f)


def _round_to_int(f: Function) -> None:
    f.op("f32x4.nearest")
    f.op("i32x4.trunc_sat_f32x4_s")


def _cast_int64_to_float(e: Emission, source: str, target: str) -> None:
    _by_lanes(e, "i64x2.extract_lane", ("f32.convert_i64_s",), "f32x4.replace_lane")
    round_to(e.f, target)


def _cast_float_to_int64(e: Emission, source: str, target: str) -> None:
    e.f.op("f32x4.nearest")
    _by_lanes(e, "f32x4.extract_lane", ("i64.trunc_sat_f32_s",), "i64x2.replace_lane")


def _cast_float_to_float(e: Emission, source: str, target: str) -> None:
    round_to(e.f, target)


def _cast_same(e: Emission, source: str, target: str) -> None:
    """Already in the form of the target."""


_CASTS: dict[tuple[str, str], Callable[[Emission, str, str], None]] = {
    (BOOL, INT32): _cast_bool_to_int,
    (BOOL, INT64): _cast_bool_to_int,
    (BOOL, FLOAT): _cast_bool_to_float,
    (INT32, BOOL): _cast_to_bool,
    (INT64, BOOL): _cast_to_bool,
    (FLOAT, BOOL): _cast_to_bool,
    (INT32, INT32): _cast_int32_to_int32,
    (INT32, INT64): _cast_int32_to_int64,
    (INT64, INT32): _cast_int64_to_int32,
    (INT64, INT64): _cast_same,
    (INT32, FLOAT): _cast_int32_to_float,
    (INT64, FLOAT): _cast_int64_to_float,
    (FLOAT, INT32): _cast_float_to_int32,
    (FLOAT, INT64): _cast_float_to_int64,
    (FLOAT, FLOAT): _cast_float_to_float,
}


def _by_lanes(e: Emission, extract: str, operators: tuple[str, ...], replace: str) -> None:
    """Apply scalar operators to the two low lanes of the vector on the stack."""
    f = e.f
    x = f.local("v128")
    f.tee(x)
    for lane in range(e.lanes):
        f.get(x)
        f.lane(extract, lane)
        for operator in operators:
            f.op(operator)
        f.lane(replace, lane)
    f.release(x)
