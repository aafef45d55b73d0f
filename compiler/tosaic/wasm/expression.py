"""Emits an `Expression` for one vector of lanes, leaving its value on the operand stack.

A node that is used once stays on the stack; one that is used more often is kept in a local by `local.tee`.
Values have the wide form of `lanes.py`. The semantics are those of the TOSA 1.0 specification; where it leaves a
choice (division by zero, casts of NaN) the result is some number, never a trap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tosaic.errors import TosaicError
from tosaic.wasm import math
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES, Expression
from tosaic.wasm.lanes import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    INT_RANGES,
    KINDS,
    Push,
    low_words,
    round_to,
    saturate,
    widen_mask,
)
from tosaic.wasm.math import splat_f32, splat_i32, splat_i64

_INFINITY = float("inf")


def emit(
    f: Function,
    expression: Expression,
    lanes: int,
    load_input: Callable[[int], None],
    load_result: Push | None = None,
    table_address: Callable[[int], None] | None = None,
) -> None:
    """Push the last node of the expression.

    `lanes` is the number of valid lanes: 1, 2 or 4 (at most 2 where 64-bit elements take part). `load_input(k)`
    pushes the lanes of input k, `load_result()` those of the kernel's own value, both in wide form and at most once;
    `table_address(k)` pushes the address of the look-up table that is input k.
    A node ("local", (index,), ...) is a vector of wide lanes that the kernel keeps in that local.
    """
    if not expression.nodes:
        raise ValueError("an expression has at least one node")
    emission = _Emission(f, expression, lanes, load_input, load_result, table_address)
    emission.push(len(expression.nodes) - 1)


def operations() -> frozenset[str]:
    """The TOSA ops (without their prefix) that an expression may hold."""
    return frozenset(_OPERATIONS)


def push_scaled(f: Function, lanes: int, x: int, multiplier: int, shift: int) -> None:
    """Push i32 lanes times a constant, shifted right with rounding (TOSA apply_scale_32, single rounding)."""
    halves = ("low", "high") if lanes > 2 else ("low",)
    _scale_by_constant(f, x, lambda: splat_i32(f, multiplier), shift, False, halves)


@dataclass
class _Emission:
    f: Function
    expression: Expression
    lanes: int
    load_input: Callable[[int], None]
    load_result: Push | None
    table_address: Callable[[int], None] | None
    _uses: Counter = field(default_factory=Counter)
    _locals: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        last = len(self.expression.nodes) - 1
        reached = {last}
        for index in range(last, -1, -1):
            op, arguments, _ = self.expression.nodes[index]
            if index in reached and op not in _LEAVES:
                self._uses.update(arguments)
                reached.update(arguments)

    def push(self, index: int) -> None:
        """Push the value of a node, computing it on its first use."""
        if (local := self._locals.get(index)) is not None:
            self.f.get(local)
            self._uses[index] -= 1
            if self._uses[index] == 0:
                self.f.release(self._locals.pop(index))
            return
        op, _, attributes = self.expression.nodes[index]
        if op == "constant":
            self._push_constant(dict(attributes)["value"], self.element(index))
            return
        self._compute(index)
        if self._uses[index] > 1:
            self._locals[index] = self.f.local("v128")
            self.f.tee(self._locals[index])
            self._uses[index] -= 1

    def push_local(self, index: int) -> int:
        """The value of a node in a local of the caller's."""
        local = self.f.local("v128")
        self.push(index)
        self.f.set(local)
        return local

    def element(self, index: int) -> str:
        return self.expression.elements[index]

    def kind(self, index: int) -> str:
        return KINDS[self.element(index)]

    def constant(self, index: int) -> Any | None:
        """The number of a constant node, None for any other node."""
        op, _, attributes = self.expression.nodes[index]
        return dict(attributes)["value"] if op == "constant" else None

    def _compute(self, index: int) -> None:
        op, arguments, attributes = self.expression.nodes[index]
        if op == "input":
            self.load_input(arguments[0])
        elif op == "local":
            self.f.get(arguments[0])
        elif op == "result":
            if self.load_result is None:
                raise ValueError("this kernel has no value of its own")
            self.load_result()
        elif (operation := _OPERATIONS.get(op)) is not None:
            operation(self, _Node(index, arguments, dict(attributes)))
        else:
            raise TosaicError(f"tosa.{op} cannot be computed element by element")

    def _push_constant(self, value: Any, element: str) -> None:
        kind = KINDS[element]
        if kind == FLOAT:
            splat_f32(self.f, value)
        elif kind == BOOL:
            splat_i32(self.f, -1 if value else 0)
        elif kind == INT64:
            splat_i64(self.f, int(value))
        else:
            splat_i32(self.f, int(value))


