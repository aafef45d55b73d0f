"""Errors travel between processes: what arrives is what was raised."""

from __future__ import annotations

import pickle

import pytest

from tosaic_passes.diagnostics import Diagnostic
from tosaic_passes.errors import LimitTooSmallError, TosaicError, UnsupportedNode, UnsupportedNodesError
from tosaic_passes.pipeline import NativePassError, PipelineError

ERRORS = {
    "with a remedy": TosaicError("it is wrong", "make it right"),
    "without": TosaicError("it is wrong"),
    "a pipeline": PipelineError("there is no pass 'x'", "see --list-passes"),
    "a native pass": NativePassError("line 2, column 8: wrong", [Diagnostic("error", "wrong", 2, 8)]),
    "a limit": LimitTooSmallError("tosa.conv2d 'c'", 5_000, 100),
    "a limit with a remedy": LimitTooSmallError("tosa.conv2d 'c'", 5_000, 100, "a limit of 5000 works"),
    "nodes": UnsupportedNodesError(
        [
            UnsupportedNode("n", "If", "no bound", "give one", 'loc("m.mlir":3:8)'),
            UnsupportedNode("m", "X", "r"),
        ]
    ),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_survives_pickling(error: TosaicError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_text_is_the_message_and_the_remedy() -> None:
    error = ERRORS["with a remedy"]
    assert (error.message, error.remedy, str(error)) == (
        "it is wrong",
        "make it right",
        "it is wrong; make it right",
    )
