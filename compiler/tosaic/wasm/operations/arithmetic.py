"""Arithmetic, comparisons and choices, on every kind of lanes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import copysign

from tosaic.wasm import math, math_f64
from tosaic.wasm.emission import Emission, Operands, Operation, unsupported
from tosaic.wasm.float_formats import round_to
from tosaic.wasm.function import Function
from tosaic.wasm.lanes import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    INT_RANGES,
    low_words,
    saturate,
    widen_mask,
    wrap,
)
from tosaic.wasm.math import splat_f32, splat_i32, splat_i64
from tosaic.wasm.math_roots import quarter_power, quarters_of
from tosaic.wasm.operations.rescale import push_scaled

_INFINITY = float("inf")


def _direct(
    float: str = "", int32: str = "", int64: str = "", bool: str = "", rounds: bool = False
) -> Operation:
    """One operator on all arguments in order, by the kind of the first argument.

    `rounds` says that the result may not fit the element type: narrow floats are rounded, narrow integers wrap.
    """
    operators = {FLOAT: float, INT32: int32, INT64: int64, BOOL: bool}

    def operation(e: Emission, node: Operands) -> None:
        operator = operators[e.kind(node.arguments[0])]
        if not operator:
            raise unsupported(e, node)
        arity = 1 if operator in _UNARY else 2
        for argument in node.arguments[:arity]:
            e.push(argument)
        e.f.op(operator)
        if rounds:
            round_to(e.f, e.element(node.index))
            wrap(e.f, e.element(node.index))

    return operation


_UNARY = frozenset({"f32x4.abs", "i32x4.abs", "i64x2.abs", "f32x4.ceil", "f32x4.floor", "v128.not"})


def _comparison(name: str) -> Operation:
    """An i32 mask; 64-bit masks are shortened."""

    def operation(e: Emission, node: Operands) -> None:
        kind = e.kind(node.arguments[0])
        suffix = "" if kind == FLOAT or name == "eq" else "_s"
        for argument in node.arguments:
            e.push(argument)
        e.f.op({FLOAT: "f32x4", INT32: "i32x4", INT64: "i64x2", BOOL: "i32x4"}[kind] + f".{name}{suffix}")
        if kind == INT64:
            low_words(e.f)

    return operation


def _float_function(function: Callable[[Function], None]) -> Operation:
    def operation(e: Emission, node: Operands) -> None:
        e.push(node.arguments[0])
        function(e.f)
        round_to(e.f, e.element(node.index))

    return operation


def _exp(e: Emission, node: Operands) -> None:
    function = math.exp_of_no_positive if node.attributes.get("never_positive") else math.exp
    _float_function(function)(e, node)


def _mul(e: Emission, node: Operands) -> None:
    """Product; for i32 with a shift, the rounded high part (`apply_scale` without double rounding)."""
    first, second, *rest = node.arguments
    shift = e.constant(rest[0]) if rest else node.attributes.get("shift", 0)
    if shift is None:
        raise unsupported(e, node)
    if e.kind(first) == INT32 and shift:
        e.push(first)
        e.expect(second, 2 if e.lanes > 2 else 1)
        push_scaled(e.f, e.lanes, partial(e.push, second), int(shift))
        return
    e.push(first)
    e.push(second)
    e.f.op({FLOAT: "f32x4.mul", INT32: "i32x4.mul", INT64: "i64x2.mul"}[e.kind(first)])
    round_to(e.f, e.element(node.index))
    if e.element(first) == e.element(node.index):
        wrap(e.f, e.element(node.index))


def _negate(e: Emission, node: Operands) -> None:
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


def _minimum_maximum(maximum: bool) -> Operation:
    def operation(e: Emission, node: Operands) -> None:
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
            raise unsupported(e, node)

    return operation


def _float_minimum_maximum(e: Emission, first: int, second: int, maximum: bool, nan_mode: str) -> None:
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


def _clamp(e: Emission, node: Operands) -> None:
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
    if kind == INT64:
        _clamp_i64(e, first, int(low), int(high))
        return
    if kind != INT32:
        raise unsupported(e, node)
    bounds = INT_RANGES.get(e.element(first), (-(1 << 31), (1 << 31) - 1))
    e.push(first)
    for operator, bound, end in (("i32x4.max_s", low, bounds[0]), ("i32x4.min_s", high, bounds[1])):
        if bound != end:
            splat_i32(f, int(bound))
            f.op(operator)


def _clamp_i64(e: Emission, value: int, low: int, high: int) -> None:
    """By comparison: i64 lanes have no minimum and maximum."""
    f = e.f
    x = e.push_local(value)
    for bound, compare in ((low, "i64x2.gt_s"), (high, "i64x2.lt_s")):
        f.get(x)
        splat_i64(f, bound)
        f.get(x)
        splat_i64(f, bound)
        f.op(compare)
        f.op("v128.bitselect")
        f.set(x)
    f.get(x)
    f.release(x)


def _select(e: Emission, node: Operands) -> None:
    """By the bits of the mask; a zero on one side needs no operand of its own."""
    condition, first, second = node.arguments
    if _is_zero(e.constant(second)):
        chosen, operator = [first], "v128.and"
    elif _is_zero(e.constant(first)):
        chosen, operator = [second], "v128.andnot"
    else:
        chosen, operator = [first, second], "v128.bitselect"
    for argument in chosen:
        e.push(argument)
    e.push(condition)
    if e.kind(first) == INT64:
        widen_mask(e.f)
    e.f.op(operator)


def _is_zero(constant: float | None) -> bool:
    """Whether all bits are 0."""
    return constant is not None and constant == 0 and copysign(1, constant) > 0


def _reciprocal(e: Emission, node: Operands) -> None:
    splat_f32(e.f, 1.0)
    e.push(node.arguments[0])
    e.f.op("f32x4.div")
    round_to(e.f, e.element(node.index))


def _pow(e: Emission, node: Operands) -> None:
    """x**y; some constant exponents without a logarithm."""
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
    elif (quarters := quarters_of(constant)) is not None:
        if constant != 1:
            quarter_power(f, quarters, e.lanes)
    else:
        e.push(exponent)
        math_f64.pow(f, e.lanes)
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


def _identity(e: Emission, node: Operands) -> None:
    e.push(node.arguments[0])


ARITHMETIC: dict[str, Operation] = {
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
    "exp": _exp,
    "log": _float_function(math.log),
    "tanh": _float_function(math.tanh),
    "sigmoid": _float_function(math.sigmoid),
    "erf": _float_function(math.erf),
    "sin": _float_function(math_f64.sin),
    "cos": _float_function(math_f64.cos),
    "rsqrt": _float_function(math.rsqrt),
    "reciprocal": _reciprocal,
    "pow": _pow,
    "mul": _mul,
    "negate": _negate,
    "maximum": _minimum_maximum(maximum=True),
    "minimum": _minimum_maximum(maximum=False),
    "clamp": _clamp,
    "select": _select,
    "identity": _identity,
}
"""TOSA op -> how its value is pushed."""
