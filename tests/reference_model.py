"""Arm's TOSA reference model as an oracle: a program goes in as MLIR, arrays come out."""

from __future__ import annotations

import multiprocessing
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from tosaic_passes import border
from tosaic_passes.program import Program

_TIMEOUT_SECONDS = 60


def run(program: Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Runs @main on inputs in ONNX dtypes and gives the outputs in ONNX dtypes (the border of docs/types.md).

    The model runs in a forked process because it aborts on an invalid program.
    """
    flatbuffer = serialize(program)
    main = next(iter(program.module.body.operations))
    stored = [_store(array).reshape(type.shape) for array, type in zip(inputs, main.type.inputs, strict=True)]
    parent, child = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_run, args=(flatbuffer, stored, child))
    worker.start()
    child.close()
    if not parent.poll(_TIMEOUT_SECONDS):
        worker.kill()
        raise TimeoutError("the reference model did not answer")
    try:
        raw, status = parent.recv()
    except EOFError:
        raise RuntimeError("the reference model aborted") from None
    finally:
        worker.join()
    if status != "TOSA_VALID":
        raise RuntimeError(f"the reference model says {status}")
    seen = [border.entries(attributes) for attributes in main.attributes["res_attrs"]]
    shapes = [tuple(type.shape) for type in main.type.results]
    outputs = [
        _load(array, given[border.DTYPE].value, border.seen_shape(given, shape))
        for array, given, shape in zip(raw, seen, shapes, strict=True)
    ]
    for empty in border.empty_results(main.operation):
        shape = border.seen_shape(empty.seen, tuple(empty.type.shape))
        outputs.insert(empty.place, np.empty(shape, _numpy_dtype(empty.seen[border.DTYPE].value)))
    return outputs


def serialize(program: Program) -> bytes:
    """The program as a TOSA flatbuffer, written by Arm's tosa-opt."""
    import tosa_tools_cli

    tosa_opt = Path(tosa_tools_cli.__file__).parent.parent / "bin" / "tosa-opt"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "program.mlirbc"), Path(folder, "program.tosa")
        with source.open("wb") as file:
            program.module.operation.write_bytecode(file)
        command = [str(tosa_opt), str(source), "--tosa-serialize", f"--tosa-flatbuffer-filename={target}"]
        done = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"tosa-opt cannot serialise the program: {done.stderr[:2000]}")
        return target.read_bytes()


def _run(flatbuffer: bytes, inputs: list[np.ndarray], pipe: multiprocessing.connection.Connection) -> None:
    import tosa_reference_model

    outputs, status = tosa_reference_model.run(flatbuffer, inputs)
    pipe.send(([np.asarray(output) for output in outputs], status.name))


def _store(array: np.ndarray) -> np.ndarray:
    from tosaic_passes.onnx_to_tosa.dtypes import store

    small = np.ascontiguousarray(store(array)).reshape(array.shape)
    return small if small.dtype.isbuiltin == 1 else small.view(f"u{small.dtype.itemsize}")


def _load(array: np.ndarray, dtype_name: str, shape: tuple[int, ...]) -> np.ndarray:
    from tosaic_passes.onnx_to_tosa.dtypes import narrowed

    dtype = _numpy_dtype(dtype_name)
    small = narrowed(dtype)
    array = array.reshape(shape)
    if array.dtype != small:
        array = array.view(small) if array.dtype.itemsize == small.itemsize else array.astype(small)
    return array.astype(dtype)


def _numpy_dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))
