"""The operator tests that ship in the onnx package: what each asks, and what becomes of it.

python tests/onnx_backend/cases.py [-j N]       write passing.txt anew
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

if TYPE_CHECKING:
    from tosaic_passes.program import Program

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = ("node", "simple", "pytorch-operator", "pytorch-converted")
PASSING = Path(__file__).with_name("passing.txt")

TOLERANCES = {
    "float16": (1e-2, 1e-3),
    "bfloat16": (2e-2, 1e-2),
    "float32": (1e-3, 1e-5),
    "float64": (1e-3, 1e-5),
}
"""dtype -> (rtol, atol); fp8 results may be a step off, integers must be equal."""
ONE_STEP_OF_FP8 = (0.13, 1e-2)

SHAPE_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "CumProd": (1,), "CumSum": (1,), "DFT": (1, 2), "Dropout": (1, 2), "Expand": (1,), "HammingWindow": (0,),
    "HannWindow": (0,), "Loop": (0, 1), "MaxUnpool": (2,), "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2, 3, 4), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (1, 2, 3), "STFT": (1, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,),
    "TopK": (1,), "Trilu": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    **{f"Reduce{kind}": (1,) for kind in (
        "L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")},
}  # fmt: skip
"""Operands that decide shapes. The suite passes them at run time; a user binds them with `--constant`, so do we."""


DISPUTED = {
    f"node/test_qlinearmatmul_{rank}_int8_{scales}": (
        "ONNX says y = saturate(x / y_scale + y_zero_point), and onnxruntime does; the data of onnx 1.21 were made "
        "by a cast to int8 without saturating: a sum of -236 became 20 instead of -128. onnx 1.22 has -128"
    )
    for rank in ("2D", "3D")
    for scales in ("float16", "float32")
}
"""Tests whose data contradict the specification: name -> why. They are held against onnxruntime instead."""


class WrongResult(AssertionError):
    """TOSA that computes something else than ONNX says."""


@dataclass(frozen=True)
class Case:
    """One test: a folder with a model and its data."""

    name: str

    @property
    def folder(self) -> Path:
        return DATA / self.name

    def model(self) -> onnx.ModelProto:
        return onnx.load(self.folder / "model.onnx")

    def onnxruntime_outputs(self) -> list[np.ndarray]:
        """What onnxruntime gives for the first data set."""
        import onnxruntime

        session = onnxruntime.InferenceSession(self.folder / "model.onnx")
        names = [value.name for value in session.get_inputs()]
        return session.run(None, dict(zip(names, self.data("input"), strict=True)))

    def data(self, kind: str) -> list[np.ndarray]:
        """The first data set's inputs or outputs."""
        folder = self.folder / "test_data_set_0"
        count = len(list(folder.glob(f"{kind}_*.pb")))
        return [_read(folder / f"{kind}_{index}.pb") for index in range(count)]


def all_cases() -> Iterator[Case]:
    for folder in FOLDERS:
        for model in sorted((DATA / folder).glob("*/model.onnx")):
            if any(model.parent.glob("test_data_set_*")):
                yield Case(f"{folder}/{model.parent.name}")


@cache
def passing() -> frozenset[str]:
    """The names of the tests that have to pass."""
    return frozenset(PASSING.read_text().split())


def run(case: Case, wanted: Sequence[np.ndarray] | None = None) -> None:
    """Lower a test, validate the TOSA, run it and compare with what is wanted (the test's own data).

    It runs on the reference model or, where a tensor without elements comes in or out, which that cannot load, in
    the replica.

    Raises TosaicError where tosaic refuses the model, WrongResult where the numbers differ.
    """
    import reference_model
    from tosaic import frontend
    from tosaic_passes.convert_onnx_to_tosa import ConvertOnnxToTosaPass
    from tosaic_passes.onnx_to_tosa.registry import is_lowered
    from tosaic_passes.pipeline import parse_pipeline, run_pipeline

    model = case.model()
    constants = _shape_inputs(model) | _shape_inputs_of_operator(case)
    fed, bound = _split_inputs(case, model, constants)
    program = frontend.load(model, constants=bound, is_lowered=is_lowered)
    convert = ConvertOnnxToTosaPass(float64_as_float32=all(map(_fits_float32, fed)))
    elements = parse_pipeline("lower-onnx-to-tosa")
    run_pipeline(program, [convert if isinstance(e, ConvertOnnxToTosaPass) else e for e in elements])
    wanted = case.data("output") if wanted is None else wanted
    has_empty = any(array.size == 0 for array in (*fed, *wanted))
    got = _run_in_replica(program, fed) if has_empty else reference_model.run(program, fed)
    for index, (actual, expected) in enumerate(zip(got, wanted, strict=True)):
        _compare(index, actual, expected)


