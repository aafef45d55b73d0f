"""depthwise_conv2d in f32: bit for bit against numpy in the same order, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import KernelOptions
from wasm.kernels.products import Case, Geometry, case, convolutions, integers, ordered_depthwise, values


def depthwise(
    image: np.ndarray, weights: np.ndarray, bias: np.ndarray, geometry: Geometry, constant: bool = True
) -> Case:
    sizes = geometry.output(image.shape[1:-1], weights.shape[:2])
    inputs = [(image, False), (weights, constant), (bias, constant)]
    output = (image.shape[0], *sizes, weights.shape[2] * weights.shape[3])
    return case("depthwise_conv2d", inputs, output, geometry.attributes)


@given(data=st.data())
def test_equals_ordered_sums_bit_for_bit(data: st.DataObject) -> None:
    geometry, image_sizes, window = data.draw(convolutions(axes=2))
    batch, channels, multiplier = (data.draw(st.integers(1, limit)) for limit in (2, 9, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    image = values(rng, batch, *image_sizes, channels)
    weights = values(rng, *window, channels, multiplier)
    bias = values(rng, data.draw(st.sampled_from([1, channels * multiplier])))
    found = depthwise(image, weights, bias, geometry, constant=data.draw(st.booleans())).run()
    assert np.array_equal(found, ordered_depthwise(image, weights, bias, geometry))


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [((np.int8, np.int8, np.int32), "i32"), ((np.int16, np.int8, np.int64), "i48")],
    ids=["i8", "i16"],
)
@given(data=st.data())
def test_integers_are_exact(dtypes: tuple[type, type, type], result: str, data: st.DataObject) -> None:
    geometry, image_sizes, window = data.draw(convolutions(axes=2))
    channels, multiplier, constant = (
        data.draw(st.integers(1, 18)),
        data.draw(st.integers(1, 3)),
        data.draw(st.booleans()),
    )
    zeros = data.draw(st.tuples(*[st.integers(-128, 127)] * 2)) if result == "i32" else (0, 0)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    image = integers(rng, dtypes[0], 1, *image_sizes, channels)
    weights = integers(rng, dtypes[1], *window, channels, multiplier)
    bias = rng.integers(-(1 << 20), 1 << 20, channels * multiplier).astype(dtypes[2])
    convolved = case(
        "depthwise_conv2d",
        [(image, False), (weights, constant), (bias, constant)],
        (1, *geometry.output(image_sizes, window), channels * multiplier),
        geometry.attributes,
        zeros,
        result,
    )
    values = image.astype(np.float64) - zeros[0], weights.astype(np.float64) - zeros[1]
    assert np.array_equal(convolved.run(), ordered_depthwise(*values, bias, geometry))


@given(convolutions(axes=2), st.integers(1, 19), st.integers(-128, 127), st.integers(0, 1 << 30))
def test_pairs_of_rows_are_exact(
    shape: tuple[Geometry, tuple[int, ...], tuple[int, ...]], channels: int, zero: int, seed: int
) -> None:
    geometry, image_sizes, window = shape
    rng = np.random.default_rng(seed)
    image = integers(rng, np.int8, 1, *image_sizes, channels)
    weights, bias = (
        integers(rng, np.int8, *window, channels, 1),
        integers(rng, np.int16, channels).astype(np.int32),
    )
    output = (1, *geometry.output(image_sizes, window), channels)
    inputs = [(image, False), (weights, True), (bias, True)]
    convolved = case("depthwise_conv2d", inputs, output, geometry.attributes, (zero, 0), "i32")
    exact = ordered_depthwise(image.astype(np.float64) - zero, weights.astype(np.float64), bias, geometry)
    assert np.array_equal(convolved.run(), exact)


@pytest.mark.parametrize("options", [KernelOptions(locals=40), KernelOptions(function_bytes=8_000)], ids=str)
def test_every_tile_choice_gives_the_same_bits(options: KernelOptions) -> None:
    rng = np.random.default_rng(0)
    image, weights, bias = values(rng, 1, 13, 17, 8), values(rng, 3, 3, 8, 1), values(rng, 8)
    convolved = depthwise(image, weights, bias, Geometry(((1, 1), (1, 1)), (1, 1), (1, 1)))
    assert np.array_equal(convolved.run(options), convolved.run())


def test_window_too_large_for_locals() -> None:
    rng = np.random.default_rng(0)
    image, weights, bias = values(rng, 1, 20, 19, 5), values(rng, 17, 15, 5, 1), values(rng, 5)
    geometry = Geometry(((8, 8), (7, 7)), (1, 1), (1, 1))
    found = depthwise(image, weights, bias, geometry).run()
    assert np.array_equal(found, ordered_depthwise(image, weights, bias, geometry))


@pytest.mark.parametrize(
    ("image", "window", "geometry", "limit"),
    [
        ((112, 112, 32), 3, Geometry(((1, 1), (1, 1)), (1, 1), (1, 1)), 1.67),
        ((112, 112, 96), 3, Geometry(((0, 1), (0, 1)), (2, 2), (1, 1)), 1.78),
        ((14, 14, 576), 3, Geometry(((1, 1), (1, 1)), (1, 1), (1, 1)), 1.53),
        ((56, 56, 96), 7, Geometry(((3, 3), (3, 3)), (1, 1), (1, 1)), 1.51),
    ],
    ids=str,
)
def test_instructions_per_multiply_add(
    image: tuple[int, ...], window: int, geometry: Geometry, limit: float
) -> None:
    zeros = np.zeros((1, *image), np.float32)
    weights, bias = np.zeros((window, window, image[-1], 1), np.float32), np.zeros(image[-1], np.float32)
    convolved = depthwise(zeros, weights, bias, geometry)
    assert convolved.kernel().cost <= limit * convolved.request.outputs[0].size * window**2


@pytest.mark.parametrize(
    ("image", "stride", "limit"),
    [((112, 112, 32), 1, 1.04), ((112, 112, 96), 2, 1.55), ((14, 14, 576), 1, 0.9)],
    ids=str,
)
def test_instructions_per_multiply_add_of_i8(image: tuple[int, ...], stride: int, limit: float) -> None:
    zeros, geometry = np.zeros((1, *image), np.int8), Geometry(((1, 1), (1, 1)), (stride, stride), (1, 1))
    inputs = [
        (zeros, False),
        (np.zeros((3, 3, image[-1], 1), np.int8), True),
        (np.zeros(image[-1], np.int32), True),
    ]
    output = (1, *geometry.output(image[:2], (3, 3)), image[-1])
    convolved = case("depthwise_conv2d", inputs, output, geometry.attributes, (3, 0), "i32")
    assert convolved.kernel().cost <= limit * convolved.request.outputs[0].size * 9