_LEAVES = frozenset({"input", "result", "constant", "local"})


@dataclass(frozen=True)
class _Node:
    index: int
    arguments: tuple[int, ...]
    attributes: Mapping[str, Any]


_Operation = Callable[[_Emission, _Node], None]


def _direct(
    float: str = "", int32: str = "", int64: str = "", bool: str = "", rounds: bool = False
) -> _Operation:
    """One operator on all arguments in order, by the kind of the first argument.

    `rounds` says that the result may not fit the element type: narrow floats are rounded, narrow integers wrap.
    """
    operators = {FLOAT: float, INT32: int32, INT64: int64, BOOL: bool}

    def operation(e: _Emission, node: _Node) -> None:
        operator = operators[e.kind(node.arguments[0])]
        if not operator:
            raise _unsupported(e, node)
        arity = 1 if operator in _UNARY else 2
        for argument in node.arguments[:arity]:
            e.push(argument)
        e.f.op(operator)
        if rounds:
            round_to(e.f, e.element(node.index))
            _wrap(e.f, e.element(node.index))

    return operation


_UNARY = frozenset({"f32x4.abs", "i32x4.abs", "i64x2.abs", "f32x4.ceil", "f32x4.floor", "v128.not"})


def _comparison(name: str) -> _Operation:
    """An i32 mask; 64-bit masks are shortened."""

    def operation(e: _Emission, node: _Node) -> None:
        kind = e.kind(node.arguments[0])
        suffix = "" if kind == FLOAT or name == "eq" else "_s"
        for argument in node.arguments:
            e.push(argument)
        e.f.op({FLOAT: "f32x4", INT32: "i32x4", INT64: "i64x2", BOOL: "i32x4"}[kind] + f".{name}{suffix}")
        if kind == INT64:
            low_words(e.f)

    return operation


def _float_function(function: Callable[[Function], None]) -> _Operation:
    def operation(e: _Emission, node: _Node) -> None:
        e.push(node.arguments[0])
        function(e.f)
        round_to(e.f, e.element(node.index))

    return operation


def _mul(e: _Emission, node: _Node) -> None:
    """Product; for i32 with a shift, the rounded high part (`apply_scale` without double rounding)."""
    first, second, *rest = node.arguments
    shift = e.constant(rest[0]) if rest else node.attributes.get("shift", 0)
    if shift is None:
        raise _unsupported(e, node)
    if e.kind(first) == INT32 and shift:
        value, multiplier = e.push_local(first), e.push_local(second)
        _scale(e, value, lambda: e.f.get(multiplier), int(shift), double_round=False)
        e.f.release(value, multiplier)
        return
    e.push(first)
    e.push(second)
    e.f.op({FLOAT: "f32x4.mul", INT32: "i32x4.mul", INT64: "i64x2.mul"}[e.kind(first)])
    round_to(e.f, e.element(node.index))
    if e.element(first) == e.element(node.index):
        _wrap(e.f, e.element(node.index))


def _negate(e: _Emission, node: _Node) -> None:
    """-x, exact for floats; with zero points zp_out - (x - zp_in), saturated for i8 and i16."""
    first, *zero_points = node.arguments
    kind, element = e.kind(first), e.element(node.index)
    if kind == FLOAT:
        e.push(first)
        e.f.op("f32x4.neg")
        return
    if kind == INT64:
        e.push(first)
        e.f.op("i64x2.neg")
        return
    total = sum(int(e.constant(zero_point) or 0) for zero_point in zero_points)
    splat_i32(e.f, total)
    e.push(first)
    e.f.op("i32x4.sub")
    saturate(e.f, element)


