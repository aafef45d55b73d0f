"""Addresses: one linear memory with a control region, an arena whose bytes are reused, and the weights.

    0                 the entry code's constants and state (`control_bytes`)
    then              the arena: inputs, intermediate tensors, scratch, outputs
    next full page    the weights, each content once (`weight_image`); tables of which data decides the pages that
                      are touched lie in pages of their own

A buffer owns its bytes from its first use to its last one in the order of execution over the whole program, so
cutting the program into segments moves nothing. A message pays for each 64 KiB page that it touches; the arena is
packed as tightly as its lifetimes allow, so that the same few pages are used again and again.
"""

from __future__ import annotations

import bisect
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.calls import Buffer, Call, Placed
from tosaic.wasm.kernel import Kernel
from tosaic.wasm.layout import Layout
from tosaic.wasm.module import DataSegment
from tosaic.wasm.weight_image import ALIGNMENT, WeightImage, aligned


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


@dataclass(eq=False)
class _Block:
    """Bytes that are in use during the steps from `first` to `last`."""

    bytes: int
    first: int
    last: int
    address: int = -1


def plan_memory(
    layout: Layout, steps: Sequence[Step], control_bytes: int, chunk_bytes: int, loops: Sequence[range] = ()
) -> MemoryPlan:
    """Place all buffers and fill in the addresses of the steps.

    `chunk_bytes` is the size of the network's chunks; `loops` are the numbers of steps that run again.
    """
    blocks, scratch = _lifetimes(layout, steps, loops)
    start = aligned(control_bytes)
    _pack([*blocks.values(), *scratch.values()], start)
    end = max((b.address + b.bytes for b in [*blocks.values(), *scratch.values()]), default=start)
    weights = _weights(steps)
    weights.place(aligned(end, PAGE_BYTES), chunk_bytes)
    address_of = {buffer: block.address for buffer, block in blocks.items()}
    for number, step in enumerate(steps):
        step.addresses = tuple(_addresses(number, step, address_of, scratch, weights))
    _find_shared_tables(steps)
    return MemoryPlan(
        address_of,
        weights.data,
        end - start,
        weights.end - weights.start,
        weights.end if weights.data else end,
        _largest_live([*blocks.values(), *scratch.values()]),
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
    masks = [_table(step) if step.shares_table else _turn(step), 0]
    for access in step.kernel.accesses:
        masks[access.write] |= pages(step.addresses[access.operand], access.runs)
    return masks[0], masks[1]


def _table(step: Step) -> int:
    """The pages of the table that a step samples."""
    if (sample := step.kernel.sample) is None:
        return 0
    return pages(step.addresses[sample.operand], [(0, step.kernel.constants[sample.operand].nbytes)])


def _turn(step: Step) -> int:
    """The pages that stand for those that a step samples."""
    if (sample := step.kernel.sample) is None:
        return 0
    first, count = step.addresses[sample.operand] // PAGE_BYTES, _table(step).bit_count()
    return sum(1 << first + page for page in {page % count for page in step.turn[:count]})


def _find_shared_tables(steps: Sequence[Step]) -> None:
    """A table that another step reads whole has all of its pages touched; one that it reads in part is shared."""
    samplers = [step for step in steps if step.kernel.sample]
    masks = {step: functools.reduce(operator.or_, touched(step)) for step in steps} if samplers else {}
    for sampler in samplers:
        table = _table(sampler)
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
    number: int,
    step: Step,
    address_of: Mapping[Buffer, int],
    scratch: Mapping[int, _Block],
    weights: WeightImage,
) -> Iterable[int]:
    for operand, place in enumerate(step.places):
        if operand in step.kernel.constants:
            yield weights.address(step.kernel.constants[operand])
        elif place.buffer.array is not None:
            yield weights.address(place.buffer.array) + place.window.offset
        else:
            yield address_of[place.buffer] + place.window.offset
    if number in scratch:
        yield scratch[number].address


