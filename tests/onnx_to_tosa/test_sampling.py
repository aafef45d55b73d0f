"""GridSample and AffineGrid against onnxruntime, DeformConv against ONNX's reference implementation."""

from __future__ import annotations

import numpy as np
import onnx.reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_model
from single_node import check, lower, node_model

RNG = np.random.default_rng(8)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
GRID = RNG.uniform(-1.6, 1.6, size=(2, 6, 7, 2)).astype(np.float32)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, align_corners: int) -> None:
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align_corners}
    check("GridSample", {"x": X, "grid": GRID}, opset=20, atol=1e-5, **attributes)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_grid_sample_of_volumes(mode: str) -> None:
    x = RNG.normal(size=(1, 2, 3, 4, 5)).astype(np.float32)
    grid = RNG.uniform(-1.3, 1.3, size=(1, 2, 3, 4, 3)).astype(np.float32)
    check("GridSample", {"x": x, "grid": grid}, opset=20, atol=1e-5, mode=mode)


def test_grid_sample_far_outside() -> None:
    grid = np.array([[[[1e9, 0], [0, -1e9], [40, -30]]]], np.float32)
    check("GridSample", {"x": X[:1], "grid": grid}, opset=16)


def test_grid_sample_never_multiplies_what_is_outside() -> None:
    x = np.full((1, 1, 2, 2), np.inf, np.float32)
    check("GridSample", {"x": x, "grid": np.array([[[[3, 3]]]], np.float32)}, opset=16)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("size", [[2, 3, 4, 5], [2, 3, 2, 3, 4]], ids=str)
def test_affine_grid(size: list[int], align_corners: int) -> None:
    axes = len(size) - 2
    theta = RNG.normal(size=(2, axes, axes + 1)).astype(np.float32)
    operands = {"theta": theta, "size": np.array(size, np.int64)}
    check("AffineGrid", operands, opset=20, constants=["size"], align_corners=align_corners)


def check_deform_conv(operands: dict[str, np.ndarray], **attributes: object) -> None:
    model = node_model("DeformConv", operands, opset=19, **attributes)
    fed = {name: array for name, array in operands.items() if name.strip()}
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, fed)
    (actual,) = reference_model.run(lower(model), list(fed.values()))
    np.testing.assert_allclose(actual, expected, 1e-4, 1e-5)


def deformed(x_shape: list[int], w_shape: list[int], offset_shape: list[int]) -> dict[str, np.ndarray]:
    shapes = {"x": x_shape, "w": w_shape, "offset": offset_shape}
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_deform_conv_with_pads_and_strides() -> None:
    operands = deformed([2, 3, 5, 6], [4, 3, 3, 2], [2, 12, 3, 3])
    check_deform_conv(operands, pads=[1, 0, 1, 1], strides=[2, 2])


def test_deform_conv_with_bias_and_mask() -> None:
    operands = deformed([1, 2, 4, 4], [3, 2, 2, 2], [1, 8, 3, 3])
    operands["b"] = np.array([1, -2, 3], np.float32)
    operands["mask"] = RNG.normal(size=(1, 4, 3, 3)).astype(np.float32)
    check_deform_conv(operands)


def test_deform_conv_with_groups() -> None:
    operands = deformed([2, 4, 4, 4], [6, 2, 2, 2], [2, 16, 2, 2])
    check_deform_conv(operands, group=2, offset_group=2, dilations=[2, 2])


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["linear", "nearest", "cubic"]),
    st.sampled_from(["zeros", "border", "reflection"]),
    st.booleans(),
    st.floats(0.1, 5),
    st.integers(0, 2**32 - 1),
)
def test_any_grid_sample(
    shape: tuple[int, ...], mode: str, padding: str, align_corners: bool, reach: float, seed: int
) -> None:
    if padding == "reflection" and 1 in shape[2:]:
        padding = "border"  # onnxruntime divides by the extent of the image, which is zero there
    rng = np.random.default_rng(seed)
    operands = {
        "x": rng.normal(size=shape).astype(np.float32),
        "grid": rng.uniform(-reach, reach, size=(shape[0], 3, 4, 2)).astype(np.float32),
    }
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": int(align_corners)}
    check("GridSample", operands, opset=20, rtol=1e-3, atol=1e-4, **attributes)
