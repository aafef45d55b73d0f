"""Runs emitted functions and kernels as the network would: metered, NaN canonicalised, touched pages watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.replica.instance import Instance, Usage, instantiate
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Kernel, KernelRequest, Operand, View
from tosaic.wasm.kernels.page_touches import note_bytes
from tosaic.wasm.lanes import STORAGE
from tosaic.wasm.module import Module

DTYPES = STORAGE

PRICES = PriceList.load()

_FILL = 0xA5
_MESSAGE = 7


@dataclass
class Machine:
    """An instance of a module that exports one function, and its memory as bytes."""

    instance: Instance
    memory: np.ndarray

    @classmethod
    def load(cls, function: Function, memory_bytes: int) -> Machine:
        pages = -(-memory_bytes // PAGE_BYTES)
        instance = instantiate(Module(pages, exports={"run": function}).encode(), PRICES)
        return cls(instance, instance.bytes())

    def call(self, *arguments: int) -> Usage:
        return self.instance.call("run", *arguments)


def view_of(array: np.ndarray, element: str) -> View:
    """The view of a numpy array, its strides included."""
    return View(element, array.shape, array.strides)


def operand_of(array: np.ndarray, element: str, constant: bool = False) -> Operand:
    return Operand(view_of(array, element), array if constant else None)


def run_kernel(kernel: Kernel, request: KernelRequest, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a call, after all that a kernel promises has been checked.

    It costs what it says (no more, if it says that this is a bound), touches the pages that it says, reads nothing
    behind or before its operands (they end, then begin, at the border of a page), and writes nothing but outputs.
    `arrays` holds the values of all inputs, constants included.
    """
    late = _run(kernel, request, arrays, at_end=True)
    early = _run(kernel, request, arrays, at_end=False)
    for a, b in zip(late, early):
        assert a.tobytes() == b.tobytes(), "the result depends on where the operands lie"
    return early


@dataclass(frozen=True)
class _Block:
    """The bytes of an operand in memory; `address` is that of its first element."""

    start: int
    size: int
    address: int


def _run(
    kernel: Kernel, request: KernelRequest, arrays: Sequence[np.ndarray], at_end: bool
) -> list[np.ndarray]:
    views = [operand.view for operand in request.inputs] + list(request.outputs)
    blocks, end = _blocks(kernel, views, at_end)
    machine = Machine.load(kernel.function, end)
    machine.memory[:] = _FILL
    for index, (array, view) in enumerate(zip(arrays, views)):
        if (packed := kernel.constants.get(index)) is not None:
            block = blocks[index]
            machine.memory[block.start : block.start + block.size] = np.frombuffer(packed.tobytes(), np.uint8)
        else:
            _elements(machine.memory, blocks[index], view)[...] = array
    before = machine.memory.copy()
    parameters = len(views) + (kernel.scratch_bytes > 0 or kernel.sample is not None)
    message = [_MESSAGE] if kernel.sample else []
    usage = machine.call(*(block.address for block in blocks[:parameters]), *message)
    _check_usage(kernel, usage, blocks)
    outputs = []
    for block, view in zip(blocks[len(request.inputs) : len(views)], request.outputs):
        found = _elements(machine.memory, block, view)
        outputs.append(found.copy())
        _elements(before, block, view)[...] = found
    scratch = blocks[-1]  # or notes
    before[scratch.start : scratch.start + scratch.size] = machine.memory[scratch.start :][: scratch.size]
    changed = np.flatnonzero(machine.memory != before)
    assert changed.size == 0, f"bytes outside of the outputs were written, first at {changed[:5]}"
    return outputs


def _blocks(kernel: Kernel, views: Sequence[View], at_end: bool) -> tuple[list[_Block], int]:
    """Every operand and the scratch memory, or the notes, in pages of their own."""
    blocks, page = [], 1
    extents = []
    for index, view in enumerate(views):
        if (packed := kernel.constants.get(index)) is not None:
            extents.append((0, packed.nbytes))
            continue
        reach = [stride * (size - 1) for size, stride in zip(view.shape, view.strides)]
        low, high = sum(min(0, r) for r in reach), sum(max(0, r) for r in reach)
        extents.append((low, high - low + view.element_bytes))
    table = kernel.constants[kernel.sample.operand].nbytes if kernel.sample else 0
    extents.append((0, kernel.scratch_bytes or note_bytes(-(-table // PAGE_BYTES))))
    for index, (low, size) in enumerate(extents):
        pages = -(-size // PAGE_BYTES)
        at_border = at_end and not (kernel.sample and index == kernel.sample.operand)
        start = (page + pages) * PAGE_BYTES - size if at_border else page * PAGE_BYTES
        blocks.append(_Block(start, size, start - low))
        page += pages + 1
    return blocks, page * PAGE_BYTES


def _check_usage(kernel: Kernel, usage: Usage, blocks: Sequence[_Block]) -> None:
    read, written = set(), set()
    usage = replace(usage, pages_read=_first_pages(kernel, usage.pages_read, blocks))
    for access in kernel.accesses:
        target = written if access.write else read
        for offset, length in access.runs:
            start = blocks[access.operand].address + offset
            target.update(range(start // PAGE_BYTES, (start + length - 1) // PAGE_BYTES + 1))
    if kernel.sample:
        first = blocks[kernel.sample.operand].start // PAGE_BYTES
        read.update(range(first, first + kernel.sample.pages))
    if kernel.exact:
        assert usage.instructions == kernel.cost
        assert (usage.pages_read - written, usage.pages_written) == (read - written, written)
    else:
        assert usage.instructions <= kernel.cost
        assert usage.pages_read <= read | written
        assert usage.pages_written <= written


def _first_pages(kernel: Kernel, touched: frozenset[int], blocks: Sequence[_Block]) -> frozenset[int]:
    """As many pages as were touched of a sampled operand, but its first ones: a kernel promises their number."""
    if kernel.sample is None:
        return touched
    block = blocks[kernel.sample.operand]
    first = block.start // PAGE_BYTES
    own = touched & set(range(first, first - (-block.size // PAGE_BYTES)))
    return touched - own | set(range(first, first + len(own)))


def _elements(memory: np.ndarray, block: _Block, view: View) -> np.ndarray:
    """The operand as an array over the memory."""
    first = np.frombuffer(memory.data, DTYPES[view.element], 1, block.address)
    return np.lib.stride_tricks.as_strided(first, view.shape, view.strides)
