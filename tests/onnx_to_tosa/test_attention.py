"""The order of cap and mask in ONNX's Attention, which onnx 1.22 turned round."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import reference_model
from single_node import check, lower, node_model
from tosaic_passes.onnx_to_tosa import grouped_attention

RNG = np.random.default_rng(6)
SHAPES = {
    "q": (2, 3, 4, 5),
    "k": (2, 3, 6, 5),
    "v": (2, 3, 6, 5),
    "mask": (4, 8),
    "past_key": (2, 3, 2, 5),
    "past_value": (2, 3, 2, 5),
}
OPERANDS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
SHOWN = [0, 1, 2, 3]
"""What the fourth result can be."""


@pytest.mark.parametrize("softcap", [0.0, 0.5])
@pytest.mark.parametrize("shown", SHOWN)
def test_scores_are_capped_first_as_onnxruntime_has_it(
    shown: int, softcap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouped_attention, "CAPS_FIRST", True)
    attributes = {"softcap": softcap, "qk_matmul_output_mode": shown}
    check("Attention", OPERANDS, opset=23, outputs=4, **attributes)


@pytest.mark.skipif(grouped_attention.CAPS_FIRST, reason="the onnx that is installed caps first")
@pytest.mark.parametrize("softcap", [0.0, 0.5])
@pytest.mark.parametrize("shown", SHOWN)
def test_scores_are_masked_first_where_the_installed_onnx_has_it_so(shown: int, softcap: float) -> None:
    attributes = {"softcap": softcap, "qk_matmul_output_mode": shown}
    model = node_model("Attention", OPERANDS, opset=23, outputs=4, **attributes)
    expected = ReferenceEvaluator(model).run(None, OPERANDS)
    for got, wanted in zip(reference_model.run(lower(model), list(OPERANDS.values())), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
