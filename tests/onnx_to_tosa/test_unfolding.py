"""Col2Im and MaxUnpool against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from single_node import check, lower, node_model
from tosaic_passes.errors import UnsupportedNodesError

RNG = np.random.default_rng(11)


@pytest.mark.parametrize(
    ("image", "block", "attributes"),
    [
        ([5, 5], [2, 3], {}),
        ([6, 7], [3, 3], {"strides": [2, 3], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
        ([4, 6], [2, 2], {"strides": [2, 2]}),
        ([9], [3], {"strides": [4]}),
        ([3, 4, 5], [2, 2, 2], {}),
    ],
    ids=str,
)
def test_col2im(image: list[int], block: list[int], attributes: dict[str, list[int]]) -> None:
    check_col2im(image, block, **attributes)


def check_col2im(image: Sequence[int], block: Sequence[int], **attributes: Sequence[int]) -> None:
    rank = len(image)
    strides, pads = attributes.get("strides", [1] * rank), attributes.get("pads", [0] * 2 * rank)
    dilations = attributes.get("dilations", [1] * rank)
    counts = [
        (image[i] + pads[i] + pads[i + rank] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i in range(rank)
    ]
    x = RNG.normal(size=(2, 3 * int(np.prod(block)), int(np.prod(counts)))).astype(np.float32)
    operands = {"x": x, "image": np.array(image), "block": np.array(block)}
    check("Col2Im", operands, opset=18, constants=["image", "block"], **attributes)


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(st.tuples(st.integers(7, 9), st.integers(7, 9)), PAIRS, PAIRS, PAIRS, st.tuples(PAIRS, PAIRS))
def test_any_col2im(
    image: tuple[int, int],
    block: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    widths = [width - 1 for pair in pads for width in pair]
    check_col2im(image, block, strides=strides, dilations=dilations, pads=widths)


def test_max_unpool() -> None:
    x = RNG.normal(size=(1, 2, 2, 2)).astype(np.float32)
    indices = np.array([[[[0, 3], [9, 14]], [[17, 22], [28, 27]]]], np.int64)
    check("MaxUnpool", {"x": x, "i": indices}, opset=11, kernel_shape=[2, 2], strides=[2, 2])


def test_max_unpool_refuses_overlapping_windows() -> None:
    x = np.zeros((1, 1, 2, 2), np.float32)
    operands = {"x": x, "i": np.zeros(x.shape, np.int64)}
    model = node_model("MaxUnpool", operands, opset=11, kernel_shape=[3, 3], strides=[2, 2])
    with pytest.raises(UnsupportedNodesError, match="its windows overlap"):
        lower(model)
