"""Transforms of two dimensions against numpy's, compiled and run."""

from __future__ import annotations

import numpy as np
import pytest
from torch_mlir import ir

from tosaic.prices import PriceList
from tosaic.wasm.program import KernelStore, compile
from tosaic_passes.convert_fft_to_matmul import ConvertFftToMatmulPass
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable
from wasm.program_runner import run_program

STORE = KernelStore(PriceList.load())
SHAPES = [(1, 1, 1), (2, 1, 8), (3, 16, 1), (1, 2, 2), (2, 8, 64), (1, 256, 4)]


def transform(op: str, operands: list[np.ndarray], width: int, attributes: str = "") -> np.ndarray:
    """The result as complex numbers."""
    batch, height, _ = operands[0].shape
    source = "x".join(map(str, operands[0].shape)) + "xf32"
    result = f"tensor<{batch}x{height}x{width}xf32>"
    names = [f"%x{i}" for i in range(len(operands))]
    arguments = ", ".join(f"{name}: tensor<{source}>" for name in names)
    text = f"""func.func @main({arguments}) -> ({result}, {result}) {{
      %0, %1 = tosa.{op} {", ".join(names)} {attributes}
        : ({", ".join([f"tensor<{source}>"] * len(names))}) -> ({result}, {result})
      return %0, %1 : {result}, {result}
    }}"""
    program = Program(ir.Module.parse(text, ir.Context()), WeightTable())
    ConvertFftToMatmulPass().run(program)
    real, imaginary = run_program(compile(program, kernels=STORE), operands)
    return real + 1j * imaginary


def signal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inverse", [False, True])
def test_complex_numbers(shape: tuple[int, ...], inverse: bool) -> None:
    real, imaginary = signal(*shape), signal(*reversed(shape)).reshape(shape)
    found = transform("fft2d", [real, imaginary], shape[2], f"{{inverse = {str(inverse).lower()}}}")
    numbers = real + 1j * imaginary
    expected = np.fft.ifft2(numbers, norm="forward") if inverse else np.fft.fft2(numbers)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_real_numbers(shape: tuple[int, ...]) -> None:
    x = signal(*shape)
    found = transform("rfft2d", [x], shape[2] // 2 + 1)
    expected = np.fft.rfft2(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    for row in {0, shape[1] // 2} if shape[1] > 1 else {0}:
        assert not found[:, row, 0].imag.any(), "what is real for every signal is exactly so"
        assert not found[:, row, shape[2] // 2].imag.any() or shape[2] == 1
