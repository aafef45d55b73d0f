"""DFT and STFT against onnxruntime; what it does not know, or less exactly, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_model
from single_node import check, lower, node_model

RNG = np.random.default_rng(10)


def signal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_dft(inverse: int, parts: int) -> None:
    check("DFT", {"x": signal(2, 12, parts)}, axis=1, inverse=inverse, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [7, 15])
def test_dft_of_another_length(length: int) -> None:
    operands = {"x": signal(2, 10, 3, 1), "length": np.array(length, np.int64)}
    check("DFT", operands, constants=["length"], axis=1, onesided=1, rtol=1e-4, atol=1e-5)


def test_dft_along_an_operand_axis() -> None:
    operands = {"x": signal(2, 6, 5, 2), " ": signal(0), "axis": np.array(1, np.int64)}
    check("DFT", operands, opset=20, constants=["axis"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("length", [64, 100, 210, 256])
def test_long_dft_in_steps(length: int, inverse: int, parts: int) -> None:
    x = signal(2, length - 3, parts)
    operands = {"x": x, "length": np.array(length)}
    model = node_model("DFT", operands, constants=["length"], opset=17, inverse=inverse)
    (actual,) = reference_model.run(lower(model), [x])
    numbers = x[..., 0] if parts == 1 else x[..., 0] + 1j * x[..., 1]
    expected = (np.fft.ifft if inverse else np.fft.fft)(numbers, length, axis=1)
    np.testing.assert_allclose(actual[..., 0] + 1j * actual[..., 1], expected, 1e-4, 1e-5)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("step", [32, 50, 200])
def test_stft_of_long_frames(step: int, parts: int) -> None:
    window = np.hanning(128).astype(np.float32)
    operands = {"x": signal(2, 400, parts), "step": np.array(step), "window": window}
    check("STFT", operands, constants=["step", "window"], onesided=2 - parts, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", [8, 9, 12])
def test_inverse_of_half_a_spectrum(length: int) -> None:
    x = signal(3, 5, 2)
    operands = {"x": x, "length": np.array(length, np.int64)}
    model = node_model("DFT", operands, opset=20, constants=["length"], inverse=1, onesided=1)
    (actual,) = reference_model.run(lower(model), [x])
    expected = np.fft.irfft(x[..., 0] + 1j * x[..., 1], length, axis=1)
    np.testing.assert_allclose(actual[..., 0], expected, 1e-4, 1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("step", [4, 5, 16])
def test_stft(step: int, onesided: int) -> None:
    operands = {"x": signal(2, 40, 1), "step": np.array(step), "window": np.hanning(12).astype(np.float32)}
    check("STFT", operands, constants=["step", "window"], onesided=onesided, rtol=1e-4, atol=1e-5)


def test_stft_of_a_complex_signal() -> None:
    operands = {"x": signal(1, 30, 2), "step": np.array(3), " ": signal(0), "length": np.array(8)}
    check("STFT", operands, constants=["step", "length"], onesided=0, rtol=1e-4, atol=1e-5)


def test_stft_with_a_computed_window() -> None:
    operands = {"x": signal(1, 30, 1), "step": np.array(4), "window": signal(8)}
    check("STFT", operands, constants=["step"], rtol=1e-4, atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2]), st.booleans(), st.integers(0, 99))
def test_any_dft(given: int, length: int, parts: int, inverse: bool, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, given, parts)).astype(np.float32)
    operands = {"x": x, "length": np.array(length)}
    onesided = int(parts == 1 and not inverse)
    check(
        "DFT",
        operands,
        constants=["length"],
        inverse=int(inverse),
        onesided=onesided,
        rtol=1e-3,
        atol=1e-4,
    )


@given(st.integers(1, 24), st.integers(1, 30), st.integers(0, 40), st.booleans(), st.integers(0, 99))
def test_any_stft(size: int, step: int, rest: int, onesided: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    operands = {
        "x": rng.normal(size=(1, size + rest, 1)).astype(np.float32),
        "step": np.array(step),
        "window": rng.normal(size=size).astype(np.float32),
    }
    check("STFT", operands, constants=["step", "window"], onesided=int(onesided), rtol=1e-3, atol=1e-4)
