"""Convolutions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from single_node import check

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def check_conv(
    x: np.ndarray, w: np.ndarray, *, op: str = "Conv", bias: bool = False, **attributes: object
) -> None:
    outputs = w.shape[0] if op == "Conv" else w.shape[1] * attributes.get("group", 1)
    operands = {"x": x, "w": w} | ({"b": normal(outputs)} if bias else {})
    check(
        op, operands, constants=[name for name in operands if name != "x"], rtol=1e-4, atol=1e-5, **attributes
    )


CONVOLUTIONS = {
    "one_axis": ((2, 3, 9), (4, 3, 3), {"strides": [2], "pads": [1, 0]}),
    "two_axes": ((1, 3, 7, 6), (4, 3, 3, 2), {"pads": [1, 0, 2, 1]}),
    "three_axes": ((1, 2, 4, 5, 6), (3, 2, 2, 3, 1), {"pads": [1, 0, 0, 1, 1, 0]}),
    "rest_taken_from_the_pad": ((1, 2, 8, 8), (3, 2, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "rest_taken_from_the_input": ((1, 2, 9, 9), (3, 2, 2, 2), {"strides": [3, 4]}),
    "window_of_pads_only": (
        (1, 2, 1, 3),
        (3, 2, 1, 2),
        {"strides": [2, 1], "pads": [1, 0, 0, 1], "bias": True},
    ),
    "dilated": ((1, 2, 9, 9), (3, 2, 3, 2), {"dilations": [2, 3], "pads": [2, 0, 0, 1]}),
    "depthwise": ((1, 4, 6, 6), (4, 1, 3, 3), {"group": 4, "bias": True}),
    "depthwise_with_multiplier": ((1, 4, 6, 6), (12, 1, 3, 3), {"group": 4, "bias": True}),
    "depthwise_along_one_axis": ((1, 4, 9), (8, 1, 3), {"group": 4}),
    "depthwise_along_three_axes": ((1, 3, 4, 4, 4), (3, 1, 2, 2, 2), {"group": 3}),
    "grouped": ((1, 4, 6, 6), (6, 2, 3, 3), {"group": 2, "bias": True}),
    "same_upper": ((1, 2, 6, 7), (3, 2, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same_lower": ((1, 2, 6, 7), (3, 2, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "valid": ((1, 2, 6, 7), (3, 2, 3, 4), {"auto_pad": "VALID"}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv(case: str) -> None:
    x, w, attributes = CONVOLUTIONS[case]
    check_conv(normal(*x), normal(*w), **attributes)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv_with_computed_weights(group: int) -> None:
    operands = {"x": normal(1, 4, 6, 6), "w": normal(4, 4 // group, 3, 3), "b": normal(4)}
    check("Conv", operands, group=group, rtol=1e-4, atol=1e-5)


TRANSPOSED = {
    "one_axis": ((2, 3, 5), (3, 4, 3), {"strides": [2]}),
    "pads": ((1, 3, 4, 5), (3, 2, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 3]}),
    "pads_beyond_the_kernel": ((1, 2, 8, 8), (2, 2, 2, 2), {"pads": [3, 2, 4, 1]}),
    "output_padding": (
        (1, 2, 3, 3),
        (2, 2, 3, 3),
        {"strides": [3, 2], "output_padding": [2, 1], "bias": True},
    ),
    "output_shape": ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [3, 2], "output_shape": [8, 6]}),
    "same_upper": ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same_lower": ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "dilated": ((1, 2, 3, 3), (2, 2, 3, 2), {"dilations": [2, 3], "strides": [2, 1]}),
    "grouped": (
        (1, 4, 3, 3),
        (4, 3, 3, 3),
        {"group": 2, "strides": [2, 2], "pads": [1, 1, 0, 0], "bias": True},
    ),
    "depthwise": ((1, 4, 3, 3), (4, 1, 3, 3), {"group": 4, "strides": [2, 2], "output_padding": [1, 1]}),
    "three_axes": ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), {"strides": [2, 1, 3], "pads": [0, 1, 0, 1, 0, 1]}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose(case: str) -> None:
    x, w, attributes = TRANSPOSED[case]
    check_conv(normal(*x), normal(*w), op="ConvTranspose", **attributes)


def test_conv_transpose_with_computed_weights() -> None:
    operands = {"x": normal(1, 4, 3, 3), "w": normal(4, 2, 3, 3)}
    check("ConvTranspose", operands, dilations=[2, 1], strides=[2, 2], rtol=1e-4, atol=1e-5)


WINDOW = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
PADS = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(st.lists(st.tuples(WINDOW, PADS), min_size=1, max_size=2), st.sampled_from([1, 2, 4]), st.booleans())
def test_any_conv(axes: list, group: int, bias: bool) -> None:
    sizes, kernel, strides, dilations = zip(*(window for window, _ in axes), strict=True)
    pads = [pair[side] for side in (0, 1) for _, pair in axes]
    for (size, taps, _, dilation), pair in axes:
        assume(size + sum(pair) > (taps - 1) * dilation)
    x, w = normal(1, 4, *sizes), normal(4, 4 // group, *kernel)
    check_conv(x, w, bias=bias, group=group, strides=strides, dilations=dilations, pads=pads)


@given(st.lists(st.tuples(WINDOW, PADS), min_size=1, max_size=2), st.sampled_from([1, 2, 4]), st.booleans())
def test_any_conv_transpose(axes: list, group: int, bias: bool) -> None:
    sizes, kernel, strides, dilations = zip(*(window for window, _ in axes), strict=True)
    pads = [pair[side] for side in (0, 1) for _, pair in axes]
    for (size, taps, stride, dilation), pair in axes:
        assume((size - 1) * stride + (taps - 1) * dilation + 1 > sum(pair))
    x, w = normal(1, 4, *sizes), normal(4, 2, *kernel)
    check_conv(
        x, w, op="ConvTranspose", bias=bias, group=group, strides=strides, dilations=dilations, pads=pads
    )
