"""Shapes, slices, padding and indexing against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

X = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)


def constant_operands(**values: list[int]) -> dict:
    return {name: np.array(value, np.int64) for name, value in values.items()}


SLICES = [
    ("inside", {"starts": [1], "ends": [3], "axes": [2], "steps": [1]}),
    ("step", {"starts": [0, 1], "ends": [3, 5], "axes": [1, 2], "steps": [2, 3]}),
    ("last_group_is_whole", {"starts": [0], "ends": [4], "axes": [2], "steps": [2]}),
    ("backwards", {"starts": [-1], "ends": [-(2**63)], "axes": [2], "steps": [-1]}),
    ("backwards_by_two", {"starts": [10], "ends": [0], "axes": [2], "steps": [-2]}),
    ("end_beyond", {"starts": [-3], "ends": [2**63 - 1], "axes": [-1], "steps": [1]}),
]


@pytest.mark.parametrize("bounds", [bounds for _, bounds in SLICES], ids=[name for name, _ in SLICES])
def test_slice(bounds: dict) -> None:
    check("Slice", {"x": X, **constant_operands(**bounds)}, constants=list(bounds))


def test_slice_with_attributes() -> None:
    check("Slice", {"x": X}, opset=9, starts=[1, -2], ends=[3, 100], axes=[1, 2])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad(mode: str) -> None:
    operands = {"x": X, "pads": np.array([0, 1, 2, 0, 2, 4])}
    check("Pad", operands, constants=["pads"], mode=mode)


def test_pad_wraps() -> None:
    check("Pad", {"x": X, "pads": np.array([0, 0, 3, 0, 0, 4])}, opset=19, constants=["pads"], mode="wrap")


def test_pad_with_negative_widths_cuts() -> None:
    check("Pad", {"x": X, "pads": np.array([0, -1, 2, 0, 0, -3])}, constants=["pads"])


def test_pad_of_chosen_axes_with_a_value() -> None:
    operands = {"x": X, "pads": np.array([1, 2]), "value": np.array(7.5, np.float32), "axes": np.array([-1])}
    check("Pad", operands, opset=18, constants=["pads", "value", "axes"])


def test_split_by_sizes() -> None:
    check("Split", {"x": X, "split": np.array([1, 4])}, constants=["split"], axis=2, outputs=2)


def test_concat_of_negative_axis() -> None:
    check("Concat", {"a": X, "b": X[:, :, :2]}, axis=-1)


@pytest.mark.parametrize("perm", [None, [2, 0, 1]], ids=str)
def test_transpose(perm: list[int] | None) -> None:
    check("Transpose", {"x": X}, **({} if perm is None else {"perm": perm}))


def test_expand_broadcasts_both_ways() -> None:
    operands = {"x": X[:, :1], "shape": np.array([4, 1, 3, 1])}
    check("Expand", operands, constants=["shape"])


def test_tile() -> None:
    check("Tile", {"x": X, "repeats": np.array([1, 2, 3])}, constants=["repeats"])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    x = np.arange(2 * 8 * 2 * 3, dtype=np.float32).reshape(2, 8, 2, 3)
    check("DepthToSpace", {"x": x}, blocksize=2, mode=mode)


def test_space_to_depth() -> None:
    check("SpaceToDepth", {"x": np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)}, blocksize=2)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [1, [0, -1], [[1, 0], [0, 0]]], ids=str)
@pytest.mark.parametrize("constants", [[], ["indices"]], ids=["computed", "constant"])
def test_gather(axis: int, indices: list[int], constants: list[str]) -> None:
    check("Gather", {"x": X, "indices": np.array(indices, np.int64)}, axis=axis, constants=constants)


def test_gather_of_bool() -> None:
    check("Gather", {"x": X > 7, "indices": np.array([1, 0, 1])}, axis=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_elements_of_a_part(axis: int) -> None:
    indices = np.random.default_rng(1).integers(-2, 2, (2, 2, 3))
    check("GatherElements", {"x": X, "indices": indices}, axis=axis)


def test_gather_nd() -> None:
    check("GatherND", {"x": X, "indices": np.array([[0, 1], [-1, 2], [1, 0]])})


def test_gather_nd_of_a_batch() -> None:
    check("GatherND", {"x": X, "indices": np.array([[[1, 4]], [[2, -1]]])}, batch_dims=1)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    operands = {
        "i": np.array([[1, -1], [3, 0]]),
        "depth": np.array(4),
        "v": np.array([-1.0, 2.0], np.float32),
    }
    check("OneHot", operands, constants=["depth"], axis=axis)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-1, 0, 2])
def test_trilu(upper: int, k: int) -> None:
    check("Trilu", {"x": X, "k": np.array(k)}, constants=["k"], upper=upper)


@pytest.mark.parametrize("constants", [[], ["n"]], ids=["computed", "constant"])
@pytest.mark.parametrize(("batch_axis", "lengths"), [(0, [2, 3]), (1, [2, 1, 2])])
def test_reverse_sequence(batch_axis: int, lengths: list[int], constants: list[str]) -> None:
    operands = {"x": X, "n": np.array(lengths)}
    check("ReverseSequence", operands, constants=constants, batch_axis=batch_axis, time_axis=1 - batch_axis)


def test_dropout_of_inference_keeps_everything() -> None:
    check("Dropout", {"x": X}, outputs=2)


def test_concat_of_more_parts_than_tosa_lists() -> None:
    check("Concat", {f"x{i}": X[:, :, :1] + i for i in range(70)}, axis=2)
