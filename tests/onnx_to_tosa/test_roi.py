"""RoiAlign against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from single_node import check, lower, node_model
from tosaic_passes.errors import UnsupportedNodesError

RNG = np.random.default_rng(9)
X = RNG.normal(size=(2, 3, 8, 10)).astype(np.float32)
ROIS = np.array([[1, 1, 6, 5], [0, 0, 12, 9], [-3, 2, 0.5, 2.5], [20, 20, 30, 30]], np.float32)
OPERANDS = {"x": X, "rois": ROIS, "images": np.array([0, 1, 1, 0], np.int64)}
BINS = {"output_height": 3, "output_width": 2}


@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_computed_at_run_time(mode: str, coordinates: str) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "sampling_ratio": 2}
    check("RoiAlign", OPERANDS, opset=16, spatial_scale=0.5, **BINS, **attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_constant_regions_are_sampled_by_their_size(mode: str) -> None:
    check("RoiAlign", OPERANDS, opset=16, constants=["rois"], mode=mode, **BINS)


def test_opset_10_does_not_shift() -> None:
    check("RoiAlign", OPERANDS, opset=10, sampling_ratio=1, **BINS)


def test_sampling_by_size_needs_constant_regions() -> None:
    model = node_model("RoiAlign", OPERANDS, opset=16, **BINS)
    with pytest.raises(UnsupportedNodesError, match="they are computed at run time"):
        lower(model)


@given(
    st.sampled_from(["half_pixel", "output_half_pixel"]),
    st.sampled_from(["avg", "max"]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(0, 3),
    st.sampled_from([0.25, 0.5, 1.0, 1.5]),
    st.integers(0, 2**32 - 1),
)
def test_any_regions(
    coordinates: str, mode: str, bins: tuple[int, int], samples: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-4, 14, size=(5, 2)), rng.uniform(0, 9, size=(5, 2))
    operands = {
        "x": rng.normal(size=(2, 2, 7, 9)).astype(np.float32),
        "rois": np.concatenate([corners[0], corners[0] + corners[1]], 1).astype(np.float32),
        "images": rng.integers(0, 2, size=5),
    }
    check(
        "RoiAlign",
        operands,
        opset=16,
        constants=["rois"] if samples == 0 else [],
        rtol=1e-3,
        atol=1e-4,
        coordinate_transformation_mode=coordinates,
        mode=mode,
        output_height=bins[0],
        output_width=bins[1],
        sampling_ratio=samples,
        spatial_scale=scale,
    )
