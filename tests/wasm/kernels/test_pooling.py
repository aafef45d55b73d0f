"""Pooling against numpy: borders, strides, windows of every size, integers by TOSA's own scaling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tosaic.wasm.kernel import Expression, KernelRequest, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, PRICES, operand_of, run_kernel


def pool(op, x, element, kernel, stride, pad, extra=(), epilogue=None, **attributes) -> np.ndarray:
    shape = output_shape(x.shape, kernel, stride, pad)
    operands = (operand_of(x, element), *(operand_of(array, kind) for kind, array in extra))
    attributes |= {"kernel": kernel, "stride": stride, "pad": pad}
    request = KernelRequest(op, operands, (View.contiguous(element, shape),), attributes, element, epilogue)
    return run_kernel(build(request, PRICES), request, [x, *(array for _, array in extra)])[0]


def output_shape(shape, kernel, stride, pad):
    rows = (shape[1] + pad[0] + pad[1] - kernel[0]) // stride[0] + 1
    columns = (shape[2] + pad[2] + pad[3] - kernel[1]) // stride[1] + 1
    return (shape[0], rows, columns, shape[3])


def windows(x, kernel, stride, pad):
    """(output index, the part of the window inside of the input) pairs."""
    _, rows, columns, _ = output_shape(x.shape, kernel, stride, pad)
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[2]
            yield (i, j), x[:, max(0, top) : top + kernel[0], max(0, left) : left + kernel[1]]


def expected_pool(op, x, kernel, stride, pad) -> np.ndarray:
    out = np.empty(output_shape(x.shape, kernel, stride, pad), x.dtype)
    for (i, j), window in windows(x, kernel, stride, pad):
        flat = window.reshape(window.shape[0], -1, window.shape[3])
        if op == "max_pool2d":
            out[:, i, j] = flat.max(1)
        else:
            total = flat[:, 0]
            for k in range(1, flat.shape[1]):
                total = total + flat[:, k]
            out[:, i, j] = total / np.float32(flat.shape[1])
    return out


CASES = {
    "2x2": ((1, 8, 8, 8), (2, 2), (2, 2), (0, 0, 0, 0)),
    "3x3 padded": ((1, 7, 9, 5), (3, 3), (2, 2), (1, 1, 1, 1)),
    "global": ((2, 7, 7, 20), (7, 7), (1, 1), (0, 0, 0, 0)),
    "large": ((1, 20, 20, 4), (15, 13), (3, 5), (2, 0, 0, 3)),
    "wider than the input": ((1, 3, 2, 3), (5, 5), (1, 1), (2, 2, 2, 2)),
    "row": ((1, 1, 30, 6), (1, 4), (1, 3), (0, 0, 1, 0)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_float(op: str, case: str) -> None:
    shape, *geometry = CASES[case]
    x = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    np.testing.assert_array_equal(pool(op, x, "f32", *geometry), expected_pool(op, x, *geometry))


@given(
    st.data(),
    st.integers(1, 10),
    st.integers(1, 10),
    st.integers(1, 6),
    st.sampled_from(["max_pool2d", "avg_pool2d"]),
)
def test_any_geometry(data, height, width, channels, op) -> None:
    kernel, stride = ((data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))) for _ in range(2))
    pad = tuple(data.draw(st.integers(0, kernel[i // 2] - 1)) for i in range(4))
    assume(height + pad[0] + pad[1] >= kernel[0] and width + pad[2] + pad[3] >= kernel[1])
    x = np.random.default_rng(2).normal(0, 1, (1, height, width, channels)).astype(np.float32)
    found = pool(op, x, "f32", kernel, stride, pad)
    np.testing.assert_array_equal(found, expected_pool(op, x, kernel, stride, pad))


@pytest.mark.parametrize("element", ["i8", "i16"])
def test_integer_average_with_zero_points(element: str) -> None:
    x = np.random.default_rng(3).integers(-128, 128, (1, 6, 5, 7)).astype(DTYPES[element])
    zero_points = (7, -5) if element == "i8" else (0, 0)
    geometry = ((3, 2), (2, 1), (1, 1, 0, 1))
    found = pool("avg_pool2d", x, element, *geometry, input_zp=zero_points[0], output_zp=zero_points[1])
    info = np.iinfo(x.dtype)
    for (i, j), window in windows(x, *geometry):
        count = window.shape[1] * window.shape[2]
        total = window.astype(int).sum((1, 2)) - count * zero_points[0]
        exponent = (count - 1).bit_length()
        scaled = (total * ((((1 << 30) + 1) << exponent) // count) + (1 << 29 + exponent)) >> 30 + exponent
        np.testing.assert_array_equal(found[:, i, j], np.clip(scaled + zero_points[1], info.min, info.max))


def test_integer_maximum() -> None:
    x = np.random.default_rng(4).integers(-128, 128, (1, 6, 5, 7)).astype(np.int8)
    geometry = ((3, 3), (1, 2), (1, 1, 1, 1))
    np.testing.assert_array_equal(
        pool("max_pool2d", x, "i8", *geometry), expected_pool("max_pool2d", x, *geometry)
    )


def test_epilogue_across_the_border_regions() -> None:
    x, b, c = (
        np.random.default_rng(5).normal(0, 1, s).astype(np.float32)
        for s in ((1, 5, 5, 6), (1, 3, 3, 6), (6,))
    )
    nodes = (
        ("result", (), ()),
        ("input", (1,), ()),
        ("add", (0, 1), ()),
        ("input", (2,), ()),
        ("mul", (2, 3), ()),
    )
    geometry = ((3, 3), (2, 2), (1, 1, 1, 1))
    c = c.reshape(1, 1, 1, 6)
    extra = [("f32", b), ("f32", c)]
    found = pool("max_pool2d", x, "f32", *geometry, extra=extra, epilogue=Expression(nodes, ("f32",) * 5))
    np.testing.assert_array_equal(found, (expected_pool("max_pool2d", x, *geometry) + b) * c)


@pytest.mark.parametrize(("stride", "height"), [((1, 1), 5), ((4, 1), 9), ((3, 2), 8)])
def test_pages_of_rows_that_no_window_covers_are_not_claimed(stride, height: int) -> None:
    """Rows of more than a page: those between and behind the windows stay untouched."""
    x = np.random.default_rng(6).normal(0, 1, (1, height, 70, 300)).astype(np.float32)
    geometry = ((1, 2), stride, (0, 0, 0, 0))
    np.testing.assert_array_equal(
        pool("max_pool2d", x, "f32", *geometry), expected_pool("max_pool2d", x, *geometry)
    )
