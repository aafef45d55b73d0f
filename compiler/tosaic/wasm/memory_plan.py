"""Addresses: one linear memory with a control region, an arena whose bytes are reused, and the weights.

    0                 the entry code's constants and state (`control_bytes`)
    then              the arena: inputs, intermediate tensors, scratch, outputs
    next full page    the weights, each content once (`weight_image`); tables of which data decides the pages that
                      are touched lie in pages of their own

A buffer owns its bytes from its first use to its last one in the order of execution over the whole program, so
cutting the program into segments moves nothing. A message pays for each 64 KiB page that it touches; the arena is
packed as tightly as its lifetimes allow (`packing`), so that the same few pages are used again and again.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.blocks import Block, largest_live
from tosaic.wasm.calls import Buffer, Call, Placed
from tosaic.wasm.kernel import Kernel
from tosaic.wasm.layout import Layout
from tosaic.wasm.module import DataSegment
from tosaic.wasm.packing import end_of, pack
from tosaic.wasm.weight_image import WeightImage, aligned

_Owner = Buffer | int
"""What owns bytes of the arena: a buffer, or the step of that number, whose kernel wants scratch memory."""


@dataclass(eq=False)
class Step:
    """A call of a finished kernel.

    Where the kernel samples a table, `notes` says which of its pages were touched, and `turn` stands for those that all
    runs of this step touch: so many, in a circle (`look_ups`). `shares_table` is set where another step that takes no
    notes reads some pages of the table: how many they touch together depends on data.
    """

    call: Call
    kernel: Kernel
    addresses: tuple[int, ...] = ()
    notes: Placed | None = None
    turn: range = range(0)
    shares_table: bool = False

    @property
    def exact(self) -> bool:
        """Whether the pages and the count are those of every run, not bounds."""
        return self.kernel.exact and not self.shares_table

    @property
    def places(self) -> tuple[Placed, ...]:
        """Where its inputs and outputs are, then its notes."""
        return self.call.places if self.notes is None else (*self.call.places, self.notes)


@dataclass(frozen=True, eq=False)
class MemoryPlan:
    """`address_of` knows every buffer; the addresses of a step are those of its inputs, outputs and scratch."""

    address_of: Mapping[Buffer, int]
    data: tuple[DataSegment, ...]
    arena_bytes: int
    weight_bytes: int
    memory_bytes: int
    largest_live_bytes: int


def plan_memory(
    layout: Layout, steps: Sequence[Step], control_bytes: int, chunk_bytes: int, loops: Sequence[range] = ()
) -> MemoryPlan:
    """Place all buffers and fill in the addresses of the steps.

    `chunk_bytes` is the size of the network's chunks; `loops` are the numbers of steps that run again.
    """
    blocks = _lifetimes(layout, steps, loops)
    start = aligned(control_bytes)
    offsets = pack(tuple(blocks.values()))
    address_of = {owner: start + offset for owner, offset in zip(blocks, offsets)}
    end = start + end_of(tuple(blocks.values()), offsets)
    weights = _weights(steps)
    weights.place(aligned(end, PAGE_BYTES), chunk_bytes)
    for number, step in enumerate(steps):
        step.addresses = tuple(_addresses(number, step, address_of, weights))
    _find_shared_tables(steps)
    return MemoryPlan(
        {owner: address for owner, address in address_of.items() if isinstance(owner, Buffer)},
        weights.data,
        end - start,
        weights.end - weights.start,
        weights.end if weights.data else end,
        largest_live(tuple(blocks.values())),
    )


def pages(address: int, runs: Iterable[tuple[int, int]]) -> int:
    """Bit mask of the pages that the runs of (offset, length) touch, seen from an address."""
    mask = 0
    for offset, length in runs:
        if length:
            first = (address + offset) // PAGE_BYTES
            last = (address + offset + length - 1) // PAGE_BYTES
            mask |= ((1 << (last - first + 1)) - 1) << first
    return mask


def touched(step: Step) -> tuple[int, int]:
    """Page masks of what a step reads and of what it writes."""
    masks = [table_pages(step) if step.shares_table else _turn(step), 0]
    for access in step.kernel.accesses:
        masks[access.write] |= pages(step.addresses[access.operand], access.runs)
    return masks[0], masks[1]


def table_pages(step: Step) -> int:
    """The pages of the table that a step samples."""
    if (sample := step.kernel.sample) is None:
        return 0
    return pages(step.addresses[sample.operand], [(0, step.kernel.constants[sample.operand].nbytes)])


def _turn(step: Step) -> int:
    """The pages that stand for those that a step samples."""
    if (sample := step.kernel.sample) is None:
        return 0
    first, count = step.addresses[sample.operand] // PAGE_BYTES, table_pages(step).bit_count()
    return sum(1 << first + page for page in {page % count for page in step.turn[:count]})


def _find_shared_tables(steps: Sequence[Step]) -> None:
    """A table that another step reads whole has all of its pages touched; one that it reads in part is shared."""
    samplers = [step for step in steps if step.kernel.sample]
    masks = {step: functools.reduce(operator.or_, touched(step)) for step in steps} if samplers else {}
    for sampler in samplers:
        table = table_pages(sampler)
        common = [mask & table for step, mask in masks.items() if step.notes is not sampler.notes]
        sampler.shares_table = any(mask not in (0, table) for mask in common)


def _weights(steps: Sequence[Step]) -> WeightImage:
    """All constants in the order of their first use."""
    weights = WeightImage()
    for step in steps:
        sample = step.kernel.sample
        for operand, place in enumerate(step.call.places):
            array = step.kernel.constants.get(operand, place.buffer.array)
            if array is not None:
                weights.add(array, alone=sample is not None and operand == sample.operand)
    return weights


def _addresses(
    number: int, step: Step, address_of: Mapping[_Owner, int], weights: WeightImage
) -> Iterable[int]:
    for operand, place in enumerate(step.places):
        if operand in step.kernel.constants:
            yield weights.address(step.kernel.constants[operand])
        elif place.buffer.array is not None:
            yield weights.address(place.buffer.array) + place.window.offset
        else:
            yield address_of[place.buffer] + place.window.offset
    if step.kernel.scratch_bytes:
        yield address_of[number]


def _lifetimes(layout: Layout, steps: Sequence[Step], loops: Sequence[range]) -> dict[_Owner, Block]:
    """The blocks of the arena: of each buffer that is no constant, and of each step with scratch memory.

    What a loop reads from before it is in use until the last trip has ended. Of the arms of a branch only one runs,
    so they share memory as if they ran one after the other.
    """
    spans: dict[Buffer, tuple[int, int]] = {place.buffer: (-1, -1) for place in layout.inputs}
    for number, step in enumerate(steps):
        for place in step.places:
            if place.buffer.array is None:
                spans[place.buffer] = spans.get(place.buffer, (number, number))[0], number
    for place in layout.outputs:
        spans[place.buffer] = spans.get(place.buffer, (-1, -1))[0], len(steps)
    for loop in loops:
        for buffer, (first, last) in spans.items():
            if first < loop.start <= last:
                spans[buffer] = first, max(last, loop.stop - 1)
    blocks: dict[_Owner, Block] = {
        buffer: Block(buffer.bytes, first, last) for buffer, (first, last) in spans.items()
    }
    scratch = [(number, step.kernel.scratch_bytes) for number, step in enumerate(steps)]
    return blocks | {number: Block(size, number, number) for number, size in scratch if size}