def _minimum_maximum(maximum: bool) -> _Operation:
    def operation(e: _Emission, node: _Node) -> None:
        first, second = node.arguments
        kind = e.kind(first)
        if kind == FLOAT:
            _float_minimum_maximum(e, first, second, maximum, node.attributes.get("nan_mode", "PROPAGATE"))
        elif kind == INT32:
            e.push(first)
            e.push(second)
            e.f.op("i32x4.max_s" if maximum else "i32x4.min_s")
        elif kind == INT64:
            a, b = e.push_local(first), e.push_local(second)
            for local in (a, b, a, b):
                e.f.get(local)
            e.f.op("i64x2.gt_s" if maximum else "i64x2.lt_s")
            e.f.op("v128.bitselect")
            e.f.release(a, b)
        else:
            raise _unsupported(e, node)

    return operation


def _float_minimum_maximum(e: _Emission, first: int, second: int, maximum: bool, nan_mode: str) -> None:
    """By pmin/pmax (price 1 instead of 4) where an operand is a constant: pmax(x, c) = x < c ? c : x keeps a NaN x."""
    f, short = e.f, "f32x4.pmax" if maximum else "f32x4.pmin"
    if e.constant(first) is not None:
        first, second = second, first
    constant = e.constant(second)
    if constant is not None and constant == constant:
        ordered = (first, second) if nan_mode == "PROPAGATE" else (second, first)
        for argument in ordered:
            e.push(argument)
        f.op(short)
        return
    if nan_mode == "PROPAGATE":
        e.push(first)
        e.push(second)
        f.op("f32x4.max" if maximum else "f32x4.min")
        return
    a, b = e.push_local(first), e.push_local(second)
    f.get(a)
    f.get(b)
    f.op(short)
    for local in (b, a, a):
        f.get(local)
    f.op("f32x4.eq")
    f.op("v128.bitselect")
    f.release(a, b)


def _clamp(e: _Emission, node: _Node) -> None:
    """Into [min_val, max_val]; a bound at the end of the range costs nothing. NaN stays, or is min_val (IGNORE)."""
    first = node.arguments[0]
    low, high = node.attributes["min_val"], node.attributes["max_val"]
    f, kind = e.f, e.kind(first)
    if kind == FLOAT:
        if node.attributes.get("nan_mode", "PROPAGATE") == "IGNORE":
            splat_f32(f, low)
            e.push(first)
            f.op("f32x4.pmax")
        else:
            e.push(first)
            if low > -_INFINITY:
                splat_f32(f, low)
                f.op("f32x4.pmax")
        if high < _INFINITY:
            splat_f32(f, high)
            f.op("f32x4.pmin")
        return
    if kind != INT32:
        raise _unsupported(e, node)
    bounds = INT_RANGES.get(e.element(first), (-(1 << 31), (1 << 31) - 1))
    e.push(first)
    for operator, bound, end in (("i32x4.max_s", low, bounds[0]), ("i32x4.min_s", high, bounds[1])):
        if bound != end:
            splat_i32(f, int(bound))
            f.op(operator)


def _select(e: _Emission, node: _Node) -> None:
    condition, first, second = node.arguments
    e.push(first)
    e.push(second)
    e.push(condition)
    if e.kind(first) == INT64:
        widen_mask(e.f)
    e.f.op("v128.bitselect")


def _reciprocal(e: _Emission, node: _Node) -> None:
    splat_f32(e.f, 1.0)
    e.push(node.arguments[0])
    e.f.op("f32x4.div")
    round_to(e.f, e.element(node.index))


def _pow(e: _Emission, node: _Node) -> None:
    """x**y; constant exponents 1, 2, 3, -1 and 1/2 without a logarithm."""
    base, exponent = node.arguments
    f, constant = e.f, e.constant(exponent)
    if constant == -1:
        splat_f32(f, 1.0)
    e.push(base)
    if constant in (2, 3):
        x = f.local("v128")
        f.tee(x)
        for _ in range(int(constant) - 1):
            f.get(x)
            f.op("f32x4.mul")
        f.release(x)
    elif constant == -1:
        f.op("f32x4.div")
    elif constant == 0.5:
        _square_root_power(f)
    elif constant != 1:
        e.push(exponent)
        math.pow(f, e.lanes)
    round_to(f, e.element(node.index))


def _square_root_power(f: Function) -> None:
    """x**0.5, which differs from the root at -0 (0) and -inf (inf)."""
    x = f.local("v128")
    f.set(x)
    splat_f32(f, _INFINITY)
    f.get(x)
    splat_f32(f, 0.0)
    f.op("f32x4.add")
    f.op("f32x4.sqrt")
    f.get(x)
    splat_f32(f, -_INFINITY)
    f.op("f32x4.eq")
    f.op("v128.bitselect")
    f.release(x)


