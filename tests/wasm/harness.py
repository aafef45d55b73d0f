"""Runs emitted functions and kernels in the replica's machine: metered, core features, NaN canonicalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.replica.instance import Instance, Usage, compile_metered
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


_PRICES = PriceList.load()


@dataclass
class Machine:
    """An instance of a module that exports one function, and its memory as bytes."""

    instance: Instance
    memory: np.ndarray

    @classmethod
    def load(cls, function: Function, memory_bytes: int) -> Machine:
        pages = -(-memory_bytes // PAGE_BYTES)
        binary = Module(pages, exports={"run": function}).encode()
        instance = Instance(compile_metered(binary, _PRICES))
        return cls(instance, instance.bytes())

    def call(self, *arguments: int) -> Usage:
        return self.instance.call("run", *arguments)


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
    start = _next_page(cursor)
    return _Place(start, start - low, high - low + view.element_bytes)


def _next_page(cursor: int) -> int:
    """Some place on a page of its own, so that touched pages tell which operand was touched."""
    return -(-cursor // PAGE_BYTES) * PAGE_BYTES + _GUARD_BYTES


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
    """The outputs of one call; every byte outside of the declared outputs must stay what it was, and the call must
    take the instructions and touch the pages that the kernel declares.

    `arrays` holds the values of all inputs (constants included); memory around and between the elements is
    filled with `fill`.
    """
    views = [operand.view for operand in request.inputs] + list(request.outputs)
    places, cursor = [], _GUARD_BYTES
    for index, view in enumerate(views):
        packed = kernel.constants.get(index)
        start = _next_page(cursor)
        place = _Place(start, start, packed.nbytes) if packed is not None else _place(view, cursor)
        places.append(place)
        cursor = place.start + place.size + _GUARD_BYTES
    scratch = _Place(_next_page(cursor), _next_page(cursor), kernel.scratch_bytes)
    machine = Machine.load(kernel.function, scratch.start + scratch.size + _GUARD_BYTES)
    machine.memory[:] = fill
    for index, (array, place, view) in enumerate(zip(arrays, places, views)):
        if (packed := kernel.constants.get(index)) is not None:
            machine.memory[place.start : place.start + place.size] = np.frombuffer(packed.tobytes(), np.uint8)
        else:
            _strided(machine.memory, place, view)[...] = array
    before = machine.memory.copy()
    arguments = [place.address for place in places] + ([scratch.address] if kernel.scratch_bytes else [])
    _check_usage(kernel, arguments, machine.call(*arguments))
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


def _check_usage(kernel: Kernel, addresses: Sequence[int], usage: Usage) -> None:
    """The declared cost and pages, or at most these if they depend on data."""
    touched: dict[bool, set[int]] = {False: set(), True: set()}
    for access in kernel.accesses:
        for offset, length in access.runs:
            first = addresses[access.operand] + offset
            touched[access.write] |= set(range(first // PAGE_BYTES, (first + length - 1) // PAGE_BYTES + 1))
    declared = touched[False] | touched[True]
    if kernel.exact:
        assert usage.instructions == kernel.cost
        assert usage.pages_read | usage.pages_written == declared
        assert usage.pages_written == touched[True]
    else:
        assert usage.instructions <= kernel.cost
        assert usage.pages_read | usage.pages_written <= declared
        assert usage.pages_written <= touched[True]
