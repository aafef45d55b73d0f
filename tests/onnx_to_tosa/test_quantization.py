"""Quantization of floats and back against onnxruntime: equal integers."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

RNG = np.random.default_rng(3)


def integers(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def scalar(value: float, dtype: str = "float32") -> np.ndarray:
    return np.array(value, dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_dequantize(dtype: str) -> None:
    zero = {} if dtype == "int32" else {"zero": scalar(7, dtype)}
    check("DequantizeLinear", {"x": integers(dtype, 3, 4) // 4, "scale": scalar(0.03), **zero})


def test_dequantize_by_axis() -> None:
    operands = {"scale": np.array([0.1, 0.2, 0.3], np.float32), "zero": np.array([1, -5, 100], np.int8)}
    check("DequantizeLinear", {"x": integers("int8", 3, 4), **operands}, constants=operands, axis=0)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantize_rounds_ties_to_even_and_saturates(dtype: str) -> None:
    x = np.array([-1e30, -2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 99.4, np.inf], np.float32)
    operands = {"scale": scalar(1.0), "zero": scalar(3, dtype)}
    check("QuantizeLinear", {"x": x, **operands}, constants=operands)


def test_quantize_divides_exactly() -> None:
    x = (np.arange(-2000, 2000) * 0.05).astype(np.float32)
    operands = {"scale": scalar(0.1), "zero": scalar(0, "int8")}
    check("QuantizeLinear", {"x": x, **operands}, constants=operands)


@pytest.mark.parametrize("values", [[-3.0, 0.3, 1.77], [1.0, 2.0, 0.5], [0.0, 0.0, 0.0]], ids=str)
def test_dynamic_quantization(values: list[float]) -> None:
    check("DynamicQuantizeLinear", {"x": np.array(values, np.float32)}, outputs=3)


@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("scale", [1e-33, 1e-20, 0.0123, 3.7e20])
def test_quantize_takes_any_scale(scale: float, known: bool) -> None:
    x = np.array([-3e38, -1e10, -2.6, -1e-30, 0.0, 1e-38, 0.7, 1e12, 3e38], np.float32)
    operands = {"scale": scalar(scale), "zero": scalar(3, "uint8")}
    check("QuantizeLinear", {"x": x, **operands}, constants=operands if known else [])


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_quantize_to_16_bits(dtype: str) -> None:
    x = RNG.normal(0, 300, (3, 50)).astype(np.float32)
    operands = {"scale": scalar(0.013), "zero": scalar(77, dtype)}
    check("QuantizeLinear", {"x": x, **operands}, opset=21, constants=operands)


def test_quantize_by_axis_with_computed_scales() -> None:
    x = RNG.normal(0, 3, (2, 3, 4)).astype(np.float32)
    operands = {"scale": np.array([0.1, 0.02, 3], np.float32), "zero": np.array([1, 0, 255], np.uint8)}
    check("QuantizeLinear", {"x": x, **operands}, opset=13)


def test_quantize_and_dequantize_by_block() -> None:
    scales = RNG.uniform(0.01, 0.1, (3, 2)).astype(np.float32)
    zeros = RNG.integers(0, 255, (3, 2)).astype(np.uint8)
    block = {"opset": 21, "axis": 1, "block_size": 3}
    check(
        "QuantizeLinear", {"x": RNG.normal(0, 5, (3, 6)).astype(np.float32), "s": scales, "z": zeros}, **block
    )
    check("DequantizeLinear", {"x": integers("uint8", 3, 6), "s": scales, "z": zeros}, **block)


def test_quantize_float16() -> None:
    x = RNG.normal(0, 3, 40).astype(np.float16)
    check("QuantizeLinear", {"x": x, "s": scalar(0.05, "float16"), "z": scalar(3, "int8")}, opset=19)


@pytest.mark.parametrize("dtype", ["int8", "uint16"])
def test_operators_of_onnxruntime(dtype: str) -> None:
    operands = {"s": scalar(0.1), "z": scalar(7, dtype)}
    x = RNG.normal(0, 3, 40).astype(np.float32)
    check("QuantizeLinear", {"x": x} | operands, domain="com.microsoft")
    check("DequantizeLinear", {"x": integers(dtype, 40)} | operands, domain="com.microsoft")
