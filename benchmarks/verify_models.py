"""Take models the whole way and compare every stop with onnxruntime.

    python benchmarks/verify_models.py DIR [--only a,b] [--skip reference,iree] [--json FILE]

DIR holds NAME.onnx with NAME.inputs.npz and NAME.outputs.npz (what onnxruntime answers). For each model: compile to
an artifact; `program.mlirbc` is accepted by Arm's `tosa-validate` (spec 1.0, level 8k, strict); Arm's reference model,
IREE and the replica agree with onnxruntime; every message costs what was predicted, at most so where the count depends
on data, which 100 random inputs try as well. Each step runs in a process of its own, because the reference model
aborts on what it cannot hold.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from memory import peak_megabytes

from tosaic.model import ExecutedMessage

RTOL, ATOL = 1e-3, 1e-4
RANDOM_INPUTS = 100
EXTENSIONS = "int16,int4,bf16,fp8e4m3,fp8e5m2,fft,variable,controlflow,doubleround,inexactround"
TARGET = f"profiles=pro_int,pro_fp extensions={EXTENSIONS} level=8k specification_version=1.0"
BINARIES = Path(sys.executable).parent


def compile_model(model: Path, artifact: Path) -> dict:
    """Compile with the shapes of the stored inputs; how long it takes and how large the canister is."""
    import tosaic

    start = time.perf_counter()
    shapes = {name: list(array.shape) for name, array in np.load(model.with_suffix(".inputs.npz")).items()}
    tosaic.compile_model(str(model), str(artifact), input_shapes=shapes)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": peak_megabytes(),
        "module_bytes": (artifact / "canister.wasm").stat().st_size,
    }


def validate(model: Path, artifact: Path) -> dict:
    """tosa-opt reads the bytecode, tosa-validate accepts it; in one function as a flatbuffer for the next step."""
    tosa_opt(artifact / "program.mlirbc", f"--tosa-attach-target={TARGET}",
             "--tosa-validate=strict-op-spec-alignment")  # fmt: skip
    single = artifact.with_suffix(".mlirbc")
    single.write_bytes(in_one_function((artifact / "program.mlirbc").read_bytes()))
    tosa_opt(single, "--tosa-serialize", f"--tosa-flatbuffer-filename={flatbuffer(artifact)}")
    return {}


def tosa_opt(module: Path, *options: str) -> None:
    done = subprocess.run(
        [BINARIES / "tosa-opt", module, *options, "--emit-bytecode", "-o", "/dev/null"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise ValueError(errors[0] if errors else done.stderr[-200:])


def in_one_function(bytecode: bytes) -> bytes:
    """The program with its segments put back into @main: the serializer knows no calls."""
    from torch_mlir import ir
    from torch_mlir.passmanager import PassManager

    from tosaic_passes.isolate_regions import isolate_regions

    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(bytecode)
        PassManager.parse("builtin.module(inline,symbol-dce)").run(module.operation)
        isolate_regions(module.operation)  # inlining moves constants out of branches and loops
        buffer = io.BytesIO()
        module.operation.write_bytecode(buffer)
        return buffer.getvalue()


def reference(model: Path, artifact: Path) -> dict:
    """Arm's reference model runs the same program."""
    import tosa_reference_model

    outputs, status = tosa_reference_model.run(
        flatbuffer(artifact).read_bytes(), tosa_inputs(model, artifact)
    )
    if status != tosa_reference_model.GraphStatus.TOSA_VALID:
        raise ValueError(f"status {status.name}")
    return compare(model, outputs)


def iree(model: Path, artifact: Path) -> dict:
    """IREE compiles the bytecode for this machine and runs it."""
    import iree.compiler
    import iree.runtime

    binary = iree.compiler.compile_file(
        str(artifact / "program.mlirbc"),
        input_type="tosa",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=generic"],
    )
    config = iree.runtime.Config("local-sync")
    module = iree.runtime.load_vm_module(
        iree.runtime.VmModule.copy_buffer(config.vm_instance, binary), config
    )
    results = module["main"](*tosa_inputs(model, artifact))
    results = results if isinstance(results, (list, tuple)) else [results]
    return compare(model, [result.to_host() for result in results])


def replica(model: Path, artifact: Path) -> dict:
    """The canister under the price list; predicted must equal metered for every message."""
    import tosaic

    result = tosaic.load(str(artifact)).run(stored(model, "inputs"))
    check_predictions(result.messages)
    return compare(model, list(result.outputs.values())) | {
        "instructions": result.total_metered - result.page_touch,
        "page_touch": result.page_touch,
        "messages": len(result.messages),
        "exact": all(message.exact for message in result.messages),
    }


def bounds(model: Path, artifact: Path) -> dict:
    """Where messages have bounds, no random input exceeds them; how much of them it took at least and at most."""
    import tosaic

    canister = tosaic.load(str(artifact))
    if all(message["exact"] for message in canister.manifest["messages"]):
        return {}
    shares = []
    for seed in range(RANDOM_INPUTS):
        result = canister.run(canister.random_inputs(seed))
        check_predictions(result.messages)
        shares.append(result.total_metered / result.total_predicted)
    return {"inputs": RANDOM_INPUTS, "least": min(shares), "most": max(shares)}


