"""Elementwise arithmetic, comparisons, choices, and conversions of random values."""

from __future__ import annotations

import math

import numpy as np

from wasm.typed_programs.program import CASTS, DTYPES, EXACT, FLOATS, INTEGERS, MOST, TypedProgram


def arithmetic(p: TypedProgram) -> None:
    a = p.any(("i32", *FLOATS))
    b = p.partner(a)
    op = p.rng.choice(["add", "sub", "mul", "maximum", "minimum"])
    bound = {
        "mul": a.bound * b.bound,
        "maximum": max(a.bound, b.bound),
        "minimum": max(a.bound, b.bound),
    }.get(op, a.bound + b.bound)
    shape = np.broadcast_shapes(a.shape, b.shape)
    operands = [a, b] if p.rng.random() < 0.5 else [b, a]
    if bound <= EXACT[a.element] and math.prod(shape) <= MOST:
        p.emit(op, [*operands, *([p.zero("i8")] if op == "mul" else [])], shape, a.element, bound)


def scaled_product(p: TypedProgram) -> None:
    a = p.any(("i32",))
    b, shift = p.partner(a), p.rng.randint(1, 40)
    bound = (a.bound * b.bound >> shift) + 1
    shape = np.broadcast_shapes(a.shape, b.shape)
    if bound <= EXACT["i32"] and math.prod(shape) <= MOST:
        p.emit("mul", [a, b, p.zero("i8", shift)], shape, "i32", bound)


def bits(p: TypedProgram) -> None:
    a = p.any(INTEGERS)
    op = p.rng.choice(
        ["bitwise_and", "bitwise_or", "bitwise_xor", "logical_right_shift", "arithmetic_right_shift"]
    )
    if op.startswith("bitwise"):
        b = p.partner(a)
        p.emit(op, [a, b], np.broadcast_shapes(a.shape, b.shape), a.element, EXACT[a.element])
        return
    bits = {"i8": 8, "i16": 16, "i32": 32}[a.element]
    amounts = p.numbers([p.rng.choice([1, size]) for size in a.shape], bits - 1, least=1)
    rounds = f"round = {p.rng.choice(['true', 'false'])}" if op.startswith("arith") else ""
    p.emit(op, [a, p.const(amounts, a.element)], a.shape, a.element, EXACT[a.element], rounds)


