"""The matrices of ONNX Resize: which input elements each output element is made of, one axis at a time.

Formulas: the ONNX specification of Resize and its reference implementation (onnx.reference.ops.op_resize).
Nothing here knows MLIR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Axis:
    """One resized axis. `scale` is the ratio that coordinates are computed with, `roi` the crop of that axis."""

    size: int
    out_size: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Kernel:
    """How values between elements are made."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False


def source_coordinates(axis: Axis, kind: str, dtype: type = np.float64) -> np.ndarray:
    """Where each output element lies on the input axis (element centres at integers).

    Nearest neighbours are picked with f32 coordinates, as onnxruntime does: where they fall between two
    elements, rounding decides. Interpolation is exact.
    """
    y: np.ndarray = np.arange(axis.out_size, dtype=dtype)
    axis = replace(axis, scale=dtype(axis.scale))
    whole = axis.scale * axis.size
    match kind:
        case "align_corners":
            return y * (axis.size - 1) / (whole - 1) if whole != 1 else np.zeros_like(y)
        case "asymmetric":
            return y / axis.scale
        case "half_pixel":
            return (y + 0.5) / axis.scale - 0.5
        case "half_pixel_symmetric":
            centre = axis.size / 2 * (1 - axis.out_size / whole)
            return centre + (y + 0.5) / axis.scale - 0.5
        case "pytorch_half_pixel":
            return (y + 0.5) / axis.scale - 0.5 if whole > 1 else np.zeros_like(y)
        case "tf_half_pixel_for_nn":
            return (y + 0.5) / axis.scale
        case "tf_crop_and_resize":
            start, end = axis.roi
            if whole == 1:
                return np.full_like(y, (start + end) * (axis.size - 1) / 2)
            return start * (axis.size - 1) + y * (end - start) * (axis.size - 1) / (whole - 1)
    raise ValueError(f"coordinate_transformation_mode '{kind}' is not known")


def outside(axis: Axis, kind: str) -> np.ndarray:
    """Which output elements lie outside of the input and take the extrapolation value."""
    x = source_coordinates(axis, kind)
    return (x < 0) | (x > axis.size - 1) if kind == "tf_crop_and_resize" else np.zeros(axis.out_size, bool)


def matrix(axis: Axis, kernel: Kernel) -> np.ndarray:
    """[out_size, size] f64: output = matrix @ input along the axis."""
    x = source_coordinates(axis, kernel.coordinates, np.float32 if kernel.mode == "nearest" else np.float64)
    floor = np.floor(x)
    ratio = np.where(x == floor, 1.0, x - floor)
    first, weights = _taps(kernel, ratio, axis.scale)
    base = np.where(x == floor, floor - 1, floor).astype(np.int64)
    index = base[:, None] + first + np.arange(weights.shape[1])
    if kernel.exclude_outside:
        weights = np.where((index < 0) | (index >= axis.size), 0.0, weights)
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    result = np.zeros((axis.out_size, axis.size))
    rows = np.broadcast_to(np.arange(axis.out_size)[:, None], index.shape)
    np.add.at(result, (rows, np.clip(index, 0, axis.size - 1)), weights)
    return result


def _taps(kernel: Kernel, ratio: np.ndarray, scale: float) -> tuple[int, np.ndarray]:
    """Weights [out_size, taps] of the neighbours from `first` on; `ratio` in (0, 1] is measured from neighbour 0."""
    if kernel.mode == "nearest":
        return 0, _nearest(ratio, kernel.nearest)
    reach = 1 if kernel.mode == "linear" else 2
    stretch = min(scale, 1.0) if kernel.antialias else 1.0
    first = math.floor(-reach / stretch) + 1
    taps = np.arange(first, 2 - first)
    distance = np.abs((taps - ratio[:, None]) * stretch)
    weights = np.clip(1 - distance, 0, 1) if reach == 1 else _cubic(distance, kernel.cubic_a)
    return first, weights / weights.sum(1, keepdims=True) if kernel.antialias else weights