def check_predictions(messages: Sequence[ExecutedMessage]) -> None:
    for message in messages:
        held = message.predicted == message.metered if message.exact else message.predicted >= message.metered
        if not held:
            raise ValueError(f"{message.name}: predicted {message.predicted:,}, metered {message.metered:,}")
        if message.performance_counter not in (None, message.metered):
            raise ValueError(
                f"{message.name}: metered {message.metered:,}, read {message.performance_counter:,}"
            )


STEPS: dict[str, Callable[[Path, Path], dict]] = {
    "compile": compile_model,
    "validate": validate,
    "reference": reference,
    "iree": iree,
    "replica": replica,
    "bounds": bounds,
}


def flatbuffer(artifact: Path) -> Path:
    return artifact.with_suffix(".tosa")


def stored(model: Path, kind: str) -> dict[str, np.ndarray]:
    with np.load(model.with_suffix(f".{kind}.npz")) as arrays:
        return {name: arrays[name] for name in arrays.files}


def tosa_inputs(model: Path, artifact: Path) -> list[np.ndarray]:
    """The stored inputs in the order and the dtypes of the compiled @main."""
    from torch_mlir import ir

    from tosaic_passes.functions import find_function
    from tosaic_passes.weights import numpy_dtype

    manifest = json.loads((artifact / "manifest.json").read_text())
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse((artifact / "program.mlirbc").read_bytes())
        main = find_function(module, "main")
        types = [ir.RankedTensorType(argument.type).element_type for argument in main.entry_block.arguments]
        dtypes = [numpy_dtype(element) for element in types]
    arrays = stored(model, "inputs")
    return [
        np.array(arrays[entry["name"]].astype(dtype), order="C")
        for entry, dtype in zip(manifest["inputs"], dtypes, strict=True)
    ]


def compare(model: Path, outputs: list[np.ndarray]) -> dict:
    """The largest difference from onnxruntime; raises when it is beyond the tolerance.

    A quantised model may differ by a step of its output, and by twice what onnxruntime differs from itself, with
    and without optimisations.
    """
    worst = 0.0
    note: dict[str, str] = {}
    expected = list(stored(model, "outputs").values())
    if len(outputs) != len(expected):
        raise ValueError(f"{len(outputs)} outputs, expected {len(expected)}")
    for index, (got, want) in enumerate(zip(outputs, expected)):
        got, want = np.asarray(got).astype(np.float64), want.astype(np.float64)
        if got.shape != want.shape:
            raise ValueError(f"output {index}: shape {got.shape}, expected {want.shape}")
        difference = np.nan_to_num(np.abs(got - want))
        worst = max(worst, float(difference.max(initial=0)))
        if np.allclose(got, want, rtol=RTOL, atol=ATOL, equal_nan=True):
            continue
        if difference.max() > max(2 * own_spread(model)[index], 1.001 * step_of(want)):
            raise ValueError(
                f"output {index} differs by up to {difference.max():.3g} of {np.abs(want).max():.3g}"
            )
        note = {"note": "one quantisation step, or within twice what onnxruntime's own optimisations change"}
    return {"difference": worst} | note


def own_spread(model: Path) -> list[float]:
    """By how much onnxruntime's optimisations change each output: in quantised models a rounding tie is a step."""
    import onnxruntime

    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    unoptimised = onnxruntime.InferenceSession(str(model), plain).run(None, stored(model, "inputs"))
    pairs = zip(unoptimised, stored(model, "outputs").values(), strict=True)
    return [float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)) for a, b in pairs]


def step_of(array: np.ndarray) -> float:
    """The smallest difference between two values: the quantisation step of a quantised output, else next to 0."""
    steps = np.diff(np.unique(array))
    return float(steps.min()) if steps.size else 0.0


def run_step(step: str, model: Path, artifact: Path) -> dict:
    """One step in a fresh process; an error or a crash becomes its text."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(guarded, step, model, artifact).result()
    except BrokenProcessPool:
        return {"error": "the process died"}


def guarded(step: str, model: Path, artifact: Path) -> dict:
    try:
        return STEPS[step](model, artifact)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def verify(model: Path, skip: set[str]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / f"{model.stem}.tosaic"
        for step in STEPS:
            if step not in skip:
                found[step] = run_step(step, model, artifact)
            if "error" in found.get("compile", {}):
                break
    return found


def show(name: str, found: dict[str, dict]) -> str:
    lines = [name]
    for step, result in found.items():
        figures = [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                   for key, value in result.items() if key != "error"]  # fmt: skip
        lines.append(f"  {step}: {result.get('error', 'ok')} {', '.join(figures)}".rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names of models, comma-separated")
    parser.add_argument("--skip", default="", help=f"steps to leave out: {','.join(STEPS)}")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    chosen = set(filter(None, arguments.only.split(",")))
    skip = set(filter(None, arguments.skip.split(",")))
    results = {}
    for model in sorted(arguments.folder.glob("*.onnx")):
        if chosen and model.stem not in chosen:
            continue
        results[model.stem] = verify(model, skip)
        print(show(model.stem, results[model.stem]), flush=True)
    failed = sum(any("error" in step for step in found.values()) for found in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