def _run_in_replica(program: Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the canister of a TOSA program replies."""
    from tosaic.artifact.contents import manifest
    from tosaic.driver import compile_to_canister
    from tosaic.model import Model
    from tosaic.options import CompileOptions

    compiled = compile_to_canister(program, CompileOptions())
    model = Model(manifest(compiled), compiled.canister.wasm, lambda name: b"")
    result = model.run({tensor.name: array for tensor, array in zip(model.inputs, inputs, strict=True)})
    return list(result.outputs.values())


def _fits_float32(array: np.ndarray) -> bool:
    """Whether a user may say that a float64 input can be taken as float32; true for other dtypes."""
    if array.dtype != np.float64:
        return True
    return bool(np.abs(array[np.isfinite(array)]).max(initial=0) <= np.finfo(np.float32).max)


def outcome(case: Case) -> str:
    """ "pass", the sentence of a refusal, or "wrong: ..." and what else must never be."""
    from tosaic.errors import TosaicError

    try:
        run(case)
    except TosaicError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"
    return "pass"


def _read(path: Path) -> np.ndarray:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return np.asarray(numpy_helper.to_array(tensor))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _shape_inputs(model: onnx.ModelProto) -> set[str]:
    names = {
        node.input[index]
        for graph in _graphs(model.graph)
        for node in graph.node
        for index in SHAPE_OPERANDS.get(node.op_type, ())
        if index < len(node.input)
    }
    return names & {value.name for value in model.graph.input}


def _shape_inputs_of_operator(case: Case) -> set[str]:
    """The inputs that decide shapes for the operator whose function body an expanded test is."""
    operator = Case(case.name.removesuffix("_expanded"))
    is_expanded = operator != case and (operator.folder / "model.onnx").exists()
    return _shape_inputs(operator.model()) if is_expanded else set()


def _split_inputs(
    case: Case, model: onnx.ModelProto, constants: set[str]
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    if any(value.type.WhichOneof("value") != "tensor_type" for value in model.graph.input):
        return [], {}  # the frontend says why it cannot hold them
    names = [value.name for value in model.graph.input]
    if any(value.type.tensor_type.elem_type == TensorProto.STRING for value in model.graph.input):
        return [], {}
    arrays = case.data("input")
    if len(arrays) != len(names):
        initializers = {tensor.name for tensor in model.graph.initializer}
        names = [name for name in names if name not in initializers]
    bound = {name: array for name, array in zip(names, arrays) if name in constants}
    return [array for name, array in zip(names, arrays) if name not in constants], bound


def _compare(index: int, actual: np.ndarray, expected: np.ndarray) -> None:
    if actual.shape != expected.shape:
        raise WrongResult(f"output {index} has shape {actual.shape}, not {expected.shape}")
    if expected.dtype.kind in "iub":
        if not np.array_equal(actual, expected):
            raise WrongResult(f"output {index} differs")
        return
    rtol, atol = TOLERANCES.get(expected.dtype.name, ONE_STEP_OF_FP8)
    wide = actual.astype(np.float64), expected.astype(np.float64)
    if not np.allclose(*wide, rtol=rtol, atol=atol, equal_nan=True):
        raise WrongResult(f"output {index} differs by up to {np.nanmax(np.abs(wide[0] - wide[1]))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument(
        "--show", action="store_true", help="print what does not pass instead of writing the list"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    cases = list(all_cases())
    with ProcessPoolExecutor(arguments.jobs) as pool:
        outcomes = dict(zip(cases, pool.map(outcome, cases, chunksize=8)))
    good = [case.name for case, found in outcomes.items() if found == "pass"]
    for case, found in outcomes.items():
        if (found.startswith("wrong") and case.name not in DISPUTED) or (arguments.show and found != "pass"):
            print(f"{case.name}: {found[:300]}", file=sys.stderr)
    if not arguments.show:
        PASSING.write_text("\n".join(good) + "\n")
    print(f"{len(good)} of {len(cases)} tests pass")


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root / folder) for folder in ("compiler", "passes", "tests")]
    main()
