"""Resize and Upsample against onnxruntime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from single_node import check, lower, node_model

RNG = np.random.default_rng(5)
X = RNG.normal(size=(1, 2, 4, 5)).astype(np.float32)
COORDINATES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
SMOOTH = [*COORDINATES, "half_pixel_symmetric"]
"""Of half_pixel_symmetric, onnxruntime's f32 coordinates miss whole numbers, where rounding modes part."""


def operands(x: np.ndarray = X, *, scales: object = None, sizes: object = None, roi: object = None) -> dict:
    given = {"x": x, " ": x[:0]} if roi is None else {"x": x, "roi": np.array(roi, np.float32)}
    if scales is not None:
        return given | {"scales": np.array(scales, np.float32)}
    return given | {"  ": x[:0], "sizes": np.array(sizes, np.int64)}


def check_resize(given: dict, *, opset: int = 19, **attributes: object) -> None:
    constants = [name for name in given if name in ("roi", "scales", "sizes")]
    check("Resize", given, opset=opset, constants=constants, rtol=1e-4, atol=1e-5, **attributes)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("sizes", [[1, 2, 8, 3], [1, 2, 7, 13]], ids=str)
def test_nearest(sizes: list[int], coordinates: str, nearest: str) -> None:
    check_resize(
        operands(sizes=sizes),
        coordinate_transformation_mode=coordinates,
        nearest_mode=nearest,
        mode="nearest",
    )


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", SMOOTH)
@pytest.mark.parametrize("sizes", [[1, 2, 8, 10], [1, 2, 1, 13]], ids=str)
def test_interpolated(sizes: list[int], coordinates: str, mode: str) -> None:
    check_resize(operands(sizes=sizes), coordinate_transformation_mode=coordinates, mode=mode)


@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 0.6, 0.8], [1, 1, 1.7, 3.3]], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_scales(scales: list[float], mode: str) -> None:
    check_resize(operands(scales=scales), mode=mode)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(mode: str) -> None:
    x = RNG.normal(size=(1, 1, 9, 11)).astype(np.float32)
    check_resize(operands(x, sizes=[1, 1, 4, 5]), mode=mode, antialias=1)


def test_cubic_without_the_outside() -> None:
    check_resize(operands(sizes=[1, 2, 7, 8]), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)


def test_crop_with_extrapolation() -> None:
    given = operands(sizes=[1, 2, 3, 4], roi=[0, 0, 0.3, -0.4, 1, 1, 1.2, 0.7])
    mode = "tf_crop_and_resize"
    check_resize(given, mode="linear", coordinate_transformation_mode=mode, extrapolation_value=7.5)


def test_chosen_axes() -> None:
    check_resize(operands(sizes=[7, 9]), axes=[3, 2], mode="nearest")


@pytest.mark.parametrize("opset", [7, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(opset: int, mode: str) -> None:
    scales = [1.0, 1.0, 2.0, 3.0]
    if opset == 7:
        check("Upsample", {"x": X}, opset=7, mode=mode, scales=scales)
    else:
        given = {"x": X, "scales": np.array(scales, np.float32)}
        check("Upsample", given, opset=9, constants=["scales"], mode=mode)


def test_resize_of_opset_10() -> None:
    given = {"x": X, "scales": np.array([1, 1, 2, 2], np.float32)}
    check("Resize", given, opset=10, constants=["scales"], mode="linear")


def test_bytes_by_nearest() -> None:
    x = np.arange(20, dtype=np.uint8).reshape(1, 1, 4, 5) * np.uint8(12)
    check_resize(operands(x, sizes=[1, 1, 6, 9]), mode="nearest")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_usual_resizes_are_one_op(coordinates: str, mode: str) -> None:
    given = operands(sizes=[1, 2, 8, 10])
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    program = lower(node_model("Resize", given, opset=19, constants=["sizes"], **attributes))
    ops = Counter(
        view.operation.name for view in program.module.body.operations[0].regions[0].blocks[0].operations
    )
    assert ops["tosa.resize"] == 1
    assert not ops["tosa.gather"] + ops["tosa.matmul"]


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(COORDINATES),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
)
def test_any_resize(before: tuple, after: tuple, mode: str, coordinates: str, nearest: str) -> None:
    assume(before != after)
    x = RNG.normal(size=(1, 1, *before)).astype(np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    check_resize(operands(x, sizes=[1, 1, *after]), **attributes)
