"""Judges conformance cases: tosaic compiles and runs them, Arm's model computes them, Arm's verifier compares.

python judge.py FOLDER...        one JSON object a line: {"case", "verdict", "reason"}
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from tosaic_passes.functions import int_attribute
from tosaic_passes.program import Program

_TIMEOUT_SECONDS = 120
_RAW_BYTES = {"bf16": "<V2", "f8E4M3FN": "<V1", "f8E5M2": "|u1"}
"""Element types that numpy does not know, and what stands for them in Arm's files."""

Output = tuple[str, np.ndarray]
"""The element type of a result and its values."""


class Verdict(StrEnum):
    """What became of a case; only the first two may occur."""

    HELD = "held"
    REFUSED = "refused"
    WRONG = "wrong"
    CRASHED = "crashed"
    UNJUDGED = "unjudged"


@dataclass(frozen=True)
class Judgement:
    case: str
    verdict: Verdict
    reason: str = ""


class Unjudged(Exception):
    """Arm's tools give no answer that could be compared."""


def judge(folder: Path) -> Judgement:
    """The verdict about the case in a folder that `generate` wrote."""
    from tosaic.errors import TosaicError

    description = json.loads((folder / "desc.json").read_text())
    name = folder.name
    try:
        module = deserialize(folder, description)
        expected = reference(folder, description)
        try:
            outputs = run(module, folder, description)
        except TosaicError as error:
            return Judgement(name, Verdict.REFUSED, str(error))
        wrong = compare(folder, description, outputs, expected)
    except Unjudged as error:
        return Judgement(name, Verdict.UNJUDGED, str(error)[-300:])
    except Exception as error:
        return Judgement(name, Verdict.CRASHED, f"{type(error).__name__}: {error}"[:600])
    return Judgement(name, Verdict.WRONG if wrong else Verdict.HELD, wrong)


def deserialize(folder: Path, description: dict) -> Path:
    module = folder / "test.mlir"
    source = f"tosa-flatbuffer-filename={folder / description['tosa_file']}"
    with tempfile.NamedTemporaryFile("w", suffix=".mlir") as empty:
        empty.write("module {}")
        empty.flush()
        _tool("tosa-opt", f"--tosa-deserialize={source}", empty.name, "-o", module)
    return module


def reference(folder: Path, description: dict) -> list[Path]:
    """The results of the reference model in its precise mode, beside it the bounds that the verifier needs."""
    target = folder / "reference"
    target.mkdir(exist_ok=True)
    schema = _binary("tosa.fbs")
    command = ("--tosa_level", "NONE", "--operator_fbs", schema, "--test_desc", folder / "desc.json")
    _tool("tosa_reference_model", *command, "--output_dir", target, "--precise_mode=1")
    return [target / name for name in description["ofm_file"]]


def run(module: Path, folder: Path, description: dict) -> list[Output]:
    from tosaic.artifact.modules import read_module
    from tosaic.driver import compile_to_canister
    from tosaic.options import CompileOptions
    from wasm.program_runner import run_program

    arrays = [np.load(folder / name) for name in description["ifm_file"]]
    parsed = read_module(module)
    _vouch_for_trips(parsed, arrays)
    program = compile_to_canister(parsed, CompileOptions()).wasm_program
    stored = [_stored(array, tensor.element) for array, tensor in zip(arrays, program.inputs, strict=True)]
    return list(zip((tensor.element for tensor in program.outputs), run_program(program, stored)))


def _vouch_for_trips(program: Program, arrays: Sequence[np.ndarray]) -> None:
    """The suite's loops count an input down, so that nobody but us can know how often they run."""
    from torch_mlir import ir

    counters = [int(array) for array in arrays if array.dtype == np.int32 and array.ndim == 0]

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "tosa.while_loop":
            operation.attributes["ic.most_trips"] = int_attribute(max(counters, default=0))
        return ir.WalkResult.ADVANCE

    with program.context:
        program.module.operation.walk(visit)


def _stored(array: np.ndarray, element: str) -> np.ndarray:
    """An input in the bits that the kernels read: formats of few bits come as raw bytes."""
    from wasm.harness import DTYPES

    dtype = np.dtype(DTYPES[element])
    return array.view(dtype) if element in _RAW_BYTES else array.astype(dtype)


def compare(folder: Path, description: dict, outputs: Sequence[Output], references: Sequence[Path]) -> str:
    """Empty if the verifier accepts all outputs, else what it says."""
    for name, (element, array), expected in zip(description["ofm_name"], outputs, references, strict=True):
        found = folder / f"found-{name}.npy"
        _save(found, array, element)
        command = ["--test_desc", folder / "desc.json", "--ofm_name", name, "--imp_result_file", found]
        command += ["--ref_result_file", expected]
        bounds = expected.with_name(f"bounds_{expected.name}")
        if bounds.exists():
            command += ["--bnd_result_file", bounds]
        done = subprocess.run([_binary("tosa_verify"), *command], capture_output=True, text=True, check=False)
        if done.returncode == 2:
            return f"{name}: {(done.stdout + done.stderr).strip()[:400]}"
        if done.returncode:
            raise Unjudged(f"tosa_verify: {done.stdout} {done.stderr}")
    return ""


def _save(path: Path, array: np.ndarray, element: str) -> None:
    """Write a result as Arm's tools write theirs."""
    descriptor = _RAW_BYTES.get(element, array.dtype.str)
    with path.open("wb") as file:
        header = {"descr": descriptor, "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(array).tobytes())


def _tool(name: str, *arguments: object) -> None:
    command = [_binary(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    if done.returncode:
        raise Unjudged(f"{name}: {done.stdout} {done.stderr}")


def _binary(name: str) -> str:
    import tosa_tools_cli

    return str(Path(tosa_tools_cli.__file__).parent.parent / "bin" / name)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(json.dumps(asdict(judge(Path(path)))), flush=True)