def _nearest(ratio: np.ndarray, mode: str) -> np.ndarray:
    right = {
        "round_prefer_floor": ratio > 0.5,
        "round_prefer_ceil": ratio >= 0.5,
        "floor": ratio == 1,
        "ceil": np.ones_like(ratio, bool),
        "simple": ratio == 1,
    }.get(mode)
    if right is None:
        raise ValueError(f"nearest_mode '{mode}' is not known")
    return np.stack([~right, right], 1).astype(np.float64)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel at a distance."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


@dataclass(frozen=True)
class ResizeAxis:
    """`tosa.resize` along one axis: output o reads the input at (o * denominator + offset) / numerator."""

    numerator: int
    denominator: int
    offset: int
    border: int


MAX_SCALE = 256
"""TOSA 1.0, level 8k: the largest numerator over denominator."""
_MAX_NUMERATOR = 1 << 11


def tosa_axis(axis: Axis, kernel: Kernel) -> ResizeAxis | None:
    """Parameters with which `tosa.resize` computes exactly `matrix(axis, kernel)`, None if there are none."""
    wanted = matrix(axis, kernel)
    for numerator, denominator, offset in _candidates(axis, kernel):
        border = (axis.out_size - 1) * denominator + offset - (axis.size - 1) * numerator
        candidate = ResizeAxis(numerator, denominator, offset, border)
        if _is_valid(candidate) and np.allclose(
            _tosa_matrix(axis, candidate, kernel.mode), wanted, atol=1e-6, rtol=0
        ):
            return candidate
    return None


def _candidates(axis: Axis, kernel: Kernel) -> list[tuple[int, int, int]]:
    """Scales and offsets that could give the coordinates, in units small enough for every rounding mode."""
    x = source_coordinates(axis, kernel.coordinates)
    step = x[1] - x[0] if len(x) > 1 else 1.0
    found = []
    for numerator in range(1, _MAX_NUMERATOR + 1):
        denominator, offset = round(step * numerator), round(float(x[0]) * numerator)
        if denominator < 1 or abs(denominator - step * numerator) * len(x) > 1e-3:
            continue
        if kernel.mode == "nearest" and numerator % 2:
            continue
        shifts = {
            "floor": (-(numerator // 2),),
            "simple": (-(numerator // 2),),
            "round_prefer_floor": (0, -1),
        }
        shifts |= {"ceil": (numerator // 2 - 1, numerator // 2)}
        for shift in shifts.get(kernel.nearest, (0,)) if kernel.mode == "nearest" else (0,):
            found.append((numerator, denominator, offset + shift))
        if len(found) >= 8:
            break
    return found


def _is_valid(axis: ResizeAxis) -> bool:
    n, d = axis.numerator, axis.denominator
    return (
        n <= _MAX_NUMERATOR
        and n <= MAX_SCALE * d
        and d < 16 * n
        and -n <= axis.offset < 16 * n
        and -16 * n <= axis.border < n
    )


def _tosa_matrix(axis: Axis, resize: ResizeAxis, mode: str) -> np.ndarray:
    """What `tosa.resize` computes along one axis (TOSA 1.0 specification, RESIZE)."""
    position = np.arange(axis.out_size) * resize.denominator + resize.offset
    index, rest = position // resize.numerator, position % resize.numerator
    rows = np.arange(axis.out_size)
    result = np.zeros((axis.out_size, axis.size))
    if mode == "nearest":
        result[rows, np.clip(index + (2 * rest >= resize.numerator), 0, axis.size - 1)] = 1
        return result
    ratio = rest / resize.numerator
    np.add.at(result, (rows, np.clip(index, 0, axis.size - 1)), 1 - ratio)
    np.add.at(result, (rows, np.clip(index + 1, 0, axis.size - 1)), ratio)
    return result
