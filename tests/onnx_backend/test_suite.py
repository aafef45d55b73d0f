"""The whole operator suite of the onnx package: what is listed passes, everything else is refused with a reason,
but for the few whose data contradict ONNX."""

from __future__ import annotations

import pytest

from onnx_backend import cases
from tosaic.errors import TosaicError


@pytest.mark.parametrize("case", cases.all_cases(), ids=lambda case: case.name)
def test_case(case: cases.Case) -> None:
    if case.name in cases.passing():
        cases.run(case)
        return
    with pytest.raises(cases.WrongResult if case.name in cases.DISPUTED else TosaicError):
        cases.run(case)


@pytest.mark.parametrize("name", cases.DISPUTED)
def test_where_the_data_are_wrong_onnxruntime_agrees(name: str) -> None:
    case = cases.Case(name)
    cases.run(case, case.onnxruntime_outputs())


def test_the_list_names_tests_that_exist() -> None:
    assert cases.passing() <= {case.name for case in cases.all_cases()}
