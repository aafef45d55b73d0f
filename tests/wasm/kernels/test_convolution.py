"""conv2d and conv3d in f32: bit for bit against numpy in the same order, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import View
from wasm.kernels.products import Case, Geometry, case, convolutions, integers, ordered_convolution, values


def convolution(
    op: str,
    image: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    geometry: Geometry,
    constant: bool = True,
) -> Case:
    sizes = geometry.output(image.shape[1:-1], weights.shape[1:-1])
    inputs = [(image, False), (weights, constant), (bias, constant)]
    return case(op, inputs, (image.shape[0], *sizes, weights.shape[0]), geometry.attributes)


@pytest.mark.parametrize("op", ["conv2d", "conv3d"])
@given(data=st.data())
def test_equals_ordered_sums_bit_for_bit(op: str, data: st.DataObject) -> None:
    geometry, image_sizes, window = data.draw(convolutions(axes=2 if op == "conv2d" else 3))
    batch, channels = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 6))
    outputs, constant = data.draw(st.integers(1, 11)), data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    image, weights = values(rng, batch, *image_sizes, channels), values(rng, outputs, *window, channels)
    bias = values(rng, data.draw(st.sampled_from([1, outputs])))
    found = convolution(op, image, weights, bias, geometry, constant).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry, constant))


@pytest.mark.parametrize("outputs", [1, 2, 3, 9])
@pytest.mark.parametrize(
    ("channels", "window", "pad", "dilation"),
    [(8, 3, 1, 1), (4, 6, 0, 2), (1, 24, 0, 1), (1, 28, 5, 1), (1, 24, 0, 2), (6, 4, 0, 1)],
    ids=["channels", "dilated", "one channel", "one channel, padded", "taps apart", "not in fours"],
)
def test_few_outputs_are_summed_across(
    channels: int, window: int, pad: int, dilation: int, outputs: int
) -> None:
    rng = np.random.default_rng(0)
    image, weights = values(rng, 1, 2, 60, channels), values(rng, outputs, 1, window, channels)
    bias, geometry = values(rng, outputs), Geometry(((0, 0), (pad, pad)), (1, 2), (1, dilation))
    found = convolution("conv2d", image, weights, bias, geometry).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry))


@pytest.mark.parametrize("channels", [8, 1])
def test_the_order_of_additions_does_not_depend_on_where_the_input_lies(channels: int) -> None:
    rng = np.random.default_rng(0)
    image, weights = values(rng, 1, channels, 40, 40).transpose(0, 3, 2, 1), values(rng, 1, 3, 8, channels)
    bias, geometry = values(rng, 1), Geometry(((0, 0), (0, 0)), (1, 1), (1, 1))
    found = convolution("conv2d", image, weights, bias, geometry).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry))


def test_one_output_costs_little_more_than_a_quarter_of_four() -> None:
    """A vector with one column of four would cost as much as a full one."""
    rng = np.random.default_rng(0)
    image, geometry = values(rng, 1, 30, 30, 32), Geometry(((0, 0), (0, 0)), (1, 1), (1, 1))
    costs = [
        convolution("conv2d", image, values(rng, outputs, 3, 3, 32), values(rng, outputs), geometry)
        .kernel()
        .function.cost
        for outputs in (1, 4)
    ]
    assert costs[0] < 0.27 * costs[1]


@pytest.mark.parametrize(
    "dtypes", [(np.int8, np.int8, np.int32), (np.int16, np.int8, np.int64)], ids=["i8", "i16"]
)
@given(data=st.data())
def test_integers_are_exact(dtypes: tuple[type, type, type], data: st.DataObject) -> None:
    geometry, image_sizes, window = data.draw(convolutions(axes=2))
    channels, outputs = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    image, weights = (
        integers(rng, dtypes[0], 1, *image_sizes, channels),
        integers(rng, dtypes[1], outputs, *window, channels),
    )
    bias = rng.integers(-(1 << 20), 1 << 20, outputs).astype(dtypes[2])
    zeros = (
        data.draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
        if dtypes[0] == np.int8
        else (0, 0)
    )
    convolved = case(
        "conv2d",
        [(image, False), (weights, data.draw(st.booleans())), (bias, data.draw(st.booleans()))],
        (1, *geometry.output(image_sizes, window), outputs),
        geometry.attributes,
        zeros,
        "i32" if dtypes[0] == np.int8 else "i48",
    )
    exact = ordered_convolution(
        image.astype(np.float64) - zeros[0], weights.astype(np.float64) - zeros[1], bias, geometry
    )
    assert np.array_equal(convolved.run(), exact)


def test_input_may_be_part_of_a_larger_buffer() -> None:
    rng = np.random.default_rng(0)
    image, geometry = values(rng, 1, 9, 9, 8)[:, 1:8, 1:8, 2:7], Geometry(((1, 1), (1, 1)), (1, 1), (1, 1))
    weights, bias = values(rng, 6, 3, 3, 5), values(rng, 6)
    found = convolution("conv2d", image, weights, bias, geometry).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry))


@pytest.mark.parametrize("pad", [0, 1])
def test_input_may_be_channels_first(pad: int) -> None:
    rng = np.random.default_rng(0)
    image = values(rng, 2, 3, 12, 11).transpose(0, 2, 3, 1)
    geometry, weights, bias = (
        Geometry(((pad, pad),) * 2, (2, 2), (1, 1)),
        values(rng, 6, 3, 3, 3),
        values(rng, 6),
    )
    found = convolution("conv2d", image, weights, bias, geometry).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry))


def test_the_stride_of_a_single_channel_costs_nothing() -> None:
    """The taps along the window are a run, whatever lies between the channels that are not there."""
    rng = np.random.default_rng(0)
    image, weights, bias = values(rng, 1, 1, 70, 1), values(rng, 5, 1, 40, 1), values(rng, 5)
    geometry = Geometry(((0, 0), (0, 0)), (1, 3), (1, 1))
    row = np.lib.stride_tricks.as_strided(image, image.shape, (280, 280, 4, 280))
    costs = {
        convolution("conv2d", seen, weights, bias, geometry).kernel().function.cost for seen in (image, row)
    }
    assert len(costs) == 1


def test_output_may_be_part_of_a_larger_buffer() -> None:
    rng = np.random.default_rng(0)
    image, geometry = values(rng, 1, 5, 5, 3), Geometry(((0, 0), (0, 0)), (1, 1), (1, 1))
    weights, bias = values(rng, 7, 1, 1, 3), values(rng, 7)
    output = View("f32", (1, 5, 5, 7), (5 * 5 * 80, 5 * 80, 80, 4))
    found = case("conv2d", [(image, False), (weights, True), (bias, True)], output, geometry.attributes).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry))


def test_skipped_pixels_are_not_touched() -> None:
    """A 1x1 convolution with stride reads one row in 40: the pages between stay untouched (`run` compares them)."""
    rng = np.random.default_rng(0)
    image, geometry = values(rng, 1, 81, 20, 100), Geometry(((0, 0), (0, 0)), (40, 2), (1, 1))
    weights, bias = values(rng, 4, 1, 1, 100), values(rng, 4)
    found = convolution("conv2d", image, weights, bias, geometry).run()
    assert np.array_equal(found, ordered_convolution(image, weights, bias, geometry))


SAME = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))


@pytest.mark.parametrize(
    ("image", "outputs", "window", "geometry", "limit"),
    [
        ((14, 14, 96), 576, 1, Geometry(NONE, (1, 1), (1, 1)), 1.69),
        ((7, 7, 960), 320, 1, Geometry(NONE, (1, 1), (1, 1)), 1.69),
        ((112, 112, 32), 16, 1, Geometry(NONE, (1, 1), (1, 1)), 1.69),
        ((56, 56, 64), 64, 3, Geometry(SAME, (1, 1), (1, 1)), 1.68),
        ((56, 56, 64), 128, 3, Geometry(SAME, (2, 2), (1, 1)), 1.70),
        ((7, 7, 512), 512, 3, Geometry(SAME, (1, 1), (1, 1)), 1.68),
        ((224, 224, 3), 32, 3, Geometry(((0, 1), (0, 1)), (2, 2), (1, 1)), 1.72),
        ((224, 224, 3), 64, 7, Geometry(((3, 2), (3, 2)), (2, 2), (1, 1)), 1.70),
    ],
    ids=str,
)
def test_instructions_per_multiply_add(
    image: tuple[int, ...], outputs: int, window: int, geometry: Geometry, limit: float
) -> None:
    zeros = np.zeros((1, *image), np.float32)
    weights, bias = np.zeros((outputs, window, window, image[-1]), np.float32), np.zeros(outputs, np.float32)
    convolved = convolution("conv2d", zeros, weights, bias, geometry)
    assert convolved.kernel().cost <= limit * convolved.request.outputs[0].size * weights[0].size


def test_channels_first_costs_no_more_than_its_copy() -> None:
    image, weights = (
        np.zeros((1, 3, 224, 224), np.float32).transpose(0, 2, 3, 1),
        np.zeros((32, 3, 3, 3), np.float32),
    )
    geometry = Geometry(((0, 1), (0, 1)), (2, 2), (1, 1))
    first = convolution("conv2d", image, weights, np.zeros(32, np.float32), geometry).kernel()
    last = convolution(
        "conv2d", np.ascontiguousarray(image), weights, np.zeros(32, np.float32), geometry
    ).kernel()
    assert first.cost <= 1.01 * last.cost


@pytest.mark.parametrize(
    ("image", "outputs", "window", "limit"),
    [((14, 14, 96), 576, 1, 0.59), ((14, 14, 576), 96, 1, 0.59), ((56, 56, 64), 64, 3, 0.58)],
    ids=str,
)
def test_instructions_per_multiply_add_of_i8(
    image: tuple[int, ...], outputs: int, window: int, limit: float
) -> None:
    zeros, weights = np.zeros((1, *image), np.int8), np.zeros((outputs, window, window, image[-1]), np.int8)
    geometry = Geometry(((window // 2,) * 2,) * 2, (1, 1), (1, 1))
    inputs = [(zeros, False), (weights, True), (np.zeros(outputs, np.int32), True)]
    convolved = case("conv2d", inputs, (1, *image[:2], outputs), geometry.attributes, (3, 0), "i32")
    assert convolved.kernel().cost <= limit * convolved.request.outputs[0].size * weights[0].size