def _lifetimes(
    layout: Layout, steps: Sequence[Step], loops: Sequence[range]
) -> tuple[dict[Buffer, _Block], dict[int, _Block]]:
    """Blocks of all buffers in the arena, and of the scratch memory of steps by their number.

    What a loop reads from before it is in use until the last trip has ended. Of the arms of a branch only one runs,
    so they share memory as if they ran one after the other.
    """
    blocks = {place.buffer: _Block(place.buffer.bytes, -1, -1) for place in layout.inputs}
    scratch = {}
    for number, step in enumerate(steps):
        for place in step.places:
            if place.buffer.array is None:
                block = blocks.setdefault(place.buffer, _Block(place.buffer.bytes, number, number))
                block.last = number
        if step.kernel.scratch_bytes:
            scratch[number] = _Block(step.kernel.scratch_bytes, number, number)
    for place in layout.outputs:
        block = blocks.setdefault(place.buffer, _Block(place.buffer.bytes, -1, len(steps)))
        block.last = len(steps)
    for loop in loops:
        for block in blocks.values():
            if block.first < loop.start <= block.last:
                block.last = max(block.last, loop.stop - 1)
    return blocks, scratch


def _pack(blocks: Sequence[_Block], start: int) -> None:
    """Give every block an address so that no two blocks that live at the same time overlap.

    Several orders are tried, each block taking the tightest gap among those placed before it (best fit), and the
    lowest end wins. Large first is what usually comes closest to the largest live set; while that is not reached,
    the block that ends highest is placed first and the rest again.
    """
    least = start + _largest_live(blocks, ALIGNMENT)
    pending = [sorted(blocks, key=key) for key in _ORDERS]
    retries = min(_MOST_RETRIES, _MOST_COMPARISONS // (len(blocks) ** 2 + 1))
    best: tuple[int, dict[_Block, int]] | None = None
    for _ in range(len(pending) + retries):
        order = pending.pop(0)
        found = _fit(order, start)
        highest = max(found, key=lambda block: found[block] + block.bytes, default=None)
        end = start if highest is None else found[highest] + highest.bytes
        if best is None or end < best[0]:
            best = (end, found)
        if highest is None or best[0] <= least:
            break
        pending = pending or [[highest, *(block for block in order if block is not highest)]]
    assert best is not None
    for block, address in best[1].items():
        block.address = address


_ORDERS: tuple[Callable[[_Block], tuple[int, int]], ...] = (
    lambda block: (block.first, -block.bytes),
    lambda block: (block.first - block.last, -block.bytes),
    lambda block: (-block.bytes * (block.last - block.first + 1), block.first),
    lambda block: (-block.bytes, block.first),
)
_MOST_RETRIES = 40
_MOST_COMPARISONS = 8_000_000


def _fit(blocks: Sequence[_Block], start: int) -> dict[_Block, int]:
    found: dict[_Block, int] = {}
    taken: list[tuple[int, int, int, int]] = []  # (address, end, first, last) by address
    for block in blocks:
        size = aligned(block.bytes)
        cursor, best, slack = start, None, None
        for address, end, first, last in taken:
            if last < block.first or block.last < first:
                continue
            gap = address - cursor
            if gap >= size and (slack is None or gap < slack):
                best, slack = cursor, gap
            cursor = max(cursor, end)
        found[block] = cursor if best is None else best
        bisect.insort(taken, (found[block], found[block] + size, block.first, block.last))
    return found


def _largest_live(blocks: Sequence[_Block], alignment: int = 1) -> int:
    """The most bytes in use at any one step: what no plan can go below."""
    changes: dict[int, int] = {}
    for block in blocks:
        size = -(-block.bytes // alignment) * alignment
        changes[block.first] = changes.get(block.first, 0) + size
        changes[block.last + 1] = changes.get(block.last + 1, 0) - size
    live = most = 0
    for step in sorted(changes):
        live += changes[step]
        most = max(most, live)
    return most
