"""transpose_conv2d against sums that scatter each input pixel, as TOSA defines it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasm.kernels.products import Case, case, integers, values


def transposed(
    image: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    pad: tuple[int, ...],
    stride: tuple[int, int],
    **options,
) -> Case:
    sizes = [
        (image.shape[1 + axis] - 1) * stride[axis]
        + pad[2 * axis]
        + pad[2 * axis + 1]
        + weights.shape[1 + axis]
        for axis in range(2)
    ]
    constant = options.pop("constant", True)
    inputs = [(image, False), (weights, constant), (bias, constant)]
    attributes = {"out_pad": pad, "stride": stride}
    return case("transpose_conv2d", inputs, (image.shape[0], *sizes, weights.shape[0]), attributes, **options)


def scattered(image: np.ndarray, weights: np.ndarray, bias: np.ndarray, convolved: Case) -> np.ndarray:
    """The result in float64: every input pixel adds its products to the outputs that it reaches."""
    attributes, shape = convolved.request.attributes, convolved.request.outputs[0].shape
    (top, _, left, _), stride = attributes["out_pad"], attributes["stride"]
    found = np.broadcast_to(bias, shape).astype(np.float64)
    for y, x in np.ndindex(*image.shape[1:3]):
        for i, j in np.ndindex(*weights.shape[1:3]):
            row, column = y * stride[0] + top + i, x * stride[1] + left + j
            if 0 <= row < shape[1] and 0 <= column < shape[2]:
                found[:, row, column] += image[:, y, x].astype(np.float64) @ weights[:, i, j].T.astype(
                    np.float64
                )
    return found


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    window, stride = (tuple(draw(st.integers(1, 4)) for _ in range(2)) for _ in range(2))
    pad = tuple(draw(st.integers(1 - window[i // 2], 2)) for i in range(4))
    image = tuple(draw(st.integers(1, 6)) for _ in range(2))
    fits = all((image[a] - 1) * stride[a] + pad[2 * a] + pad[2 * a + 1] + window[a] > 0 for a in range(2))
    return {"window": window, "stride": stride, "pad": pad if fits else (0, 0, 0, 0), "image": image}


@given(shapes(), st.integers(1, 5), st.integers(1, 6), st.booleans(), st.integers(0, 1 << 30))
def test_agrees_with_scattered_products(
    shape: dict[str, tuple[int, ...]], channels: int, outputs: int, constant: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, weights = (
        values(rng, 2, *shape["image"], channels),
        values(rng, outputs, *shape["window"], channels),
    )
    bias = values(rng, outputs)
    convolved = transposed(image, weights, bias, shape["pad"], shape["stride"], constant=constant)
    np.testing.assert_allclose(
        convolved.run(), scattered(image, weights, bias, convolved), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("outputs", [1, 6])
def test_few_outputs_are_summed_across(outputs: int) -> None:
    rng = np.random.default_rng(0)
    image, weights = values(rng, 1, 5, 6, 24), values(rng, outputs, 3, 2, 24)
    bias = values(rng, outputs)
    convolved = transposed(image, weights, bias, (0, 1, 0, 0), (2, 2))
    straight = transposed(image, weights, bias, (0, 1, 0, 0), (2, 2), constant=False)
    expected = scattered(image, weights, bias, convolved)
    np.testing.assert_allclose(convolved.run(), expected, rtol=2e-5, atol=2e-5)
    assert convolved.kernel().cost < straight.kernel().cost


@given(shapes(), st.integers(1, 5), st.integers(1, 6), st.booleans(), st.integers(0, 1 << 30))
def test_i8_is_exact(
    shape: dict[str, tuple[int, ...]], channels: int, outputs: int, constant: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, weights = (
        integers(rng, np.int8, *size)
        for size in ((1, *shape["image"], channels), (outputs, *shape["window"], channels))
    )
    bias = integers(rng, np.int16, outputs).astype(np.int32)
    convolved = transposed(
        image,
        weights,
        bias,
        shape["pad"],
        shape["stride"],
        constant=constant,
        zero_points=(3, -5),
        result="i32",
    )
    exact = scattered(image.astype(np.int32) - 3, weights.astype(np.int32) + 5, bias, convolved)
    assert np.array_equal(convolved.run(), exact)


@pytest.mark.parametrize(("window", "stride", "limit"), [(2, 2, 1.7), (4, 2, 1.8), (3, 2, 1.75)])
def test_instructions_per_multiply_add(window: int, stride: int, limit: float) -> None:
    image, weights = np.zeros((1, 28, 28, 64), np.float32), np.zeros((32, window, window, 64), np.float32)
    convolved = transposed(image, weights, np.zeros(32, np.float32), (0, 0, 0, 0), (stride, stride))
    assert convolved.kernel().cost <= limit * image.size * weights[..., 0].size
