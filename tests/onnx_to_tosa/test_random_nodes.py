"""Random nodes of every operator of the registry: what TOSA computes against onnxruntime.

Each case gives equal results or is refused with an `UnsupportedNodesError`; a strategy that is always refused
fails. The default profile draws a few fixed cases of each op, `make fuzz` many fresh ones.
"""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from random_nodes import STRATEGIES, Case, cases
from single_node import check
from tosaic_passes.errors import UnsupportedNodesError
from tosaic_passes.onnx_to_tosa.registry import all_lowerings

EXAMPLES = max(3, settings.default.max_examples // 50)

ELSEWHERE = {
    ("Constant", ""): "has no operands; every initializer of these cases is one",
    ("If", ""): "holds graphs: test_control_flow.py",
    ("Loop", ""): "holds graphs: test_control_flow.py",
    ("Scan", ""): "holds graphs: test_control_flow.py",
    ("SimplifiedLayerNormalization", "com.microsoft"): "onnxruntime has it in ONNX's domain: test_fusion.py",
    ("QLinearSoftmax", "com.microsoft"): "has an attribute named opset: test_quantized_functions.py",
}
"""Operators that have no strategy, and why."""


def test_every_operator_has_a_strategy() -> None:
    registered = {(entry.op, entry.domain) for entry in all_lowerings()}
    assert registered - set(STRATEGIES) == set(ELSEWHERE)


@pytest.mark.parametrize(
    ("op", "domain"), sorted(STRATEGIES), ids=lambda part: part and part.removeprefix("com.")
)
def test_random_nodes(op: str, domain: str) -> None:
    compared = 0

    @settings(max_examples=EXAMPLES)
    @given(cases(op, domain))
    def agrees(case: Case) -> None:
        nonlocal compared
        try:
            arguments = vars(case) | case.attributes
            del arguments["attributes"]
            check(op, **arguments)
        except (UnsupportedNodesError, NoKernel) as error:
            if "please report" in str(error):
                raise
            event(f"{op}: {type(error).__name__}")
            return
        compared += 1

    agrees()
    assert compared
