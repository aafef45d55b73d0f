"""Arithmetic, comparison, logic and casts against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_model
from single_node import check, lower, node_model

X = np.array([[-7.5, -2.5, -1.0, -0.0], [0.0, 0.5, 1.5, 300.0]], np.float32)
POSITIVE = np.array([0.0, 1e-30, 0.25, 2.0, 1e30, np.inf], np.float32)
ROW = np.array([2.0, -3.0, 0.5, 4.0], np.float32)


@pytest.mark.parametrize(
    "op", ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Neg", "Round", "Sign", "Sin", "Tan"]
)
def test_unary(op: str) -> None:
    check(op, {"x": X[:, :3]}, rtol=1e-4)


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal"])
def test_unary_of_zero_and_infinity(op: str) -> None:
    check(op, {"x": POSITIVE})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum"])
def test_binary_broadcasts(op: str) -> None:
    check(op, {"a": X, "b": ROW})


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8"])
def test_integer_division_truncates(dtype: str) -> None:
    a = np.array([7, 100, 127, 6], dtype)
    b = np.array([2, 3, 5, 7], dtype)
    check("Div", {"a": a, "b": b}, opset=14)


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_unsigned_division_of_large_numbers(dtype: str, op: str) -> None:
    numbers = np.array([0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**31 + 5, 2**32 - 2, 2**32 - 1], dtype)
    check(op, {"a": numbers.reshape(-1, 1), "b": numbers[1:]}, opset=14)


def test_negative_integer_division_truncates_towards_zero() -> None:
    check("Div", {"a": np.array([-7, 7, -6], np.int32), "b": np.array([2, -2, 4], np.int32)})


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_integers_wrap_around(dtype: str) -> None:
    a = np.array([250, 5, 17], dtype)
    check("Add", {"a": a, "b": np.array([10, 250, 3], dtype)}, opset=14)


@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_of_integers_takes_the_sign(fmod: int) -> None:
    a = np.array([-7, 7, -7, 7, 6], np.int32)
    check("Mod", {"a": a, "b": np.array([3, -3, -3, 3, 3], np.int32)}, fmod=fmod)


def test_mod_of_floats_takes_the_sign_of_the_dividend() -> None:
    a = np.array([-4.3, 7.2, 5.0, 0.9], np.float32)
    check("Mod", {"a": a, "b": np.array([2.1, -3.4, 8.0, 0.3], np.float32)}, fmod=1)


@pytest.mark.parametrize("exponent", [-2.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 0.3])
def test_power_with_constant_exponent(exponent: float) -> None:
    base = np.array([0.1, 1.0, 2.5, 40.0], np.float32)
    check("Pow", {"a": base, "b": np.array(exponent, np.float32)}, constants=["b"])


def test_power_of_negative_base_keeps_the_sign() -> None:
    base = np.array([-2.0, -2.0, -3.0, 3.0], np.float32)
    check("Pow", {"a": base, "b": np.array([2.0, 3.0, 0.0, 2.5], np.float32)}, rtol=1e-4)


def test_power_of_integers() -> None:
    check("Pow", {"a": np.array([2, -3, 7, 5], np.int32), "b": np.array([10, 3, 0, 1], np.int32)})


@pytest.mark.parametrize("op", ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
def test_comparison_broadcasts(op: str) -> None:
    check(op, {"a": X, "b": np.array([[0.0], [0.5]], np.float32)}, opset=16)


def test_comparison_of_unsigned_bytes() -> None:
    check("Greater", {"a": np.array([200, 3], np.uint8), "b": np.array([100, 250], np.uint8)})


def test_comparison_of_uint32_uses_the_highest_bit() -> None:
    check("Less", {"a": np.array([1 << 31, 3], np.uint32), "b": np.array([5, 7], np.uint32)})


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic(op: str) -> None:
    check(op, {"a": np.array([[True], [False]]), "b": np.array([True, False])})


def test_not() -> None:
    check("Not", {"x": np.array([True, False])})


def test_where_broadcasts_the_condition() -> None:
    check("Where", {"c": np.array([True, False, True, False]), "a": X, "b": ROW})


def test_nan_and_infinity_are_found() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    check("IsNaN", {"x": x})
    check("IsInf", {"x": x})
    check("IsInf", {"x": x}, detect_negative=0)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bit_shift_of_bytes(direction: str) -> None:
    amounts = np.array([1, 3, 7], np.uint8)
    check("BitShift", {"x": np.array([200, 3, 255], np.uint8), "n": amounts}, direction=direction)


def test_modulo_of_great_integers() -> None:
    a, b = np.array([2**31 - 2, 1 - 2**31], np.int32), np.array([2**31 - 1, 1 - 2**31], np.int32)
    check("Mod", {"a": a, "b": b[:1]})
    check("Mod", {"a": a, "b": b})


def test_bit_shift_of_a_scalar() -> None:
    check("BitShift", {"x": np.array(5, np.uint32), "n": np.array(2, np.uint32)}, direction="LEFT")


CASTS = [
    ("float32", "int32", [-2.7, -0.5, 1.9, 300.0]),
    ("float32", "int64", [-2.7, -0.5, 1.9, 300.0]),
    ("float32", "uint8", [0.0, 1.5, 200.9, 255.0]),
    ("float32", "bool", [0.0, -0.0, 0.1, -3.0]),
    ("float32", "float16", [0.1, 1000.3, -2.0, 65504.0]),
    ("float64", "float32", [0.1, 2.0, -3.0, 1e30]),
    ("bool", "float32", [True, False, True, True]),
    ("bool", "int64", [True, False, True, True]),
    ("int64", "float32", [-5, 0, 7, 1 << 20]),
    ("int32", "uint8", [0, 1, 255, 300]),
    ("int32", "int8", [-129, -1, 127, 200]),
    ("uint8", "float32", [0, 127, 128, 255]),
    ("uint8", "int32", [0, 127, 128, 255]),
    ("uint8", "int8", [0, 127, 128, 255]),
    ("uint16", "float32", [0, 1, 40000, 65535]),
    ("uint32", "float32", [0, 1, 1 << 31, (1 << 32) - 256]),
    ("int32", "bool", [0, 1, -1, 256]),
]


@pytest.mark.parametrize(("source", "target", "values"), CASTS, ids=[f"{a}-{b}" for a, b, _ in CASTS])
def test_cast(source: str, target: str, values: list) -> None:
    import onnx

    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(target))
    check("Cast", {"x": np.array(values, source)}, to=to)


EXAMPLES = max(4, settings.default.max_examples // 20)
LEGACY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


@pytest.mark.parametrize("op", LEGACY)
@given(st.data())
@settings(max_examples=EXAMPLES)
def test_broadcasting_before_opset_7(op: str, data: st.DataObject) -> None:
    """The second operand's dimensions stand under the first's from `axis` on; onnxruntime starts at opset 7."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.integers(1, len(shape) - axis))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    a, b = (rng.uniform(1, 2, size).astype(np.float32) for size in (shape, shape[axis : axis + count]))
    given_axis = {} if axis + count == len(shape) and data.draw(st.booleans()) else {"axis": axis}
    model = node_model(op, {"a": a, "b": b}, opset=6, broadcast=1, **given_axis)
    (actual,) = reference_model.run(lower(model), [a, b])
    wanted = LEGACY[op](a, b.reshape(*b.shape, *[1] * (len(shape) - axis - count)))
    np.testing.assert_allclose(actual, wanted, rtol=1e-6)
