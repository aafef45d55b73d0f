"""Quantised operators against onnxruntime: integers equal, or one step apart at a rounding tie."""

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


@pytest.mark.parametrize("types", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")], ids=str)
@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
def test_integer_matmul(types: tuple[str, str], known: bool) -> None:
    zeros = {"az": scalar(100, types[0]), "bz": scalar(-3 if types[1] == "int8" else 130, types[1])}
    operands = {"a": integers(types[0], 2, 3, 5), "b": integers(types[1], 5, 4), **zeros}
    check("MatMulInteger", operands, constants=zeros if known else [])


def test_integer_matmul_with_zero_points_of_columns() -> None:
    zeros = {"az": scalar(9, "uint8"), "bz": np.array([1, -2, 30, 4], np.int8)}
    operands = {"a": integers("uint8", 3, 5), "b": integers("int8", 5, 4), **zeros}
    check("MatMulInteger", operands, constants=["bz"])


@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
def test_integer_convolution_pads_with_the_zero_point(known: bool) -> None:
    zeros = {"xz": scalar(77, "uint8"), "wz": scalar(5, "int8")}
    operands = {"x": integers("uint8", 1, 2, 5, 5), "w": integers("int8", 3, 2, 3, 3), **zeros}
    check("ConvInteger", operands, constants=["w", "wz", "xz"] if known else ["w", "wz"], pads=[1, 1, 1, 1])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("group", [1, 4])
def test_quantized_convolution_with_scales_of_channels(dtype: str, group: int) -> None:
    parameters = {
        "xs": scalar(0.02),
        "xz": scalar(11, dtype),
        "w": integers("int8", 4, 4 // group, 3, 3),
        "ws": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
        "wz": np.zeros(4, np.int8),
        "ys": scalar(0.37),
        "yz": scalar(60, dtype),
        "b": np.array([100, -2000, 0, 7], np.int32),
    }
    x = {"x": integers(dtype, 1, 4, 6, 6)}
    check("QLinearConv", x | parameters, constants=parameters, group=group, pads=[1, 1, 1, 1])


def test_quantized_matmul() -> None:
    parameters = {
        "as": scalar(0.02),
        "az": scalar(120, "uint8"),
        "b": integers("int8", 8, 5),
        "bs": scalar(0.013),
        "bz": scalar(2, "int8"),
        "ys": scalar(0.21),
        "yz": scalar(128, "uint8"),
    }
    operands = {"a": integers("uint8", 4, 8)} | parameters
    check("QLinearMatMul", operands, constants=parameters)
