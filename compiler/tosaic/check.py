"""`--check`: the canister's outputs against those of an independent runtime, on random inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tosaic.errors import TosaicError
from tosaic.model import Model, RunResult

RTOL, ATOL = 1e-3, 1e-4


def check_against_onnx(model: Model, onnx_file: Path, runs: int) -> None:
    """Run the model here and in onnxruntime (the onnx package's own reference where that is not installed).

    The inputs are `model.random_inputs(0)` to `random_inputs(runs - 1)`. Raises TosaicError at the first output
    that differs by more than 1e-4 + 1e-3 * |expected|, and when metered is not what was predicted.
    """
    for seed in range(runs):
        inputs = model.random_inputs(seed)
        result = model.run(inputs)
        _compare_costs(result, seed)
        for name, expected in _reference(onnx_file, list(result.outputs), inputs).items():
            _compare(name, result.outputs[name], np.asarray(expected), seed)


def _reference(onnx_file: Path, names: list[str], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        values = ReferenceEvaluator(str(onnx_file)).run(names, inputs)
    else:
        session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
        values = session.run(names, inputs)
    return dict(zip(names, values))


def _compare(name: str, found: np.ndarray, expected: np.ndarray, seed: int) -> None:
    if found.shape != expected.shape:
        raise TosaicError(
            f"check {seed}: output '{name}' has shape {found.shape} instead of {expected.shape}"
        )
    wide, reference = found.astype(np.float64), expected.astype(np.float64)
    close = np.isclose(wide, reference, rtol=RTOL, atol=ATOL, equal_nan=True)
    if not close.all():
        worst = np.unravel_index(np.argmax(np.where(close, 0, np.abs(wide - reference))), close.shape)
        raise TosaicError(
            f"check {seed}: output '{name}' differs from the reference in {(~close).sum()} of {close.size} values; "
            f"at {[int(i) for i in worst]} it is {wide[worst]:.6g} instead of {reference[worst]:.6g}"
        )


def _compare_costs(result: RunResult, seed: int) -> None:
    for message in result.messages:
        wrong = message.metered != message.predicted if message.exact else message.metered > message.predicted
        if wrong:
            raise TosaicError(
                f"check {seed}: message '{message.name}' took {message.metered:,} instructions, "
                f"{message.predicted:,} were predicted"
            )
