"""Normalizations against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


STATISTICS = {"scale": normal(3), "bias": normal(3), "mean": normal(3), "var": normal(3) ** 2 + 0.1}


@pytest.mark.parametrize("opset", [8, 9, 14, 15])
@pytest.mark.parametrize("constants", [[], list(STATISTICS)], ids=["computed", "constant"])
def test_batch_normalization(opset: int, constants: list[str]) -> None:
    operands = {"x": normal(2, 3, 4, 5), **STATISTICS}
    check(
        "BatchNormalization", operands, opset=opset, constants=constants, epsilon=1e-3, rtol=1e-4, atol=1e-5
    )


def test_batch_normalization_of_a_matrix() -> None:
    check("BatchNormalization", {"x": normal(4, 3), **STATISTICS}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5)], ids=str)
def test_instance_normalization(shape: tuple[int, ...]) -> None:
    check(
        "InstanceNormalization", {"x": normal(*shape), "s": normal(3), "b": normal(3)}, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int, bias: bool) -> None:
    x = normal(2, 3, 8)
    operands = {"x": x, "s": normal(*x.shape[axis:])} | ({"b": normal(*x.shape[axis:])} if bias else {})
    check("LayerNormalization", operands, axis=axis, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [1, -1])
def test_rms_normalization(axis: int) -> None:
    x = normal(2, 3, 8)
    check(
        "RMSNormalization", {"x": x, "s": normal(*x.shape[axis:])}, opset=23, axis=axis, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_lp_normalization(axis: int, p: int) -> None:
    check("LpNormalization", {"x": normal(4, 6)}, axis=axis, p=p)


@pytest.mark.parametrize("size", [3, 5])
def test_lrn(size: int) -> None:
    check("LRN", {"x": normal(1, 7, 3, 3)}, size=size, alpha=0.3, beta=0.6, bias=1.5)
