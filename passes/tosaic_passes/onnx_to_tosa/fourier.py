"""Discrete Fourier transforms: one product with a constant matrix, or several small ones.

A length n = n1 * n2 falls apart (Cooley and Tukey, 1965): n2 transforms of length n1, a rotation of each number,
n1 transforms of length n2. Complex numbers are planes here: [rows, real and imaginary, n].
"""

from __future__ import annotations

import functools

import numpy as np

from tosaic_passes.onnx_to_tosa.builder import TosaBuilder
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_MOVES = 16
"""What transposing and rotating one number costs, in multiply-adds of a product."""


def waves(count: int, frequencies: int, sign: int = -1) -> np.ndarray:
    """[count, frequencies]: exp(sign * 2 pi i j k / count)."""
    return _rotations(np.outer(np.arange(count), np.arange(frequencies)), count, sign)


def _rotations(turns: np.ndarray, count: int, sign: int) -> np.ndarray:
    """exp(sign * 2 pi i turns / count), with exact zeros at quarter turns: what they make real stays so."""
    rotations = np.exp(sign * 2j * np.pi * (turns % count) / count)
    return np.where(4 * turns % count == 0, np.round(rotations), rotations)


def transform(builder: TosaBuilder, x: Tensor, frequencies: int, sign: int = -1) -> Tensor:
    """The sums over x [rows, parts, n] times `waves`, [rows, 2, frequencies]; one part: real numbers."""
    rows, parts, count = x.shape
    if count == frequencies == 1 and parts == 2:
        return x
    first = _first_factor(count, parts, frequencies)
    if first == count:
        return _direct(builder, x, frequencies, sign)
    second = count // first
    columns = builder.transpose(builder.reshape(x, (rows, parts, first, second)), [0, 3, 1, 2])
    inner = transform(builder, builder.reshape(columns, (rows * second, parts, first)), first, sign)
    rotated = _rotate(builder, builder.reshape(inner, (rows, second, 2, first)), sign)
    turned = builder.reshape(builder.transpose(rotated, [0, 3, 2, 1]), (rows * first, 2, second))
    needed = -(-frequencies // first)
    outer = builder.reshape(transform(builder, turned, needed, sign), (rows, first, 2, needed))
    spectrum = builder.reshape(builder.transpose(outer, [0, 2, 3, 1]), (rows, 2, needed * first))
    return builder.slice_axis(spectrum, 2, 0, frequencies)


def cost(count: int, parts: int, frequencies: int) -> int:
    """Multiply-adds of `transform` a row."""
    first = _first_factor(count, parts, frequencies)
    return _cost_with(count, parts, frequencies, first)


@functools.cache
def _first_factor(count: int, parts: int, frequencies: int) -> int:
    """The factor n1 with the least cost; n itself: one product."""
    factors = [factor for factor in range(2, count // 2 + 1) if count % factor == 0]
    return min([count, *factors], key=lambda factor: _cost_with(count, parts, frequencies, factor))


def _cost_with(count: int, parts: int, frequencies: int, first: int) -> int:
    if first == count:
        return count * parts * frequencies * 2
    second = count // first
    inner = second * cost(first, parts, first)
    return inner + first * cost(second, 2, -(-frequencies // first)) + _MOVES * count


def _direct(builder: TosaBuilder, x: Tensor, frequencies: int, sign: int) -> Tensor:
    rows, parts, count = x.shape
    matrix = waves(count, frequencies, sign)
    by_part = np.stack([matrix, 1j * matrix][:parts])
    columns = np.stack([by_part.real, by_part.imag], 2).astype(np.float32)
    flat = builder.reshape(x, (1, rows, parts * count))
    product = builder.matmul(flat, builder.constant(columns.reshape(1, parts * count, 2 * frequencies)))
    return builder.reshape(product, (rows, 2, frequencies))


def _rotate(builder: TosaBuilder, x: Tensor, sign: int) -> Tensor:
    """x [rows, n2, 2, n1] times exp(sign * 2 pi i j2 k1 / n)."""
    _, second, _, first = x.shape
    rotations = _rotations(np.outer(np.arange(second), np.arange(first)), first * second, sign)
    cosine, sine = rotations.real, rotations.imag
    along = np.stack([cosine, cosine], 1)[None].astype(np.float32)
    across = np.stack([-sine, sine], 1)[None].astype(np.float32)
    return builder.add(
        builder.mul(x, builder.constant(along)), builder.mul(builder.reverse(x, 2), builder.constant(across))
    )


def planes(builder: TosaBuilder, x: Tensor) -> Tensor:
    """[rows, n, parts] -> [rows, parts, n]."""
    rows, count, parts = x.shape
    return builder.reshape(x, (rows, 1, count)) if parts == 1 else builder.transpose(x, [0, 2, 1])
