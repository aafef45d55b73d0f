"""TopK against onnxruntime, by both of its ways."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check


def top_k(x: np.ndarray, k: int, **attributes: int) -> None:
    check("TopK", {"x": x, "k": np.array([k])}, constants=["k"], outputs=2, **attributes)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("k", [1, 17, 20], ids=["selected", "ranked", "all"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_ties_come_by_index(largest: int, k: int, dtype: str) -> None:
    x = np.random.default_rng(k).integers(-3, 4, (3, 20)).astype(dtype)
    top_k(x, k, largest=largest)


def test_infinities_are_ordered_too() -> None:
    top_k(np.array([[-np.inf, 1.0, -np.inf, np.inf] * 5], np.float32), 2, largest=0)


def test_inner_axis() -> None:
    top_k(np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32), 3, axis=1)
