"""Casts between all dtypes on Arm's reference model, against numpy and ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import reference_model
from single_node import lower

NAMES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 int2 uint2 int4 uint4 float16 bfloat16 float32 float64 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float4_e2m1fn"
).split()
DTYPES = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in (*NAMES, "float8_e8m0fnu")}
VALUES = [0, 1, 2, 3, 0.5, 1.5, 6, 7, 4]
NARROW = {"int2": (-2, 1), "uint2": (0, 3), "float4_e2m1fn": (-6, 6)}
RNG = np.random.default_rng(1)


def casts(x: np.ndarray, targets: list[str], opset: int = 25, **attributes: object) -> dict[str, np.ndarray]:
    """x cast to each of the dtypes, by one program."""
    codes = {name: helper.np_dtype_to_tensor_dtype(DTYPES[name]) for name in targets}
    nodes = [helper.make_node("Cast", ["x"], [name], to=code, **attributes) for name, code in codes.items()]
    graph = helper.make_graph(
        nodes,
        "casts",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(name, code, x.shape) for name, code in codes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=12)
    return dict(zip(targets, reference_model.run(lower(model), [x])))


def numbers(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def expected(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """By the way of f64, in which all those numbers are exact; to integers truncated, and wrapped around."""
    wide = x.astype(np.float64)
    if dtype == np.bool_:
        return wide != 0
    if "float" in dtype.name:
        info = ml_dtypes.finfo(dtype)
        return np.clip(wide, float(info.min), float(info.max)).astype(dtype)
    return np.trunc(wide).astype(np.int64).astype(dtype)


@pytest.mark.parametrize("source", NAMES)
def test_from_every_dtype_to_every_other(source: str) -> None:
    low, high = NARROW.get(source, (-8, 7))
    x = np.clip(np.array(VALUES), max(low, 0), high).astype(DTYPES[source])
    for name, result in casts(x, NAMES).items():
        np.testing.assert_array_equal(numbers(result), numbers(expected(x, DTYPES[name])), err_msg=name)


@pytest.mark.parametrize("source", ["int8", "int32", "int64", "int4", "float16", "float32", "float8_e5m2"])
def test_negative_numbers(source: str) -> None:
    x = np.array([-1, -2, -3, -6, -7, -8]).astype(DTYPES[source])
    targets = [name for name in NAMES if not name.startswith(("u", "int2"))]
    for name, result in casts(x, targets).items():
        np.testing.assert_array_equal(numbers(result), numbers(expected(x, DTYPES[name])), err_msg=name)


@pytest.mark.parametrize("source", ["int32", "int64", "int16"])
def test_integers_wrap_around(source: str) -> None:
    x = np.array([200, -200, 255, -129, 32767, -32768]).astype(source)
    targets = ["int8", "uint8", "int4", "uint4", "int2", "uint2"]
    for name, result in casts(x, targets).items():
        np.testing.assert_array_equal(
            numbers(result), numbers(x.astype(np.int64).astype(DTYPES[name])), err_msg=name
        )


SMALL_FLOATS = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_rounding_to_8_bits(name: str) -> None:
    """All numbers of the dtype, the ties between neighbours, what lies around both, and what is out of range."""
    dtype = DTYPES[name]
    whole = np.arange(256).astype(np.uint8).view(dtype).astype(np.float32)
    whole = np.unique(whole[np.isfinite(whole)])
    ties = (whole[1:] + whole[:-1]) / 2
    exact = np.concatenate([whole, ties, RNG.normal(0, 100, 200).astype(np.float32)])
    around = [np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf)]
    beyond = np.array([241, 247.9, 248, 464, 464.1, 61439, 61440, 1e6, 3e38, np.inf, np.nan], np.float32)
    x = np.concatenate([exact, *around, beyond, -beyond])
    greatest = float(ml_dtypes.finfo(dtype).max)
    saturated, unsaturated = casts(x, [name])[name], casts(x, [name], saturate=0)[name]
    np.testing.assert_array_equal(numbers(saturated), numbers(np.clip(x, -greatest, greatest).astype(dtype)))
    np.testing.assert_array_equal(numbers(unsaturated), numbers(x.astype(dtype)))


def test_rounding_to_4_bits() -> None:
    x = np.concatenate([np.arange(-8, 8, 0.125), [1e9, -np.inf, np.inf]]).astype(np.float32)
    wanted = np.clip(x, -6, 6).astype(DTYPES["float4_e2m1fn"])
    np.testing.assert_array_equal(numbers(casts(x, ["float4_e2m1fn"])["float4_e2m1fn"]), numbers(wanted))


@pytest.mark.parametrize("round_mode", ["up", "down", "nearest"])
def test_rounding_to_powers_of_two(round_mode: str) -> None:
    x = np.array([1, 1.25, 1.5, 1.75, 2, 3e-38, 0.3, 1e30, 3e38], np.float32)
    exponent = np.log2(x.astype(np.float64))
    rounded = {
        "up": np.ceil(exponent),
        "down": np.floor(exponent),
        "nearest": np.floor(np.log2(x.astype(np.float64) / 0.75 / 2)) + 1,
    }[round_mode]
    result = casts(x, ["float8_e8m0fnu"], round_mode=round_mode)["float8_e8m0fnu"]
    np.testing.assert_array_equal(numbers(result), 2.0 ** np.minimum(rounded, 127))


FLOATS = np.array(
    [0, 1, 1.5, 2, 3.1415927, 1e-38, 1.1754944e-38, 1e-40, 1e-45, 3.4028235e38, np.inf, 0.1, 65504],
    np.float32,
)


@pytest.mark.parametrize("to", ["int32", "uint32"])
def test_bits_of_floats(to: str) -> None:
    x = np.concatenate([FLOATS, -FLOATS])
    (bits,) = reference_model.run(lower(bit_cast(x, to)), [x])
    np.testing.assert_array_equal(bits, x.view(to))


def test_floats_of_bits() -> None:
    x = np.concatenate([FLOATS, -FLOATS, np.array([np.nan], np.float32)]).view(np.int32)
    (floats,) = reference_model.run(lower(bit_cast(x, "float32")), [x])
    np.testing.assert_array_equal(floats, x.view(np.float32))


def bit_cast(x: np.ndarray, to: str) -> onnx.ModelProto:
    source, code = (helper.np_dtype_to_tensor_dtype(dtype) for dtype in (x.dtype, np.dtype(to)))
    graph = helper.make_graph(
        [helper.make_node("BitCast", ["x"], ["y"], to=code)],
        "bits",
        [helper.make_tensor_value_info("x", source, x.shape)],
        [helper.make_tensor_value_info("y", code, x.shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)], ir_version=12)
