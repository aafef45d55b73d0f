"""Shifts, bit counts, divisions and look-ups of integers."""

from __future__ import annotations

from tosaic.wasm.emission import Emission, Operands, Operation, unsupported
from tosaic.wasm.function import Function
from tosaic.wasm.lanes import (
    INT32,
    INT64,
    wrap,
    zero_extend,
)
from tosaic.wasm.math import splat_i32, splat_i64


def _shift_by_lane(operator: str) -> Operation:
    """A shift whose amounts are lanes; constant amounts take one SIMD operator."""

    def operation(e: Emission, node: Operands) -> None:
        value, amount = node.arguments
        constant, shape = e.constant(amount), _SHAPES.get(e.kind(value))
        if shape is None:
            raise unsupported(e, node)
        e.push(value)
        if operator == "shr_u":
            zero_extend(e.f, e.element(value))
        if constant is not None:
            e.f.i32(int(constant))
            e.f.op(f"{shape}.{operator}")
        else:
            _shift_each(e, operator, amount, shape)
        if operator != "shr_s":
            wrap(e.f, e.element(value))

    return operation


_SHAPES = {INT32: "i32x4", INT64: "i64x2"}


def _shift_each(e: Emission, operator: str, amount: int, shape: str) -> None:
    """Shift the lanes on the stack one by one."""
    f, scalar = e.f, shape[:3]
    value = f.local("v128")
    f.set(value)
    amounts = e.push_local(amount)
    f.get(value)
    for lane in range(e.lanes):
        for operand in (value, amounts):
            f.get(operand)
            f.lane(f"{shape}.extract_lane", lane)
        f.op(f"{scalar}.{operator}")
        f.lane(f"{shape}.replace_lane", lane)
    f.release(value, amounts)


def _arithmetic_right_shift(e: Emission, node: Operands) -> None:
    """value >> amount, plus the last bit shifted out if `round`."""
    value, amount = node.arguments
    constant = e.constant(amount)
    if not node.attributes.get("round", False) or constant == 0:
        _shift_by_lane("shr_s")(e, node)
        return
    f, shape = e.f, _SHAPES[e.kind(value)]
    x = e.push_local(value)
    f.get(x)
    if constant is not None:
        f.i32(int(constant))
        f.op(f"{shape}.shr_s")
        f.get(x)
        f.i32(int(constant) - 1)
        f.op(f"{shape}.shr_s")
        _SPLATS[shape](f, 1)
        f.op("v128.and")
        f.op(f"{shape}.add")
    else:
        amounts = e.push_local(amount)
        for lane in range(e.lanes):
            _rounded_shift_lane(f, x, amounts, lane, shape)
        f.release(amounts)
    f.release(x)
    wrap(f, e.element(node.index))


_SPLATS = {"i32x4": splat_i32, "i64x2": splat_i64}


def _rounded_shift_lane(f: Function, x: int, amounts: int, lane: int, shape: str) -> None:
    """Replace a lane by (x >> s) + ((x >> (s - 1)) & (s != 0))."""
    scalar = shape[:3]
    push_number = f.i32 if scalar == "i32" else f.i64

    def push_amount() -> None:
        f.get(amounts)
        f.lane(f"{shape}.extract_lane", lane)

    for short_by in (0, 1):
        f.get(x)
        f.lane(f"{shape}.extract_lane", lane)
        push_amount()
        push_number(short_by)
        f.op(f"{scalar}.sub")
        f.op(f"{scalar}.shr_s")
    push_amount()
    push_number(0)
    f.op(f"{scalar}.ne")
    if scalar == "i64":
        f.op("i64.extend_i32_u")
    f.op(f"{scalar}.and")
    f.op(f"{scalar}.add")
    f.lane(f"{shape}.replace_lane", lane)


def _clz(e: Emission, node: Operands) -> None:
    f, shape = e.f, _SHAPES[e.kind(node.index)]
    x = e.push_local(node.arguments[0])
    f.get(x)
    for lane in range(e.lanes):
        f.get(x)
        f.lane(f"{shape}.extract_lane", lane)
        f.op(f"{shape[:3]}.clz")
        f.lane(f"{shape}.replace_lane", lane)
    f.release(x)


