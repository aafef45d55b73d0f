"""Expressions on vectors of lanes against numpy, for every op and element type they take."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.expression import emit
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES, Expression
from tosaic.wasm.lanes import load_lanes, store_lanes
from wasm.harness import DTYPES, Machine

PRICES = PriceList.load()


def evaluate(expression: Expression, arrays: Sequence[tuple[str, np.ndarray]], lanes: int) -> np.ndarray:
    """Compute an expression over flat arrays of the same length, `lanes` elements at a time."""
    count = arrays[0][1].size
    assert count % lanes == 0
    offsets, size = [], 0
    for element, array in arrays:
        offsets.append(size)
        size += -(-array.size * ELEMENT_BYTES[element] // 16) * 16
    output, result = size, expression.elements[-1]
    f = Function("run", PRICES)
    index = f.local("i32")
    f.i32(0)
    f.set(index)
    with f.loop(count // lanes):

        def address(element: str) -> None:
            f.get(index)
            f.i32(ELEMENT_BYTES[element])
            f.op("i32.mul")

        def load(k: int) -> None:
            element = arrays[k][0]
            load_lanes(f, element, lanes, lambda: address(element), offsets[k])

        store_lanes(
            f, result, lanes, lambda: address(result), lambda: emit(f, expression, lanes, load), output
        )
        f.add_to(index, lanes)
        f.get(index)
        f.i32(count)
        f.op("i32.ne")
        f.op("br_if", b"\0")
    total = count * ELEMENT_BYTES[result]
    machine = Machine.load(f, output + total + 16)
    for (_, array), offset in zip(arrays, offsets):
        raw = np.frombuffer(array.tobytes(), np.uint8)
        machine.memory[offset : offset + raw.size] = raw
    machine.call()
    assert not machine.memory[output + total :].any()
    return machine.memory[output : output + total].view(DTYPES[result]).copy()


def one_op(
    op: str, inputs: Sequence[str], result: str, constants: Sequence[tuple] = (), **attributes
) -> Expression:
    """An expression of one op on inputs, then constants (value, element)."""
    nodes = [("input", (k,), ()) for k in range(len(inputs))]
    nodes += [("constant", (), (("value", value),)) for value, _ in constants]
    elements = (*inputs, *(element for _, element in constants), result)
    return Expression((*nodes, (op, tuple(range(len(nodes))), tuple(attributes.items()))), elements)


def floats(count: int = 64, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 3, count).astype(np.float32)
    values[:8] = [0, -0.0, np.inf, -np.inf, np.nan, 2.5, -2.5, 1e-40]
    return rng.permutation(values)


def integers(dtype: str, count: int = 64, seed: int = 2) -> np.ndarray:
    info = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(info.min, info.max, count, dtype, endpoint=True)
    values[:4] = [info.min, info.max, 0, -1]
    return values


FLOAT_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
INT_BINARY = {
    **FLOAT_BINARY,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}
COMPARISONS = {"equal": np.equal, "greater": np.greater, "greater_equal": np.greater_equal}


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("op", FLOAT_BINARY)
def test_binary_float(op: str, lanes: int) -> None:
    a, b = floats(seed=1), floats(seed=2)
    found = evaluate(one_op(op, ("f32", "f32"), "f32"), [("f32", a), ("f32", b)], lanes)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, FLOAT_BINARY[op](a, b))


@pytest.mark.parametrize("element", ["f16", "bf16"])
@pytest.mark.parametrize("op", FLOAT_BINARY)
def test_narrow_floats_round_after_each_op(op: str, element: str) -> None:
    dtype = DTYPES[element]
    with np.errstate(all="ignore"):
        a, b = ((floats(256, seed) * 1000).astype(dtype) for seed in (3, 4))
        found = evaluate(one_op(op, (element,) * 2, element), [(element, a), (element, b)], 4)
        expected = FLOAT_BINARY[op](a.astype(np.float32), b.astype(np.float32)).astype(dtype)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize(("element", "lanes"), [("i32", 1), ("i32", 2), ("i32", 4), ("i64", 1), ("i64", 2)])
@pytest.mark.parametrize("op", INT_BINARY)
def test_binary_integer(op: str, element: str, lanes: int) -> None:
    a, b = (integers(DTYPES[element], seed=seed) for seed in (5, 6))
    found = evaluate(one_op(op, (element,) * 2, element), [(element, a), (element, b)], lanes)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, INT_BINARY[op](a, b))


@pytest.mark.parametrize(("element", "lanes"), [("f32", 4), ("i32", 4), ("i8", 4), ("i64", 2), ("bf16", 2)])
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparison(op: str, element: str, lanes: int) -> None:
    rng = np.random.default_rng(9)
    a, b = (rng.integers(-3, 3, 64).astype(DTYPES[element]) for _ in range(2))
    found = evaluate(one_op(op, (element,) * 2, "i1"), [(element, a), (element, b)], lanes)
    np.testing.assert_array_equal(found, COMPARISONS[op](a.astype(np.float64), b.astype(np.float64)))


@pytest.mark.parametrize("element", ["f32", "i32", "i8", "i64", "i1", "f16"])
def test_select(element: str) -> None:
    rng = np.random.default_rng(10)
    lanes = 2 if element == "i64" else 4
    condition = rng.integers(0, 2, 64).astype(bool)
    a, b = (rng.integers(0, 100, 64).astype(DTYPES[element]) for _ in range(2))
    expression = one_op("select", ("i1", element, element), element)
    found = evaluate(expression, [("i1", condition), (element, a), (element, b)], lanes)
    np.testing.assert_array_equal(found, np.where(condition, a, b))


@pytest.mark.parametrize("zero_first", [False, True])
@pytest.mark.parametrize(
    ("element", "zero"), [("f32", 0.0), ("f32", -0.0), ("i32", 0), ("i64", 0), ("i1", 0)]
)
def test_select_of_zero(element: str, zero: float, zero_first: bool) -> None:
    rng = np.random.default_rng(11)
    condition = rng.integers(0, 2, 64).astype(bool)
    other = rng.integers(0, 2 if element == "i1" else 100, 64).astype(DTYPES[element])
    nodes = (("input", (0,), ()), ("input", (1,), ()), ("constant", (), (("value", zero),)))
    choice = ("select", (0, 2, 1) if zero_first else (0, 1, 2), ())
    expression = Expression((*nodes, choice), ("i1", *(element,) * 3))
    found = evaluate(expression, [("i1", condition), (element, other)], 2 if element == "i64" else 4)
    expected = np.where(condition != zero_first, other, np.array(zero, DTYPES[element]))
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("op", ["logical_and", "logical_or", "logical_xor", "logical_not"])
def test_logical(op: str) -> None:
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    operands = [("i1", a)] if op == "logical_not" else [("i1", a), ("i1", b)]
    found = evaluate(one_op(op, ("i1",) * len(operands), "i1"), operands, 4)
    np.testing.assert_array_equal(found, getattr(np, op)(*(array for _, array in operands)))


@pytest.mark.parametrize(
    ("op", "numpy_op"),
    [
        ("abs", np.abs),
        ("ceil", np.ceil),
        ("floor", np.floor),
        ("negate", np.negative),
        ("reciprocal", np.reciprocal),
    ],
)
def test_unary_float(op: str, numpy_op) -> None:
    x = floats()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(evaluate(one_op(op, ("f32",), "f32"), [("f32", x)], 4), numpy_op(x))


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (-np.inf, 2.0), (0.0, np.inf)])
def test_clamp_keeps_nan(low: float, high: float) -> None:
    x = floats()
    found = evaluate(one_op("clamp", ("f32",), "f32", min_val=low, max_val=high), [("f32", x)], 4)
    np.testing.assert_array_equal(found, np.clip(x, low, high))


def test_clamp_that_ignores_nan() -> None:
    x = np.array([np.nan, -1, 0.5, 7], np.float32)
    expression = one_op("clamp", ("f32",), "f32", min_val=0.0, max_val=6.0, nan_mode="IGNORE")
    np.testing.assert_array_equal(evaluate(expression, [("f32", x)], 4), [0, 0, 0.5, 6])


@pytest.mark.parametrize("op", ["maximum", "minimum"])
@pytest.mark.parametrize("constant", [None, 1.0])
def test_maximum_that_ignores_nan(op: str, constant: float | None) -> None:
    a, b = floats(seed=11), floats(seed=12)
    if constant is None:
        expression, operands = one_op(op, ("f32", "f32"), "f32", nan_mode="IGNORE"), [("f32", a), ("f32", b)]
    else:
        b = np.full_like(a, constant)
        expression = one_op(op, ("f32",), "f32", [(constant, "f32")], nan_mode="IGNORE")
        operands = [("f32", a)]
    expected = {"maximum": np.fmax, "minimum": np.fmin}[op](a, b)
    np.testing.assert_array_equal(evaluate(expression, operands, 4), expected)


@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_maximum_with_a_constant_keeps_nan(op: str) -> None:
    x = floats()
    found = evaluate(one_op(op, ("f32",), "f32", [(1.0, "f32")]), [("f32", x)], 4)
    np.testing.assert_array_equal(found, getattr(np, op)(x, np.float32(1)))


@pytest.mark.parametrize("exponent", [2.0, 3.0, -1.0, 0.5, 1.0, 1.7, -0.75])
def test_power_with_a_constant_exponent(exponent: float) -> None:
    x = floats()
    found = evaluate(one_op("pow", ("f32",), "f32", [(exponent, "f32")]), [("f32", x)], 4)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), exponent).astype(np.float32)
    np.testing.assert_allclose(found, exact, rtol=3e-7)


SHIFTS = {
    "logical_left_shift": lambda x, s: np.left_shift(x, s),
    "logical_right_shift": lambda x, s: np.right_shift(
        x.view(f"u{x.itemsize}"), s.view(f"u{s.itemsize}")
    ).view(x.dtype),
    "arithmetic_right_shift": lambda x, s: np.right_shift(x, s),
}


@pytest.mark.parametrize("element", ["i8", "i16", "i32"])
@pytest.mark.parametrize("op", SHIFTS)
def test_shift_by_lanes_and_by_a_constant(op: str, element: str) -> None:
    x = integers(DTYPES[element])
    amounts = np.arange(64).astype(x.dtype) % (8 * x.itemsize)
    found = evaluate(one_op(op, (element,) * 2, element), [(element, x), (element, amounts)], 4)
    np.testing.assert_array_equal(found, SHIFTS[op](x, amounts))
    found = evaluate(one_op(op, (element,), element, [(3, element)]), [(element, x)], 4)
    np.testing.assert_array_equal(found, SHIFTS[op](x, np.full_like(x, 3)))


@pytest.mark.parametrize("op", SHIFTS)
def test_shift_of_i64(op: str) -> None:
    x, amounts = integers(np.int64), np.arange(64, dtype=np.int64)
    found = evaluate(one_op(op, ("i64", "i64"), "i64"), [("i64", x), ("i64", amounts)], 2)
    np.testing.assert_array_equal(found, SHIFTS[op](x, amounts))
    found = evaluate(one_op(op, ("i64",), "i64", [(37, "i64")]), [("i64", x)], 2)
    np.testing.assert_array_equal(found, SHIFTS[op](x, np.full_like(x, 37)))


def test_division_of_i64() -> None:
    a, b = integers(np.int64, seed=13), integers(np.int64, seed=14) >> 40
    b[:6] = [-1, 1, -1, 7, 0, -7]
    found = evaluate(one_op("intdiv", ("i64", "i64"), "i64"), [("i64", a), ("i64", b)], 2)
    safe = (b != 0) & ~((a == np.iinfo(np.int64).min) & (b == -1))
    expected = [
        abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        for x, y in zip(a[safe].tolist(), b[safe].tolist())
    ]
    np.testing.assert_array_equal(found[safe], expected)


def test_clamp_of_i64() -> None:
    x = integers(np.int64)
    bounds = {"min_val": -(1 << 40), "max_val": 1 << 50}
    found = evaluate(one_op("clamp", ("i64",), "i64", **bounds), [("i64", x)], 2)
    np.testing.assert_array_equal(found, np.clip(x, *bounds.values()))


def test_arithmetic_shift_of_i64_with_rounding() -> None:
    x, amounts = integers(np.int64), np.arange(64, dtype=np.int64)
    last_out = np.where(amounts > 0, x >> np.maximum(amounts - 1, 0) & 1, 0)
    op = one_op("arithmetic_right_shift", ("i64", "i64"), "i64", round=True)
    found = evaluate(op, [("i64", x), ("i64", amounts)], 2)
    np.testing.assert_array_equal(found, (x >> amounts) + last_out)
    op = one_op("arithmetic_right_shift", ("i64",), "i64", [(37, "i64")], round=True)
    np.testing.assert_array_equal(evaluate(op, [("i64", x)], 2), (x >> 37) + (x >> 36 & 1))


def test_leading_zeros_of_i64() -> None:
    x = integers(np.int64) >> np.arange(64)
    expected = [64 - value.bit_length() if value >= 0 else 0 for value in x.tolist()]
    np.testing.assert_array_equal(evaluate(one_op("clz", ("i64",), "i64"), [("i64", x)], 2), expected)


def test_arithmetic_shift_with_rounding() -> None:
    x, amounts = integers(np.int32), (np.arange(64) % 32).astype(np.int32)
    wide = x.astype(np.int64)
    expected = np.where(
        amounts > 0, (wide + (1 << np.maximum(amounts, 1).astype(np.int64) - 1)) >> amounts, wide
    )
    found = evaluate(
        one_op("arithmetic_right_shift", ("i32", "i32"), "i32", round=True), [("i32", x), ("i32", amounts)], 4
    )
    np.testing.assert_array_equal(found, expected.astype(np.int32))
    found = evaluate(
        one_op("arithmetic_right_shift", ("i32",), "i32", [(5, "i32")], round=True), [("i32", x)], 4
    )
    np.testing.assert_array_equal(found, ((wide + 16) >> 5).astype(np.int32))


def test_leading_zeros() -> None:
    x = integers(np.int32)
    expected = [32 - int(v & 0xFFFFFFFF).bit_length() for v in x.tolist()]
    np.testing.assert_array_equal(evaluate(one_op("clz", ("i32",), "i32"), [("i32", x)], 4), expected)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_integer_division_rounds_towards_zero(lanes: int) -> None:
    a, b = integers(np.int32, seed=13), np.random.default_rng(14).integers(1, 1000, 64).astype(np.int32)
    b *= np.where(np.arange(64) % 2, 1, -1).astype(np.int32)
    found = evaluate(one_op("intdiv", ("i32", "i32"), "i32"), [("i32", a), ("i32", b)], lanes)
    keep = ~((a == np.iinfo(np.int32).min) & (b == -1))
    np.testing.assert_array_equal(found[keep], np.trunc(a / b).astype(np.int64)[keep])


def test_multiplication_with_shift() -> None:
    a, b = integers(np.int32, seed=15) >> 8, integers(np.int32, seed=16) >> 8
    found = evaluate(one_op("mul", ("i32", "i32"), "i32", [(20, "i8")]), [("i32", a), ("i32", b)], 4)
    product = a.astype(np.int64) * b
    np.testing.assert_array_equal(found, ((product + (1 << 19)) >> 20).astype(np.int32))


CASTS = [
    (source, target)
    for source in ("i1", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f8E4M3FN", "f8E5M2")
    for target in ("i1", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f8E4M3FN", "f8E5M2")
    if source != target
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_cast(source: str, target: str) -> None:
    """Values that both sides can hold, ties and overflow of narrow integers included."""
    rng = np.random.default_rng(17)
    values = np.concatenate([rng.integers(-500, 500, 120), [0, 1, -1, 126, -128, 300, -300, 2]]).astype(
        np.float64
    )
    if source.startswith(("f", "b")):
        values += rng.integers(0, 4, 128) / 4
    x = values.astype(np.int64).astype(DTYPES[source]) if source[0] == "i" else values.astype(DTYPES[source])
    lanes = 2 if "i64" in (source, target) else 4
    found = evaluate(one_op("cast", (source,), target), [(source, x)], lanes)
    if target == "i1" or target[0] != "i" or source[0] == "i":
        expected = (
            x.astype(DTYPES[target]) if source[0] == "i" else x.astype(np.float32).astype(DTYPES[target])
        )
    else:
        info = np.iinfo(DTYPES[target])
        wide = np.rint(x.astype(np.float64))
        expected = np.clip(np.where(np.isnan(wide), 0, wide), info.min, info.max).astype(DTYPES[target])
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))


@pytest.mark.parametrize("element", ["f16", "bf16", "f8E4M3FN", "f8E5M2"])
def test_every_value_of_a_narrow_float_is_read_and_written(element: str) -> None:
    bytes_ = ELEMENT_BYTES[element]
    bits = np.arange(1 << 8 * bytes_, dtype=f"u{bytes_}")
    x = bits.view(DTYPES[element])
    widened = evaluate(one_op("cast", (element,), "f32"), [(element, x)], 4)
    np.testing.assert_array_equal(widened, x.astype(np.float32))
    narrowed = evaluate(one_op("cast", ("f32",), element), [("f32", widened)], 4)
    number = ~np.isnan(widened)
    np.testing.assert_array_equal(narrowed.view(bits.dtype)[number], bits[number])
    assert np.isnan(narrowed[~number].astype(np.float32)).all()


@pytest.mark.parametrize("element", ["f16", "bf16", "f8E5M2"])
def test_rounding_to_a_narrow_float(element: str) -> None:
    bits = np.random.default_rng(18).integers(0, 1 << 32, 1 << 16, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    with np.errstate(all="ignore"):
        expected = x.astype(DTYPES[element]).astype(np.float32)
    found = evaluate(one_op("cast", ("f32",), element), [("f32", x)], 4)
    np.testing.assert_array_equal(found.astype(np.float32), expected)


def rescaled(x, multiplier, shift, input_zp, output_zp, low, high, double_round=False):
    """TOSA apply_scale_32 in Python integers."""
    out = []
    for value, m, s in zip(x.tolist(), multiplier.tolist(), shift.tolist()):
        value -= input_zp
        rounding = 1 << (s - 1)
        if double_round and s > 31:
            rounding += 1 << 30 if value >= 0 else -(1 << 30)
        out.append(min(max(((value * m + rounding) >> s) + output_zp, low), high))
    return np.array(out)


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("shift", [20, 31, 32, 38])
@pytest.mark.parametrize("rounding_mode", ["SINGLE_ROUND", "DOUBLE_ROUND"])
def test_rescale(shift: int, rounding_mode: str, lanes: int) -> None:
    rng = np.random.default_rng(19)
    x = rng.integers(-(1 << 20), 1 << 20, 64).astype(np.int32)
    if shift == 20:
        x >>= 12
    multiplier = 1_234_567_890
    constants = [(multiplier, "i32"), (shift, "i8"), (0, "i32"), (-3, "i8")]
    expression = one_op("rescale", ("i32",), "i8", constants, scale32=True, rounding_mode=rounding_mode)
    found = evaluate(expression, [("i32", x)], lanes)
    full = [np.full(64, multiplier), np.full(64, shift)]
    expected = rescaled(x, *full, 0, -3, -128, 127, rounding_mode == "DOUBLE_ROUND")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rounding_mode", ["SINGLE_ROUND", "DOUBLE_ROUND"])
def test_rescale_per_channel(rounding_mode: str) -> None:
    rng = np.random.default_rng(20)
    x = rng.integers(-(1 << 20), 1 << 20, 64).astype(np.int32)
    multiplier = rng.integers(1 << 30, 1 << 31, 64).astype(np.int32)
    shift = rng.integers(25, 45, 64).astype(np.int8)
    nodes = [("input", (k,), ()) for k in range(3)]
    nodes += [("constant", (), (("value", 0),)), ("constant", (), (("value", 5),))]
    attributes = (("scale32", True), ("rounding_mode", rounding_mode), ("per_channel", True))
    expression = Expression(
        (*nodes, ("rescale", (0, 1, 2, 3, 4), attributes)), ("i32", "i32", "i8", "i32", "i16", "i16")
    )
    found = evaluate(expression, [("i32", x), ("i32", multiplier), ("i8", shift)], 4)
    expected = rescaled(x, multiplier, shift, 0, 5, -32768, 32767, rounding_mode == "DOUBLE_ROUND")
    np.testing.assert_array_equal(found, expected)


def test_rescale_between_unsigned_types() -> None:
    x = np.arange(256, dtype=np.uint8)
    constants = [(1 << 30, "i32"), (30, "i8"), (-128, "i8"), (-56, "i8")]  # zero points 128 and 200
    expression = one_op(
        "rescale", ("i8",), "i8", constants, scale32=True, input_unsigned=True, output_unsigned=True
    )
    found = evaluate(expression, [("i8", x.view(np.int8))], 4).view(np.uint8)
    np.testing.assert_array_equal(found, np.clip(x.astype(int) - 128 + 200, 0, 255))


def test_rescale_of_48_bit_values() -> None:
    x = np.random.default_rng(21).integers(-(1 << 40), 1 << 40, 64)
    constants = [(20000, "i16"), (30, "i8"), (0, "i48"), (0, "i16")]
    found = evaluate(one_op("rescale", ("i48",), "i16", constants, scale32=False), [("i48", x)], 2)
    expected = rescaled(x, np.full(64, 20000), np.full(64, 30), 0, 0, -32768, 32767)
    np.testing.assert_array_equal(found, expected)


def test_a_value_used_several_times_is_computed_once() -> None:
    """x * sigmoid(x) + x reads its input once."""
    nodes = (("input", (0,), ()), ("sigmoid", (0,), ()), ("mul", (0, 1), ()), ("add", (2, 0), ()))
    loads = []
    f = Function("f", PRICES, params=("i32",), results=("v128",))
    expression = Expression(nodes, ("f32",) * 4)
    emit(f, expression, 4, lambda k: (loads.append(k), load_lanes(f, "f32", 4, lambda: f.get(0))))
    assert loads == [0]
    x = np.linspace(-5, 5, 64, dtype=np.float32)
    wide = x.astype(np.float64)
    found = evaluate(expression, [("f32", x)], 4)
    np.testing.assert_allclose(found, wide / (1 + np.exp(-wide)) + wide, rtol=1e-6, atol=1e-6)


def test_an_unknown_op_is_refused() -> None:
    with pytest.raises(TosaicError, match=r"tosa\.fft2d cannot be computed element by element"):
        evaluate(one_op("fft2d", ("f32",), "f32"), [("f32", floats())], 4)


def test_bfloat16_storage_matches_ml_dtypes() -> None:
    x = floats().astype(ml_dtypes.bfloat16)
    found = evaluate(one_op("identity", ("bf16",), "bf16"), [("bf16", x)], 4)
    np.testing.assert_array_equal(found.view(np.uint16), x.view(np.uint16))
