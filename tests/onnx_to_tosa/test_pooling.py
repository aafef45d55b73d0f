"""Poolings against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from single_node import check

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


WINDOWS = {
    "one_axis": ((2, 3, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
    "two_axes": ((1, 3, 7, 6), {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]}),
    "three_axes": (
        (2, 2, 5, 6, 7),
        {"kernel_shape": [2, 3, 3], "strides": [1, 2, 3], "pads": [1, 1, 0, 0, 1, 2]},
    ),
    "rest_is_dropped": ((1, 2, 9, 10), {"kernel_shape": [2, 3], "strides": [4, 3]}),
    "last_window_hangs_over": (
        (1, 2, 9, 10),
        {"kernel_shape": [3, 3], "strides": [4, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    "same_upper": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same_lower": ((1, 2, 6, 7), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "dilated": (
        (1, 2, 9, 9),
        {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 0, 1], "strides": [1, 2]},
    ),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool(case: str) -> None:
    shape, attributes = WINDOWS[case]
    check("MaxPool", {"x": normal(*shape)}, **attributes)


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_average_pool(case: str, count_include_pad: int) -> None:
    shape, attributes = WINDOWS[case]
    check("AveragePool", {"x": normal(*shape)}, opset=19, count_include_pad=count_include_pad, **attributes)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("case", [case for case in WINDOWS if "hangs" not in case])
def test_lp_pool(case: str, p: int) -> None:
    shape, attributes = WINDOWS[case]
    check("LpPool", {"x": normal(*shape)}, opset=18, p=p, rtol=1e-4, atol=1e-5, **attributes)


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("case", [case for case in WINDOWS if "axes" in case or case == "dilated"])
def test_max_pool_with_indices(case: str, storage_order: int) -> None:
    shape, attributes = WINDOWS[case]
    x = RNG.integers(0, 3, shape).astype(np.float32)
    check("MaxPool", {"x": x}, outputs=2, storage_order=storage_order, **attributes)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pool_of_bytes(dtype: type) -> None:
    x = np.arange(36, dtype=dtype).reshape(1, 1, 6, 6) * np.array(7, dtype)
    check("MaxPool", {"x": x}, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 4), (1, 2, 3, 4, 5)], ids=str)
def test_global_pool(op: str, shape: tuple[int, ...]) -> None:
    check(op, {"x": normal(*shape)})


WINDOW = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
AXES = st.lists(st.tuples(WINDOW, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=2)


@given(st.sampled_from(["MaxPool", "AveragePool"]), AXES, st.booleans())
def test_any_pool(op: str, axes: list, ceil_mode: bool) -> None:
    for (size, taps, stride, dilation), begin, end in axes:
        room = size + begin + end - (taps - 1) * dilation - 1
        assume(room >= 0 and max(begin, end) < taps and dilation <= size)
        assume(not ceil_mode or -(-room // stride) * stride < size + begin)  # onnx and onnxruntime disagree
    sizes, kernel, strides, dilations = zip(*(window for window, _, _ in axes), strict=True)
    pads = [begin for _, begin, _ in axes] + [end for _, _, end in axes]
    windows = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    check(op, {"x": normal(1, 2, *sizes)}, opset=19, ceil_mode=int(ceil_mode), **windows)