def _intdiv(e: Emission, node: Operands) -> None:
    """Quotient rounded towards zero; a division by zero gives some number."""
    a, b = (e.push_local(argument) for argument in node.arguments)
    if e.kind(node.index) == INT64:
        _divide_i64(e, a, b)
    else:
        _divide_i32(e, a, b)
        wrap(e.f, e.element(node.index))
    e.f.release(a, b)


def _divide_i32(e: Emission, a: int, b: int) -> None:
    """Exact in f64, and saturating where i32.div_s would trap."""
    f = e.f
    for high in (False, True) if e.lanes > 2 else (False,):
        for operand in (a, b):
            f.get(operand)
            if high:
                f.get(operand)
                f.shuffle([*range(8, 16)] * 2)
            f.op("f64x2.convert_low_i32x4_s")
        f.op("f64x2.div")
        f.op("i32x4.trunc_sat_f64x2_s_zero")
    if e.lanes > 2:
        f.shuffle([*range(8), *range(16, 24)])


def _divide_i64(e: Emission, a: int, b: int) -> None:
    """By lanes; divisors 0 and -1, which may trap, are replaced by 1 and the quotient multiplied by 1 or -1."""
    f = e.f
    divisor, special = f.local("i64"), f.local("i32")
    f.get(a)
    for lane in range(e.lanes):
        f.get(a)
        f.lane("i64x2.extract_lane", lane)
        f.i64(1)
        f.get(b)
        f.lane("i64x2.extract_lane", lane)
        f.tee(divisor)
        f.get(divisor)
        f.i64(1)
        f.op("i64.add")
        f.i64(2)
        f.op("i64.lt_u")
        f.tee(special)
        f.op("select")
        f.op("i64.div_s")
        f.get(divisor)
        f.i64(1)
        f.op("i64.or")
        f.i64(1)
        f.get(special)
        f.op("select")
        f.op("i64.mul")
        f.lane("i64x2.replace_lane", lane)
    f.release(divisor, special)


def _table(e: Emission, node: Operands) -> None:
    """Look-up by i8 (256 entries), or by i16 with interpolation between 513 entries (i32 result)."""
    if e.table_address is None:
        raise unsupported(e, node)
    f, table = e.f, node.attributes["input"]
    x = e.push_local(node.arguments[0])
    short = e.element(node.arguments[0]) == "i8"
    f.get(x)
    for lane in range(e.lanes):
        (_table_lane_i8 if short else _table_lane_i16)(e, x, table, lane)
        f.lane("i32x4.replace_lane", lane)
    f.release(x)


def _table_lane_i8(e: Emission, x: int, table: int, lane: int) -> None:
    e.table_address(table)  # type: ignore[misc]
    e.f.get(x)
    e.f.lane("i32x4.extract_lane", lane)
    e.f.op("i32.add")
    e.f.i32(128)
    e.f.op("i32.add")
    e.f.memory("i32.load8_s")


def _table_lane_i16(e: Emission, x: int, table: int, lane: int) -> None:
    """table[i] * 128 + (table[i + 1] - table[i]) * (x & 127) at i = (x + 32768) >> 7."""
    f = e.f
    entry, base = f.local("i32"), f.local("i32")
    e.table_address(table)  # type: ignore[misc]
    f.get(x)
    f.lane("i32x4.extract_lane", lane)
    f.i32(32768)
    f.op("i32.add")
    f.i32(7)
    f.op("i32.shr_s")
    f.i32(1)
    f.op("i32.shl")
    f.op("i32.add")
    f.tee(entry)
    f.memory("i32.load16_s")
    f.tee(base)
    f.i32(7)
    f.op("i32.shl")
    f.get(entry)
    f.memory("i32.load16_s", 2)
    f.get(base)
    f.op("i32.sub")
    f.get(x)
    f.lane("i32x4.extract_lane", lane)
    f.i32(127)
    f.op("i32.and")
    f.op("i32.mul")
    f.op("i32.add")
    f.release(entry, base)


INTEGER: dict[str, Operation] = {
    "logical_left_shift": _shift_by_lane("shl"),
    "logical_right_shift": _shift_by_lane("shr_u"),
    "arithmetic_right_shift": _arithmetic_right_shift,
    "clz": _clz,
    "intdiv": _intdiv,
    "table": _table,
}
"""TOSA op -> how its value is pushed."""
