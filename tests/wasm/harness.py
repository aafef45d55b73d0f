"""Runs emitted functions and kernels in wasmtime, as the network would: core features, NaN canonicalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import wasmtime

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Kernel, KernelRequest, View
from tosaic.wasm.module import Module

DTYPES = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i48": np.int64, "i64": np.int64,
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip
"""Element type -> numpy dtype of its storage."""

_GUARD = 0xA5
_GUARD_BYTES = 256


def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd = False
    return wasmtime.Engine(config)


_ENGINE = _engine()


@dataclass
class Machine:
    """An instance of a module that exports one function, and its memory as bytes."""

    store: wasmtime.Store
    function: wasmtime.Func
    memory: np.ndarray

    @classmethod
    def load(cls, function: Function, memory_bytes: int) -> Machine:
        pages = -(-memory_bytes // PAGE_BYTES)
        binary = Module(pages, exports={"run": function}).encode()
        store = wasmtime.Store(_ENGINE)
        instance = wasmtime.Instance(store, wasmtime.Module(_ENGINE, binary), [])
        exports = instance.exports(store)
        memory = np.ctypeslib.as_array(exports["memory"].data_ptr(store), (pages * PAGE_BYTES,))
        return cls(store, exports["run"], memory)

    def call(self, *arguments: int) -> None:
        self.function(self.store, *arguments)


def view_of(array: np.ndarray, element: str) -> View:
    """The view of a numpy array, its strides included."""
    return View(element, array.shape, array.strides)


@dataclass
class _Place:
    """Where an operand lies: `start` is the first byte of its block, `address` that of its first element."""

    start: int
    address: int
    size: int


def _place(view: View, cursor: int) -> _Place:
    low = sum(min(0, stride * (size - 1)) for size, stride in zip(view.shape, view.strides))
    high = sum(max(0, stride * (size - 1)) for size, stride in zip(view.shape, view.strides))
    start = -(-cursor // 16) * 16
    return _Place(start, start - low, high - low + view.element_bytes)


def _strided(memory: np.ndarray, place: _Place, view: View) -> np.ndarray:
    """The operand as an array over the memory."""
    base = memory[place.address :].view()
    raw = np.lib.stride_tricks.as_strided(
        base[: view.element_bytes].view(DTYPES[view.element]), view.shape, view.strides
    )
    return raw


def run_kernel(
    kernel: Kernel, request: KernelRequest, arrays: Sequence[np.ndarray], fill: int = _GUARD
) -> list[np.ndarray]:
    """The outputs of one call; every byte outside of the declared outputs must stay what it was.

    `arrays` holds the values of all inputs (constants included); memory around and between the elements is
    filled with `fill`.
    """
    views = [operand.view for operand in request.inputs] + list(request.outputs)
    places, cursor = [], _GUARD_BYTES
    for index, view in enumerate(views):
        packed = kernel.constants.get(index)
        place = _Place(cursor, cursor, packed.nbytes) if packed is not None else _place(view, cursor)
        places.append(place)
        cursor = -(-(place.start + place.size + _GUARD_BYTES) // 16) * 16
    scratch = _Place(cursor, cursor, kernel.scratch_bytes)
    cursor += kernel.scratch_bytes + _GUARD_BYTES
    machine = Machine.load(kernel.function, cursor)
    machine.memory[:] = fill
    for index, (array, place, view) in enumerate(zip(arrays, places, views)):
        if (packed := kernel.constants.get(index)) is not None:
            machine.memory[place.start : place.start + place.size] = np.frombuffer(packed.tobytes(), np.uint8)
        else:
            _strided(machine.memory, place, view)[...] = array
    before = machine.memory.copy()
    arguments = [place.address for place in places] + ([scratch.address] if kernel.scratch_bytes else [])
    machine.call(*arguments)
    outputs = []
    for place, view in zip(places[len(request.inputs) :], request.outputs):
        found = _strided(machine.memory, place, view)
        outputs.append(found.copy())
        found.view(np.uint8 if view.element_bytes == 1 else found.dtype)[...] = 0
        _strided(before, place, view)[...] = 0
    machine.memory[scratch.start : scratch.start + scratch.size] = 0
    before[scratch.start : scratch.start + scratch.size] = 0
    changed = np.flatnonzero(machine.memory != before)
    assert changed.size == 0, f"bytes outside of the outputs were written, first at {changed[:5]}"
    return outputs
