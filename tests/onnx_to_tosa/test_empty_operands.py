"""Operands without elements that give results with elements, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

import reference_model
from single_node import check, lower, node_model
from tosaic_passes.errors import UnsupportedNodesError


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def test_a_product_over_no_elements_is_zero() -> None:
    check("MatMul", {"a": zeros(2, 3, 0), "b": zeros(0, 4)})


def test_a_product_over_no_elements_leaves_the_bias() -> None:
    check("Gemm", {"a": zeros(2, 0), "b": zeros(0, 3), "c": np.arange(3, dtype=np.float32)})


def test_an_integer_product_over_no_elements_is_zero() -> None:
    """onnxruntime leaves its memory unwritten here."""
    inputs = {"a": zeros(2, 0, dtype="uint8"), "b": zeros(0, 3, dtype="int8")}
    (sums,) = reference_model.run(lower(node_model("MatMulInteger", inputs, opset=10)), list(inputs.values()))
    np.testing.assert_array_equal(sums, zeros(2, 3, dtype="int32"))


def test_a_scatter_of_nothing_changes_nothing() -> None:
    data = np.arange(6, dtype=np.float32).reshape(3, 2)
    check("ScatterND", {"x": data, "i": zeros(0, 1, dtype="int64"), "u": zeros(0, 2)})


def test_the_state_after_no_steps_is_the_initial_one() -> None:
    """onnxruntime aborts here."""
    w, r, h = zeros(1, 6, 2), zeros(1, 6, 2), np.ones((1, 1, 2), np.float32)
    inputs = {"x": zeros(0, 1, 2), "w": w, "r": r, "": zeros(0), " ": zeros(0), "h": h}
    model = node_model("GRU", inputs, opset=14, outputs=2, hidden_size=2, constants=["w", "r"])
    outputs, last = reference_model.run(lower(model), [inputs["x"], h])
    assert outputs.shape == (0, 1, 1, 2)
    np.testing.assert_array_equal(last, h)


@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("GlobalMaxPool", (1, 2, 0), {}),
        ("ReduceMean", (0, 2), {"axes": [0]}),
        ("GlobalAveragePool", (1, 2, 0), {}),
    ],
)
def test_what_is_not_defined_is_refused(op: str, shape: tuple[int, ...], attributes: dict) -> None:
    model = node_model(op, {"x": zeros(*shape)}, opset=13, **attributes)
    with pytest.raises(UnsupportedNodesError, match="an operand has no elements"):
        lower(model)
