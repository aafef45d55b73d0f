"""Operators that keep some of the elements, as many as the model declares, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

import reference_model
from frontend_models import model
from single_node import check_model, lower

RANDOM = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("axis", "shape"), [(0, "2, 3"), (-1, "4, 2")])
def test_compress_along_an_axis(axis: int, shape: str) -> None:
    condition = np.array([False, True, True, False] if axis == 0 else [True, False, True])
    graph = f"""g (float[4, 3] x, bool[{condition.size}] c) => (float[{shape}] y) {{
        y = Compress<axis = {axis}>(x, c) }}"""
    check_model(model(graph), {"x": floats(4, 3), "c": condition})


def test_compress_of_all_elements_with_a_short_condition() -> None:
    graph = "g (float[4, 3] x, bool[5] c) => (float[3] y) { y = Compress(x, c) }"
    check_model(model(graph), {"x": floats(4, 3), "c": np.array([True, False, True, False, True])})


def test_compress_by_a_constant_needs_no_declaration() -> None:
    graph = "g (float[4, 3] x) => (float[N, 3] y) <bool[4] c = {1, 0, 0, 1}> { y = Compress<axis = 0>(x, c) }"
    check_model(model(graph), {"x": floats(4, 3)})


def test_more_results_than_elements_are_refused() -> None:
    graph = "g (float[4] x, bool[4] c) => (float[9] y) { y = Compress(x, c) }"
    with pytest.raises(Exception, match="declares 9 results of 4 elements"):
        lower(model(graph))


def test_non_zero() -> None:
    graph = "g (float[2, 3, 2] x) => (int64[3, 5] y) { y = NonZero(x) }"
    x = np.zeros((2, 3, 2), np.float32)
    x.flat[[0, 3, 4, 9, 11]] = [1, -2, 0.5, np.inf, 3]
    check_model(model(graph), {"x": x})


@pytest.mark.parametrize("is_sorted", [0, 1])
def test_unique_numbers(is_sorted: int) -> None:
    graph = f"""g (float[2, 4] x) => (float[5] y, int64[5] i, int64[8] r, int64[5] n) {{
        y, i, r, n = Unique<sorted = {is_sorted}>(x) }}"""
    check_model(model(graph), {"x": np.array([[3, -1, 3, 0], [7, -1, 2, 3]], np.float32)})


@pytest.mark.parametrize("is_sorted", [0, 1])
def test_unique_slices(is_sorted: int) -> None:
    graph = f"""g (int64[2, 5] x) => (int64[2, 3] y, int64[3] i, int64[5] r, int64[3] n) {{
        y, i, r, n = Unique<axis = 1, sorted = {is_sorted}>(x) }}"""
    check_model(model(graph), {"x": np.array([[2, 1, 2, 1, 2], [0, 5, 0, 3, 0]])})


@pytest.mark.parametrize("rounds", [3, 40])
@pytest.mark.parametrize("centred", [0, 1])
def test_non_max_suppression(rounds: int, centred: int) -> None:
    places = RANDOM.uniform(0, 10, (2, 50, 2))
    sizes = RANDOM.uniform(1, 3, (2, 50, 2))
    corners = [places, sizes] if centred else [places, places + sizes]
    boxes = np.concatenate(corners, 2).astype(np.float32)
    scores = RANDOM.permutation(200).reshape(2, 2, 50).astype(np.float32) / 200
    text = """g (float[2, 50, 4] b, float[2, 2, 50] s) => (int64[COUNT, 3] y)
        <int64 n = {ROUNDS}, float iou = {0.3}, float least = {0.2}> {
        y = NonMaxSuppression<center_point_box = CENTRED>(b, s, n, iou, least) }"""
    text = text.replace("ROUNDS", str(rounds)).replace("CENTRED", str(centred))
    fed = {"b": boxes, "s": scores}
    count = len(onnxruntime_result(text.replace("COUNT", "N"), fed))
    assert count >= 12
    check_model(model(text.replace("COUNT", str(count))), fed)


def onnxruntime_result(graph: str, fed: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(model(graph).SerializeToString()).run(None, fed)[0]


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter_writes_from_a_row_on(mode: str) -> None:
    header = '<ir_version: 10, opset_import: ["": 24]> '
    graph = f"""g (float[2, 2, 4, 3] past, float[2, 2, 2, 3] new, int64[2] at) => (float[2, 2, 4, 3] y) {{
        y = TensorScatter<mode = "{mode}">(past, new, at) }}"""
    past, new, at = floats(2, 2, 4, 3), floats(2, 2, 2, 3), np.array([1, 3 if mode == "circular" else 2])
    expected = past.copy()
    for row in range(2):
        expected[row][:, (at[row] + np.arange(2)) % 4] = new[row]
    actual = reference_model.run(lower(model(graph, header)), [past, new, at])
    np.testing.assert_array_equal(actual[0], expected)
