"""`--check` finds wrong outputs and wrong predictions."""

from __future__ import annotations

import numpy as np
import pytest

from models import PERCEPTRON, write_model
from tosaic import check
from tosaic.errors import TosaicError
from tosaic.model import ExecutedMessage, RunResult


class Answers:
    """A model that answers with its input, changed as a test says."""

    def __init__(self, change=lambda y: y, metered=10, exact=True):
        self.change, self.metered, self.exact = change, metered, exact

    def random_inputs(self, seed):
        return {"x": np.full((2, 3), float(seed + 1))}

    def run(self, inputs):
        message = ExecutedMessage("infer", 10, self.metered, 100, 0, self.exact)
        return RunResult({"y": self.change(inputs["x"])}, [message], 0, self.metered)


@pytest.fixture(autouse=True)
def reference(monkeypatch):
    monkeypatch.setattr(check, "_reference", lambda file, names, inputs: {"y": inputs["x"]})


def spoil(y):
    y = y.copy()
    y[1, 2] += 0.01
    return y


@pytest.mark.parametrize(
    "model",
    [Answers(), Answers(lambda y: y * (1 + 5e-4)), Answers(metered=9, exact=False)],
    ids=["equal", "close", "below its bound"],
)
def test_right_models_pass(model):
    check.check_against_onnx(model, "model.onnx", runs=3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Answers(spoil),
            r"check 0: output 'y' differs .* in 1 of 6 values; at \[1, 2\] it is 1.01 instead of 1",
        ),
        (Answers(lambda y: y * np.nan), "in 6 of 6 values"),
        (Answers(lambda y: y[:1]), r"has shape \(1, 3\) instead of \(2, 3\)"),
        (Answers(metered=11), "took 11 instructions, 10 were predicted"),
        (Answers(metered=9), "took 9 instructions, 10 were predicted"),
        (Answers(metered=11, exact=False), "took 11 instructions, 10 were predicted"),
    ],
    ids=["one value", "NaN", "shape", "above", "below", "above its bound"],
)
def test_wrong_models_are_found(model, message):
    with pytest.raises(TosaicError, match=message):
        check.check_against_onnx(model, "model.onnx", runs=3)


def test_the_reference_runs_the_model(tmp_path, monkeypatch):
    monkeypatch.undo()
    file = write_model(PERCEPTRON, tmp_path / "model.onnx")
    outputs = check._reference(file, ["y"], {"x": np.zeros((1, 8), np.float32)})
    assert outputs["y"].shape == (1, 3)