def left_shift(p: TypedProgram) -> None:
    a = p.any(INTEGERS)
    room = (EXACT[a.element] // max(a.bound, 1)).bit_length() - 1
    if room > 0:
        amounts = p.numbers([p.rng.choice([1, size]) for size in a.shape], min(room, 7), least=0)
        b = p.const(amounts, a.element)
        p.emit("logical_left_shift", [a, b], a.shape, a.element, a.bound << b.bound)


def divide(p: TypedProgram) -> None:
    a = p.any(("i32",))
    b = p.numbers([p.rng.choice([1, size]) for size in a.shape], 9, least=1) * p.rng.choice([-1, 1, 37])
    p.emit("intdiv", [a, p.const(b, "i32")], a.shape, "i32", a.bound)


def unary(p: TypedProgram) -> None:
    op = p.rng.choice(
        ["abs", "negate", "clz", "bitwise_not", "logical_not", "floor", "ceil", "identity", "clamp"]
    )
    kinds = {"abs": ("i32", *FLOATS), "negate": (*INTEGERS, *FLOATS), "clz": ("i32",), "bitwise_not": INTEGERS,
             "logical_not": ("i1",), "floor": FLOATS, "ceil": FLOATS, "clamp": ("i8", "i16", *FLOATS)}  # fmt: skip
    a = p.any(kinds.get(op, tuple(DTYPES)))
    if op == "clamp":
        p.below(a, p.rng.randint(1, max(a.bound - 1, 1)))
    elif op == "negate":
        zeros = [p.zero(a.element, p.rng.randint(-5, 5) if a.element == "i8" else 0) for _ in range(2)]
        p.emit(op, [a, *zeros], a.shape, a.element, EXACT["i8"] if a.element == "i8" else a.bound)
    else:
        p.emit(op, [a], a.shape, a.element, {"clz": 32, "bitwise_not": a.bound + 1}.get(op, a.bound))


def compare(p: TypedProgram) -> None:
    a = p.any(("i32", *FLOATS))
    b = p.partner(a)
    op = p.rng.choice(["equal", "greater", "greater_equal"])
    p.emit(op, [a, b], np.broadcast_shapes(a.shape, b.shape), "i1", 1)


def logical(p: TypedProgram) -> None:
    a = p.any(("i1",))
    b = p.partner(a)
    op = p.rng.choice(["logical_and", "logical_or", "logical_xor"])
    p.emit(op, [a, b], np.broadcast_shapes(a.shape, b.shape), "i1", 1)


def select(p: TypedProgram) -> None:
    a = p.any()
    b = p.partner(a)
    shape = np.broadcast_shapes(a.shape, b.shape)
    conditions = [c for c in p.values if c.element == "i1" and len(c.shape) == len(shape)]
    fitting = [c for c in conditions if all(m in (1, n) for m, n in zip(c.shape, shape))]
    condition = p.rng.choice(
        fitting or [p.const(p.numbers([p.rng.choice([1, n]) for n in shape], 1, least=0), "i1")]
    )
    p.emit("select", [condition, a, b], shape, a.element, max(a.bound, b.bound))


def cast(p: TypedProgram) -> None:
    a = p.any()
    target = p.rng.choice(CASTS[a.element])
    if target in FLOATS:
        a = p.below(a, EXACT[target])
    p.emit(
        "cast",
        [a],
        a.shape,
        target,
        min(EXACT[target], max(a.bound, 1)) if target in FLOATS else EXACT[target],
    )


def rescale(p: TypedProgram) -> None:
    a = p.any((*INTEGERS, "i48"))
    target = p.rng.choice(INTEGERS)
    per_channel = p.rng.random() < 0.4
    scale32 = a.element != "i48" and p.rng.random() < 0.7
    channels = a.shape[-1] if per_channel else 1
    bits = 31 if scale32 else 15
    multipliers = p.numbers([channels], 2**bits - 1, least=2 ** (bits - 1))
    least = max(a.bound + 128, 1).bit_length() + bits - 31
    shifts = p.numbers([channels], 62 if scale32 else 45, least=max(least, bits - 8, 2))
    zeros = [p.zero(e, p.rng.randint(-20, 20) if e == "i8" else 0) for e in (a.element, target)]
    rounding = (
        p.rng.choice(["SINGLE_ROUND", "DOUBLE_ROUND"]) if scale32 and (shifts > 31).all() else "SINGLE_ROUND"
    )
    flags = f"rounding_mode = {rounding}, scale32 = {str(scale32).lower()}, per_channel = {str(per_channel).lower()}"
    operands = [
        a,
        p.const(multipliers, "i32" if scale32 else "i16"),
        p.const(shifts, "i8"),
        *zeros,
    ]
    bound = max(int(((a.bound + 128) * multipliers.astype(object) >> shifts.astype(object)).max()) + 22, 1)
    p.emit(
        "rescale", operands, a.shape, target, min(bound, EXACT[target]),
        f"{flags}, input_unsigned = false, output_unsigned = false",
    )  # fmt: skip


def table(p: TypedProgram) -> None:
    a = p.any(("i8", "i16"))
    entries = p.numbers([256 if a.element == "i8" else 513], 100)
    result, bound = ("i8", 100) if a.element == "i8" else ("i32", 100 << 8)
    p.emit("table", [a, p.const(entries, a.element)], a.shape, result, bound)


def functions(p: TypedProgram) -> None:
    """Elementary functions where their results are whole: tanh and erf far from zero, steps of a sigmoid."""
    x = p.any(FLOATS)
    x = p.below(x, min(EXACT[x.element] // 64 - 1, 15))
    constants = {value: p.const(np.full([1] * len(x.shape), value), x.element) for value in (0.5, 16, 32)}
    match p.rng.choice(["tanh", "erf", "sigmoid"]):
        case "sigmoid":
            steep = p.unread("mul", [x, constants[32], p.zero("i8")], x.shape, x.element, x.bound * 32)
            moved = p.unread("add", [steep, constants[16]], x.shape, x.element, x.bound * 32 + 16)
            step = p.unread("sigmoid", [moved], x.shape, x.element, 1)
            above = p.unread("add", [step, constants[0.5]], x.shape, x.element, 2)
            p.emit("floor", [above], x.shape, x.element, 1)
        case op:
            steep = p.unread("mul", [x, constants[32], p.zero("i8")], x.shape, x.element, x.bound * 32)
            p.emit(op, [steep], x.shape, x.element, 1)
