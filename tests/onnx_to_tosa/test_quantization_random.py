"""Random shapes, attributes and parameters of quantised operators against onnxruntime.

Its f32 arithmetic may meet a rounding tie where the exact product does not: one step is allowed.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from single_node import check

CONTRIB = "com.microsoft"
SEEDS = st.integers(0, 2**32 - 1)
BYTES = st.sampled_from(["int8", "uint8"])


class Numbers:
    """Random operands; a third of the scales are powers of two, which give ties."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def integers(self, dtype: str, *shape: int) -> np.ndarray:
        info = np.iinfo(dtype)
        return np.asarray(self._rng.integers(info.min, info.max + 1, shape), dtype)

    def bias(self, size: int) -> np.ndarray:
        return self._rng.integers(-10_000, 10_000, size).astype(np.int32)

    def floats(self, *shape: int, scale: float) -> np.ndarray:
        return np.asarray(self._rng.normal(0, scale, shape), np.float32)

    def scale(self, *shape: int, low: float = -3, high: float = 0) -> np.ndarray:
        exponents = self._rng.uniform(low, high, shape) * np.log2(10)
        rounded = np.where(self._rng.random(shape) < 1 / 3, np.rint(exponents), exponents)
        return np.asarray(2.0**rounded, np.float32)


@given(SEEDS, BYTES, st.booleans(), st.booleans(), st.data())
def test_convolution(seed: int, dtype: str, by_channel: bool, known: bool, data: st.DataObject) -> None:
    numbers, axes = Numbers(seed), range(data.draw(st.integers(1, 3)))
    group, inputs, outputs = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel, strides = ([data.draw(st.integers(1, 3)) for _ in axes] for _ in range(2))
    pads = [data.draw(st.integers(0, 2)) for _ in (*axes, *axes)]
    sizes = [data.draw(st.integers(size, 8)) for size in kernel]
    channels = group * outputs
    parameters = {
        "xs": numbers.scale(),
        "xz": numbers.integers(dtype),
        "w": numbers.integers("int8", channels, inputs, *kernel),
        "ws": numbers.scale(channels) if by_channel else numbers.scale(),
        "wz": np.zeros(channels if by_channel else (), np.int8),
        "ys": numbers.scale(low=-2, high=2),
        "yz": numbers.integers(dtype),
        "b": numbers.bias(channels),
    }
    operands = {
        "x": numbers.integers(dtype, data.draw(st.integers(1, 2)), group * inputs, *sizes)
    } | parameters
    constants = parameters if known else []
    check("QLinearConv", operands, constants=constants, group=group, strides=strides, pads=pads, steps=1)


@given(SEEDS, BYTES, st.booleans(), st.booleans(), st.lists(st.integers(1, 16), min_size=3, max_size=4))
def test_matrix_product(seed: int, dtype: str, by_column: bool, known: bool, sizes: list[int]) -> None:
    numbers, (*batch, rows, inner, columns) = Numbers(seed), sizes
    shape = (columns,) if by_column else ()
    parameters = {
        "as": numbers.scale(),
        "az": numbers.integers(dtype),
        "b": numbers.integers("int8", inner, columns),
        "bs": numbers.scale(*shape),
        "bz": numbers.integers("int8", *shape),
        "ys": numbers.scale(low=-2, high=2),
        "yz": numbers.integers(dtype),
    }
    operands = {"a": numbers.integers(dtype, *batch, rows, inner)} | parameters
    check("QLinearMatMul", operands, constants=parameters if known else [], steps=1)


@given(SEEDS, BYTES, st.sampled_from(["QLinearAdd", "QLinearMul"]), st.booleans(), st.integers(1, 300))
def test_sum_and_product(seed: int, dtype: str, op: str, known: bool, size: int) -> None:
    numbers = Numbers(seed)
    operands = {
        "a": numbers.integers(dtype, 2, size),
        "as": numbers.scale(),
        "az": numbers.integers(dtype),
        "b": numbers.integers(dtype, size),
        "bs": numbers.scale(),
        "bz": numbers.integers(dtype),
        "cs": numbers.scale(),
        "cz": numbers.integers(dtype),
    }
    constants = [name for name in operands if len(name) == 2] if known else []
    check(op, operands, domain=CONTRIB, constants=constants, steps=1)


@given(SEEDS, st.sampled_from(["int8", "uint8", "int16", "uint16"]), st.booleans(), st.integers(1, 50))
def test_quantization(seed: int, dtype: str, known: bool, size: int) -> None:
    """Half of the numbers are multiples of half the scale."""
    numbers = Numbers(seed)
    scale = numbers.scale(low=-4, high=2)
    ties = numbers.integers("int16", size).astype(np.float32) * (scale / np.float32(2))
    x = np.concatenate([ties, numbers.floats(size, scale=100 * float(scale))]).astype(np.float32)
    parameters = {"s": scale, "z": numbers.integers(dtype)}
    check("QuantizeLinear", {"x": x} | parameters, opset=21, constants=parameters if known else [], steps=1)


@given(SEEDS, st.lists(st.integers(1, 8), min_size=1, max_size=3), st.floats(1e-6, 1e6))
def test_dynamic_quantization(seed: int, shape: list[int], scale: float) -> None:
    check("DynamicQuantizeLinear", {"x": Numbers(seed).floats(*shape, scale=scale)}, outputs=3, steps=1)