def _shift_by_lane(operator: str) -> _Operation:
    """A shift whose amounts are lanes; constant amounts take one SIMD operator."""

    def operation(e: _Emission, node: _Node) -> None:
        value, amount = node.arguments
        constant = e.constant(amount)
        if e.kind(value) != INT32:
            raise _unsupported(e, node)
        e.push(value)
        if operator == "shr_u":
            _zero_extend(e.f, e.element(value))
        if constant is not None:
            e.f.i32(int(constant))
            e.f.op(f"i32x4.{operator}")
        else:
            _shift_each(e, operator, amount)
        if operator != "shr_s":
            _wrap(e.f, e.element(value))

    return operation


def _shift_each(e: _Emission, operator: str, amount: int) -> None:
    """Shift the lanes on the stack one by one."""
    f = e.f
    value = f.local("v128")
    f.set(value)
    amounts = e.push_local(amount)
    f.get(value)
    for lane in range(e.lanes):
        f.get(value)
        f.lane("i32x4.extract_lane", lane)
        f.get(amounts)
        f.lane("i32x4.extract_lane", lane)
        f.op(f"i32.{operator}")
        f.lane("i32x4.replace_lane", lane)
    f.release(value, amounts)


def _arithmetic_right_shift(e: _Emission, node: _Node) -> None:
    """value >> amount, plus the last bit shifted out if `round`."""
    value, amount = node.arguments
    constant = e.constant(amount)
    if not node.attributes.get("round", False) or constant == 0:
        _shift_by_lane("shr_s")(e, node)
        return
    f = e.f
    x = e.push_local(value)
    f.get(x)
    if constant is not None:
        f.i32(int(constant))
        f.op("i32x4.shr_s")
        f.get(x)
        f.i32(int(constant) - 1)
        f.op("i32x4.shr_s")
        splat_i32(f, 1)
        f.op("v128.and")
        f.op("i32x4.add")
    else:
        amounts = e.push_local(amount)
        for lane in range(e.lanes):
            _rounded_shift_lane(f, x, amounts, lane)
        f.release(amounts)
    f.release(x)
    _wrap(f, e.element(node.index))


def _rounded_shift_lane(f: Function, x: int, amounts: int, lane: int) -> None:
    """Replace a lane by (x >> s) + ((x >> (s - 1)) & (s != 0))."""

    def push_amount() -> None:
        f.get(amounts)
        f.lane("i32x4.extract_lane", lane)

    for short_by in (0, 1):
        f.get(x)
        f.lane("i32x4.extract_lane", lane)
        push_amount()
        f.i32(short_by)
        f.op("i32.sub")
        f.op("i32.shr_s")
    push_amount()
    f.i32(0)
    f.op("i32.ne")
    f.op("i32.and")
    f.op("i32.add")
    f.lane("i32x4.replace_lane", lane)


def _clz(e: _Emission, node: _Node) -> None:
    f = e.f
    x = e.push_local(node.arguments[0])
    f.get(x)
    for lane in range(e.lanes):
        f.get(x)
        f.lane("i32x4.extract_lane", lane)
        f.op("i32.clz")
        f.lane("i32x4.replace_lane", lane)
    f.release(x)


def _intdiv(e: _Emission, node: _Node) -> None:
    """Quotient rounded towards zero, exact in f64 (a division by zero saturates)."""
    if e.kind(node.index) != INT32:
        raise _unsupported(e, node)
    f = e.f
    a, b = (e.push_local(argument) for argument in node.arguments)
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
    f.release(a, b)
    _wrap(f, e.element(node.index))


def _table(e: _Emission, node: _Node) -> None:
    """Look-up by i8 (256 entries), or by i16 with interpolation between 513 entries (i32 result)."""
    if e.table_address is None:
        raise _unsupported(e, node)
    f, table = e.f, node.attributes["input"]
    x = e.push_local(node.arguments[0])
    short = e.element(node.arguments[0]) == "i8"
    f.get(x)
    for lane in range(e.lanes):
        (_table_lane_i8 if short else _table_lane_i16)(e, x, table, lane)
        f.lane("i32x4.replace_lane", lane)
    f.release(x)


