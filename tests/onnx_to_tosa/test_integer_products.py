"""Products of quantised numbers against onnxruntime: equal integers."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

RNG = np.random.default_rng(3)
CONTRIB = "com.microsoft"


def integers(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def scalar(value: float, dtype: str = "float32") -> np.ndarray:
    return np.array(value, dtype)


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


def test_integer_convolution_with_computed_zero_points_of_both_operands() -> None:
    operands = {
        "x": integers("uint8", 2, 4, 6, 5),
        "w": integers("uint8", 6, 2, 3, 3),
        "xz": scalar(77, "uint8"),
        "wz": scalar(131, "uint8"),
    }
    check("ConvInteger", operands, group=2, pads=[1, 0, 2, 1], strides=[2, 1])


@pytest.mark.parametrize("factor", [0.5, 0.75, 2.0**-5, 5 * 2.0**-9])
def test_quantized_matmul_rounds_ties_to_even(factor: float) -> None:
    parameters = {
        "as": scalar(factor),
        "az": scalar(0, "int8"),
        "b": np.eye(64, dtype=np.int8),
        "bs": scalar(1),
        "bz": scalar(0, "int8"),
        "ys": scalar(1),
        "yz": scalar(-1, "int8"),
    }
    operands = {"a": np.arange(-128, 128, dtype=np.int8).reshape(4, 64)} | parameters
    check("QLinearMatMul", operands, constants=parameters)


def test_quantized_matmul_with_computed_scales() -> None:
    operands = {
        "a": integers("int8", 2, 4, 8),
        "as": scalar(0.02),
        "az": scalar(12, "int8"),
        "b": integers("int8", 2, 8, 5),
        "bs": scalar(0.013),
        "bz": scalar(2, "int8"),
        "ys": scalar(0.21),
        "yz": scalar(-8, "int8"),
    }
    check("QLinearMatMul", operands)


@pytest.mark.parametrize("quantized", [True, False], ids=["uint8", "float"])
def test_qgemm(quantized: bool) -> None:
    parameters = {
        "as": scalar(0.02),
        "az": scalar(120, "uint8"),
        "b": integers("uint8", 5, 8),
        "bs": scalar(0.013),
        "bz": scalar(128, "uint8"),
        "c": np.array([100, -900, 0, 7, 40000], np.int32),
    }
    if quantized:
        parameters |= {"ys": scalar(0.41), "yz": scalar(128, "uint8")}
    check(
        "QGemm",
        {"a": integers("uint8", 4, 8)} | parameters,
        domain=CONTRIB,
        constants=parameters,
        transB=1,
        alpha=1.0,
    )


def test_matmul_of_integers_to_float_with_scales_of_columns() -> None:
    parameters = {
        "b": integers("int8", 8, 5),
        "as": scalar(0.02),
        "bs": RNG.uniform(0.01, 0.1, 5).astype(np.float32),
        "az": scalar(120, "uint8"),
        "bz": np.array([3, -4, 0, 100, 1], np.int8),
        "bias": np.arange(5, dtype=np.float32),
    }
    operands = {"a": integers("uint8", 2, 4, 8)} | parameters
    check("MatMulIntegerToFloat", operands, domain=CONTRIB, constants=parameters)


def test_matmul_with_dynamic_quantization() -> None:
    parameters = {"b": integers("int8", 8, 5), "bs": scalar(0.02), "bz": scalar(3, "int8")}
    operands = {"a": RNG.normal(0, 2, (4, 8)).astype(np.float32)} | parameters
    check("DynamicQuantizeMatMul", operands, domain=CONTRIB, constants=parameters)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "no_zeros"])
def test_matmul_with_packed_weights(bits: int, zeros: bool) -> None:
    blocks, size = 3, 16
    parameters = {
        "b": integers("uint8", 5, blocks, size * bits // 8),
        "scales": RNG.uniform(0.01, 0.1, 5 * blocks).astype(np.float32),
    }
    if zeros:
        parameters["zeros"] = integers("uint8", 5 * -(-blocks * bits // 8))
    a = {"a": RNG.normal(0, 1, (2, 4, 40)).astype(np.float32)}
    attributes = {"K": 40, "N": 5, "bits": bits, "block_size": size}
    check(
        "MatMulNBits",
        a | parameters,
        domain=CONTRIB,
        constants=parameters,
        rtol=1e-4,
        atol=1e-4,
        **attributes,
    )