def _table_lane_i8(e: _Emission, x: int, table: int, lane: int) -> None:
    e.table_address(table)  # type: ignore[misc]
    e.f.get(x)
    e.f.lane("i32x4.extract_lane", lane)
    e.f.op("i32.add")
    e.f.i32(128)
    e.f.op("i32.add")
    e.f.memory("i32.load8_s")


def _table_lane_i16(e: _Emission, x: int, table: int, lane: int) -> None:
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


def _identity(e: _Emission, node: _Node) -> None:
    e.push(node.arguments[0])


# Casts


def _cast(e: _Emission, node: _Node) -> None:
    """TOSA CAST: float to integer rounds to nearest even and saturates, integer to narrower integer wraps."""
    source, target = e.element(node.arguments[0]), e.element(node.index)
    e.push(node.arguments[0])
    if source != target:
        _CASTS[KINDS[source], KINDS[target]](e, source, target)


def _cast_bool_to_int(e: _Emission, source: str, target: str) -> None:
    if KINDS[target] == INT64:
        widen_mask(e.f)
    e.f.op("i32x4.neg" if KINDS[target] == INT32 else "i64x2.neg")


def _cast_bool_to_float(e: _Emission, source: str, target: str) -> None:
    splat_f32(e.f, 1.0)
    e.f.op("v128.and")


def _cast_to_bool(e: _Emission, source: str, target: str) -> None:
    if KINDS[source] == INT64:
        splat_i64(e.f, 0)
        e.f.op("i64x2.ne")
        low_words(e.f)
        return
    splat_i32(e.f, 0)
    e.f.op("f32x4.ne" if KINDS[source] == FLOAT else "i32x4.ne")


def _cast_int32_to_int32(e: _Emission, source: str, target: str) -> None:
    if ELEMENT_BYTES[target] < ELEMENT_BYTES[source]:
        _wrap(e.f, target)


def _cast_int32_to_int64(e: _Emission, source: str, target: str) -> None:
    e.f.op("i64x2.extend_low_i32x4_s")


def _cast_int64_to_int32(e: _Emission, source: str, target: str) -> None:
    low_words(e.f)
    _wrap(e.f, target)


def _cast_int32_to_float(e: _Emission, source: str, target: str) -> None:
    e.f.op("f32x4.convert_i32x4_s")
    round_to(e.f, target)


def _cast_float_to_int32(e: _Emission, source: str, target: str) -> None:
    e.f.op("f32x4.nearest")
    e.f.op("i32x4.trunc_sat_f32x4_s")
    saturate(e.f, target)


def _cast_int64_to_float(e: _Emission, source: str, target: str) -> None:
    _by_lanes(e, "i64x2.extract_lane", ("f32.convert_i64_s",), "f32x4.replace_lane")
    round_to(e.f, target)


def _cast_float_to_int64(e: _Emission, source: str, target: str) -> None:
    e.f.op("f32x4.nearest")
    _by_lanes(e, "f32x4.extract_lane", ("i64.trunc_sat_f32_s",), "i64x2.replace_lane")


def _cast_float_to_float(e: _Emission, source: str, target: str) -> None:
    round_to(e.f, target)


def _cast_same(e: _Emission, source: str, target: str) -> None:
    """Already in the form of the target."""


_CASTS: dict[tuple[str, str], Callable[[_Emission, str, str], None]] = {
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


def _by_lanes(e: _Emission, extract: str, operators: tuple[str, ...], replace: str) -> None:
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


# Rescale


def _rescale(e: _Emission, node: _Node) -> None:
    """clip((value - input_zp) * multiplier >> shift, rounded, + output_zp); TOSA RESCALE."""
    value, multiplier, shift, *zero_points = node.arguments
    input_zp, output_zp = (int(e.constant(zp) or 0) for zp in zero_points) if zero_points else (0, 0)
    flags, f = node.attributes, e.f
    source, target = e.element(value), e.element(node.index)
    e.push(value)
    if flags.get("input_unsigned", False):
        _zero_extend(f, source)
        input_zp = _unsigned(input_zp, source)
    if flags.get("output_unsigned", False):
        output_zp = _unsigned(output_zp, target)
    if input_zp:
        (splat_i64 if KINDS[source] == INT64 else splat_i32)(f, input_zp)
        f.op("i64x2.sub" if KINDS[source] == INT64 else "i32x4.sub")
    x = f.local("v128")
    f.set(x)
    double_round = flags.get("rounding_mode", "SINGLE_ROUND") == "DOUBLE_ROUND" and flags.get("scale32", True)
    constant_shift = e.constant(shift)
    locals = {index: e.push_local(index) for index in (multiplier, shift) if e.constant(index) is None}

    def push_multiplier() -> None:
        f.get(locals[multiplier]) if multiplier in locals else e.push(multiplier)

    amount: int | Push = (lambda: f.get(locals[shift])) if constant_shift is None else int(constant_shift)
    scale = _scale_i64 if KINDS[source] == INT64 else _scale
    scale(e, x, push_multiplier, amount, double_round)
    f.release(x, *locals.values())
    if output_zp:
        splat_i32(f, output_zp)
        f.op("i32x4.add")
    if flags.get("output_unsigned", False):
        _saturate_unsigned(f, target)
    else:
        saturate(f, target)


def _scale(e: _Emission, x: int, multiplier: Push, shift: int | Push, double_round: bool) -> None:
    """Push (x * multiplier + rounding) >> shift of i32 lanes; the product has 64 bits."""
    halves = ("low", "high") if e.lanes > 2 else ("low",)
    if isinstance(shift, int):
        _scale_by_constant(e.f, x, multiplier, shift, double_round and shift > 31, halves)
    else:
        _scale_by_lanes(e, x, multiplier, shift, double_round)


def _scale_by_constant(
    f: Function, x: int, multiplier: Push, shift: int, double_round: bool, halves: tuple[str, ...]
) -> None:
    for half in halves:
        f.get(x)
        multiplier()
        f.op(f"i64x2.extmul_{half}_i32x4_s")
        splat_i64(f, (1 << shift - 1) + (double_round << 30))
        f.op("i64x2.add")
        if double_round:  # 2**30 towards the sign of x
            f.get(x)
            f.i32(31)
            f.op("i32x4.shr_s")
            f.op(f"i64x2.extend_{half}_i32x4_s")
            splat_i64(f, -(1 << 31))
            f.op("v128.and")
            f.op("i64x2.add")
        if shift < 32:
            f.i32(shift)
            f.op("i64x2.shr_s")
    if len(halves) == 1:
        splat_i32(f, 0)
    # From 32 on the high words hold the result, and one narrow shift does for both halves.
    first = 4 if shift >= 32 else 0
    f.shuffle([base + first + i for base in (0, 8, 16, 24) for i in range(4)])
    if shift > 32:
        f.i32(shift - 32)
        f.op("i32x4.shr_s")


def _scale_by_lanes(e: _Emission, x: int, multiplier: Push, shift: Push, double_round: bool) -> None:
    """Lane by lane in i64, for shifts that differ."""
    f = e.f
    result, amount = f.local("v128"), f.local("i64")
    for lane in range(e.lanes):
        if lane:
            f.get(result)
        else:
            f.get(x)
        f.get(x)
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        multiplier()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        f.op("i64.mul")
        f.i64(1)
        shift()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_u")
        f.tee(amount)
        f.i64(1)
        f.op("i64.sub")
        f.op("i64.shl")
        f.op("i64.add")
        if double_round:
            _double_round_lane(f, x, amount, lane)
        f.get(amount)
        f.op("i64.shr_s")
        f.op("i32.wrap_i64")
        f.lane("i32x4.replace_lane", lane)
        f.set(result)
    f.get(result)
    f.release(result)


def _double_round_lane(f: Function, x: int, amount: int, lane: int) -> None:
    """Add 2**30 with the sign of x where the shift exceeds 31."""
    f.i64(1 << 30)
    f.i64(-(1 << 30))
    f.get(x)
    f.lane("i32x4.extract_lane", lane)
    f.i32(0)
    f.op("i32.ge_s")
    f.op("select")
    f.i64(0)
    f.get(amount)
    f.i64(31)
    f.op("i64.gt_s")
    f.op("select")
    f.op("i64.add")


def _scale_i64(e: _Emission, x: int, multiplier: Push, shift: int | Push, double_round: bool) -> None:
    """Push (x * multiplier + rounding) >> shift of two i64 lanes as i32 (48-bit values, 16-bit multipliers)."""
    f = e.f
    if not isinstance(shift, int):
        _scale_i64_by_lanes(e, x, multiplier, shift)
        return
    f.get(x)
    multiplier()
    f.op("i64x2.extend_low_i32x4_s")
    f.op("i64x2.mul")
    splat_i64(f, 1 << shift - 1)
    f.op("i64x2.add")
    f.i32(shift)
    f.op("i64x2.shr_s")
    low_words(f)


def _scale_i64_by_lanes(e: _Emission, x: int, multiplier: Push, shift: Push) -> None:
    f = e.f
    amount = f.local("i64")
    f.get(x)
    for lane in range(e.lanes):
        f.get(x)
        f.lane("i64x2.extract_lane", lane)
        multiplier()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_s")
        f.op("i64.mul")
        f.i64(1)
        shift()
        f.lane("i32x4.extract_lane", lane)
        f.op("i64.extend_i32_u")
        f.tee(amount)
        f.i64(1)
        f.op("i64.sub")
        f.op("i64.shl")
        f.op("i64.add")
        f.get(amount)
        f.op("i64.shr_s")
        f.lane("i64x2.replace_lane", lane)
    f.release(amount)
    low_words(f)


# Narrow integers in i32 lanes


def _wrap(f: Function, element: str) -> None:
    """Keep the low bits, sign-extended."""
    if element not in INT_RANGES:
        return
    for operator in ("i32x4.shl", "i32x4.shr_s"):
        f.i32(24 if element == "i8" else 16)
        f.op(operator)


def _zero_extend(f: Function, element: str) -> None:
    if element in INT_RANGES:
        splat_i32(f, 0xFF if element == "i8" else 0xFFFF)
        f.op("v128.and")


def _saturate_unsigned(f: Function, element: str) -> None:
    """Into the unsigned range; the bits then stand for a signless element, sign-extended."""
    if element not in INT_RANGES:
        return
    splat_i32(f, 0)
    f.op("i32x4.max_s")
    splat_i32(f, 0xFF if element == "i8" else 0xFFFF)
    f.op("i32x4.min_s")
    _wrap(f, element)


def _unsigned(value: int, element: str) -> int:
    return value & (0xFF if element == "i8" else 0xFFFF) if element in INT_RANGES else value


def _unsupported(e: _Emission, node: _Node) -> TosaicError:
    op = e.expression.nodes[node.index][0]
    elements = ", ".join(e.element(argument) for argument in node.arguments)
    return TosaicError(f"tosa.{op} on {elements} has no kernel")


_OPERATIONS: dict[str, _Operation] = {
    "abs": _direct("f32x4.abs", "i32x4.abs", "i64x2.abs", rounds=True),
    "add": _direct("f32x4.add", "i32x4.add", "i64x2.add", rounds=True),
    "sub": _direct("f32x4.sub", "i32x4.sub", "i64x2.sub", rounds=True),
    "ceil": _direct("f32x4.ceil"),
    "floor": _direct("f32x4.floor"),
    "bitwise_and": _direct(int32="v128.and", int64="v128.and"),
    "bitwise_or": _direct(int32="v128.or", int64="v128.or"),
    "bitwise_xor": _direct(int32="v128.xor", int64="v128.xor"),
    "bitwise_not": _direct(int32="v128.not", int64="v128.not"),
    "logical_and": _direct(bool="v128.and"),
    "logical_or": _direct(bool="v128.or"),
    "logical_xor": _direct(bool="v128.xor"),
    "logical_not": _direct(bool="v128.not"),
    "equal": _comparison("eq"),
    "greater": _comparison("gt"),
    "greater_equal": _comparison("ge"),
    "exp": _float_function(math.exp),
    "log": _float_function(math.log),
    "tanh": _float_function(math.tanh),
    "sigmoid": _float_function(math.sigmoid),
    "erf": _float_function(math.erf),
    "sin": _float_function(math.sin),
    "cos": _float_function(math.cos),
    "rsqrt": _float_function(math.rsqrt),
    "reciprocal": _reciprocal,
    "pow": _pow,
    "mul": _mul,
    "negate": _negate,
    "maximum": _minimum_maximum(maximum=True),
    "minimum": _minimum_maximum(maximum=False),
    "clamp": _clamp,
    "select": _select,
    "logical_left_shift": _shift_by_lane("shl"),
    "logical_right_shift": _shift_by_lane("shr_u"),
    "arithmetic_right_shift": _arithmetic_right_shift,
    "clz": _clz,
    "intdiv": _intdiv,
    "table": _table,
    "identity": _identity,
    "cast": _cast,
    "rescale": _rescale,
}
