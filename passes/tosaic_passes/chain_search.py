"""Which kernels are to run as chains: those that then touch fewer pages in all messages together.

A message begins anywhere, so a page that is touched again after some instructions is paid for again with the
probability that a message begins between: those instructions over the limit, at most 1. By that measure kernels run
one after the other are compared with a chain, which touches the pages of its weights, of what it reads as a whole
and of one part throughout, and those of its other operands and its results once.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch_mlir import ir

from tosaic_passes.chain import Axes, BrokenChainError, Chain, PartialAxes, is_view
from tosaic_passes.cost_model import CostModel, KernelCost
from tosaic_passes.tile_expression import KnownValues
from tosaic_passes.tile_search import PAGE_BYTES
from tosaic_passes.tile_windows import shape_of
from tosaic_passes.weights import numpy_dtype_size

_MOST_KERNELS = 256
_MOST_PARTS = 256
_MOST_PARTS_OF_KERNELS = 4096
"""Of all kernels of a chain together: compilation takes longer with each."""
_KERNEL_IN_A_PART = 10_000
"""About so many instructions more does a kernel take for each part that it runs in."""
_WHOLE_ELEMENT = 3
"""About so many a part takes for each element that it reads as a whole: products pack it anew."""
_PARTS_A_MESSAGE = 16
"""So small are the parts of the dearest kernel at most, so that messages can be filled with them."""
_LEAST_GAIN = 1 / 2000
"""Of the limit: a chain that saves less is not worth its code."""


@dataclass(frozen=True)
class ChainPlan:
    """The kernels from `first` up to `end` in parts along an axis of the first op's result, and along an outer one.

    There are `count` parts for each index of the outer axis. `saved_instructions` is what the pages cost less by
    estimate, and `gain` what that leaves after the price of parts.
    """

    first: int
    end: int
    axis: int
    outer: int | None
    count: int
    saved_instructions: float
    gain: float

    def chain(self, kernels: Sequence[KernelCost]) -> Chain | None:
        """The chain in these kernels, which must be those that were searched, or of a copy of their program."""
        rules = PartialAxes()
        axes = Axes(rules, self.axis)
        outer = None if self.outer is None else Axes(rules, self.outer)
        for kernel in kernels[self.first : self.end]:
            _extend(_computing(kernel, rules.known), axes, outer)
        return Chain.of(axes, outer)


def best_chains(kernels: Sequence[KernelCost], limit: int, model: CostModel) -> list[ChainPlan]:
    """Chains with no kernel in common that save most together."""
    by_end: dict[int, list[ChainPlan]] = {}
    for plan in _Search(kernels, limit, model).plans():
        by_end.setdefault(plan.end, []).append(plan)
    best: list[tuple[float, tuple[ChainPlan, ...]]] = [(0.0, ())]
    for end in range(1, len(kernels) + 1):
        options = [(best[p.first][0] + p.gain, (*best[p.first][1], p)) for p in by_end.get(end, ())]
        best.append(max([best[-1], *options], key=lambda option: option[0]))
    return list(best[-1][1])


def _computing(kernel: KernelCost, known: KnownValues) -> list[ir.Operation]:
    """The ops of a kernel but constants and what is computed of them."""
    return [op for op in kernel.ops if not (op.results and op.results[0] in known)]


class _Search:
    """What is known of a program whose messages have a limit."""

    def __init__(self, kernels: Sequence[KernelCost], limit: int, model: CostModel) -> None:
        self.kernels = kernels
        self.limit = limit
        self.model = model
        self.rules = PartialAxes()
        self.ops = [_computing(kernel, self.rules.known) for kernel in kernels]
        self.price_of_writing = model.page_access + model.page_write
        self.last_use = self._last_uses()
        ends = list(itertools.accumulate(kernel.charge.instructions for kernel in kernels))
        self.times = [end - kernel.charge.instructions / 2 for end, kernel in zip(ends, kernels)]
        self.made_by = {r: number for number, ops in enumerate(self.ops) for op in ops for r in op.results}
        self.touched_at = self._touched_at()
        self.writing, self.whole = self._run_whole()

    def plans(self) -> Iterator[ChainPlan]:
        """All chains that save something, each with its best number of parts."""
        for first, kernel in enumerate(self.kernels):
            if not kernel.charge.instructions or not self.ops[first] or len(self.ops[first][0].results) != 1:
                continue
            extents = shape_of(self.ops[first][0].results[0])
            axes = [axis for axis, extent in enumerate(extents) if extent > 1]
            for axis in axes:
                for outer in [None, *(outer for outer in axes if outer < axis)]:
                    yield from self._grown(first, axis, outer)

    def _grown(self, first: int, axis: int, outer: int | None) -> Iterator[ChainPlan]:
        """The chains that begin with a kernel and an axis, kernel by kernel."""
        try:
            run = _Estimate(self, Axes(self.rules, axis), None if outer is None else Axes(self.rules, outer))
            for end in range(first + 1, min(first + _MOST_KERNELS, len(self.kernels)) + 1):
                run.add(end - 1)
                if outer is not None and not run.whole_elements:
                    return  # nothing is read less often for one index after the other
                count = run.best_count()
                saved = self.whole[end] - self.whole[first] - run.cost_of_pages(count)
                gain = saved - run.cost_of_parts(count)
                if count * run.blocks > 1 and gain > self.limit * _LEAST_GAIN:
                    yield ChainPlan(first, end, axis, outer, count, saved, gain)
        except BrokenChainError:
            return

    def _run_whole(self) -> tuple[list[float], list[float]]:
        """Each kernel as a whole: what the pages cost that it writes, and all pages of kernels[:end] for each end."""
        masks = [(_pages(k.charge.reads & ~k.charge.writes), _pages(k.charge.writes)) for k in self.kernels]
        pages = 1 + max((int(found[-1]) for both in masks for found in both if len(found)), default=0)
        accessed, changed = np.full(pages, -np.inf), np.full(pages, -np.inf)

        def again(last: np.ndarray, found: np.ndarray, time: float) -> float:
            share = float(np.minimum((time - last[found]) / self.limit, 1).sum())
            last[found] = time
            return share

        writing, costs = [], [0.0]
        for time, (reads, writes) in zip(self.times, masks):
            written = again(changed, writes, time) * self.model.page_write
            writing.append(written + again(accessed, writes, time) * self.model.page_access)
            costs.append(costs[-1] + writing[-1] + again(accessed, reads, time) * self.model.page_access)
        return writing, costs

    def _touched_at(self) -> dict[ir.Value, list[float]]:
        """When a value is computed and read, in ascending order; a value that is given is there from the beginning."""
        found: dict[ir.Value, list[float]] = {}
        for time, ops in zip(self.times, self.ops):
            for value in itertools.chain(*((*op.operands, *op.results) for op in ops)):
                found.setdefault(value, []).append(time)
        return found

    def share_read_again(self, value: ir.Value, time: float) -> float:
        """With which probability a message begins between the last use of a value and a time."""
        times = self.touched_at[value]
        before = bisect.bisect_left(times, time)
        return min((time - times[before - 1]) / self.limit, 1) if before else 1

    def _last_uses(self) -> dict[ir.Value, int]:
        """The last kernel that reads a value, through ops that only move its data too."""
        number_of = {op: number for number, ops in enumerate(self.ops) for op in ops}
        found: dict[ir.Value, int] = {}
        for ops in reversed(self.ops):
            for op in reversed(ops):
                for result in op.results:
                    users = [use.owner.operation for use in result.uses]
                    found[result] = max(
                        (
                            max(
                                number_of.get(user, len(self.ops)),
                                found[user.results[0]] if is_view(user) else 0,
                            )
                            for user in users
                        ),
                        default=0,
                    )
        return found


def _extend(ops: Sequence[ir.Operation], *chains: Axes | None) -> None:
    for axes in filter(None, chains):
        for op in ops:
            axes.append(op)


@dataclass(eq=False)
class _Estimate:
    """What a chain costs as far as it has grown; pages are fractions of pages."""

    search: _Search
    axes: Axes
    outer: Axes | None
    instructions: int = 0
    kernels: int = 0
    largest: int = 0
    throughout: float = 0
    read: float = 0
    time: float = 0
    written: float = 0
    outside: float = 0
    whole_elements: float = 0
    working: float = 0
    held: float = 0
    extent: int = 1 << 62
    outer_extent: int = 1 << 62
    _known: int = 0
    _read: set[ir.Value] = field(default_factory=set)
    _apart: dict[ir.Value, float] = field(default_factory=dict)
    _ending: dict[int, list[float]] = field(default_factory=dict)

    def add(self, number: int) -> None:
        """The next kernel. Raises BrokenChainError."""
        charge = self.search.kernels[number].charge
        _extend(self.search.ops[number], self.axes, self.outer)
        self.time = self.search.times[number]
        self.instructions += charge.instructions
        self.kernels += charge.instructions > 0
        self.largest = max(self.largest, charge.instructions)
        for op in self.search.ops[number]:
            for result in op.results:
                if result not in self.axes.of and not is_view(op):
                    self._apart[result] = _size(result)
        for value in list(itertools.islice(self.axes.of, self._known, None)):
            self._add_value(value)
        self._known = len(self.axes.of)
        self.written -= sum(self._ending.pop(number, ()))

    def _add_value(self, value: ir.Value) -> None:
        self._apart.pop(value, None)
        needs = self.search.rules.of(value.owner.operation, self.axes.of[value])
        assert needs is not None
        inside = 0.0
        for operand, part, overlapping in zip(value.owner.operands, needs.axes, needs.overlapping):
            if operand in self.axes.of:
                inside += _size(operand)
                if overlapping and operand not in self._read:
                    self._read.add(operand)
                    self.held += _size(operand)
            elif operand not in self._read and isinstance(operand.type, ir.RankedTensorType):
                self._read.add(operand)
                self.read += _size(operand) * self.search.share_read_again(operand, self.time)
                if part is None:
                    self.throughout += _size(operand)
                    if operand not in self.search.rules.known:
                        self.whole_elements += math.prod(shape_of(operand))
        if is_view(value.owner):
            return
        self.working = max(self.working, inside + _size(value))
        made = self.search.made_by[value]
        self.written += self.search.writing[made]
        self._ending.setdefault(self.search.last_use[value], []).append(self.search.writing[made])
        self.extent = min(self.extent, shape_of(value)[self.axes.of[value]])
        if self.outer:
            if value not in self.outer.of:
                raise BrokenChainError
            self.outer_extent = min(self.outer_extent, shape_of(value)[self.outer.of[value]])

    @property
    def blocks(self) -> int:
        """Indices of the outer axis."""
        return self.outer_extent if self.outer else 1

    @property
    def again(self) -> float:
        """How many messages begin while the chain runs."""
        return self.instructions / self.search.limit

    @property
    def part(self) -> float:
        """What a part takes more than its share of the instructions."""
        return _KERNEL_IN_A_PART * self.kernels + _WHOLE_ELEMENT * self.whole_elements / self.blocks

    def best_count(self) -> int:
        """How many parts for each index of the outer axis: those that cost least, or more, so as to fill messages."""
        working = (self.working + self.held) * self.again * self.search.price_of_writing
        filling = _PARTS_A_MESSAGE * self.largest / self.search.limit
        most = min(_MOST_PARTS, _MOST_PARTS_OF_KERNELS // max(self.kernels, 1))
        parts = min(max(math.sqrt(working / max(self.part, 1)), filling), most)
        return min(max(math.ceil(parts / self.blocks), 1), self.extent)

    def cost_of_parts(self, count: int) -> float:
        return count * self.blocks * self.part

    def cost_of_pages(self, count: int) -> float:
        """Of all messages."""
        read = (self.again * self.throughout + self.read) * self.search.model.page_access
        working = self.again * (self.working + self.held) / (count * self.blocks)
        apart = min(self.again, 1) * sum(self._apart.values())
        return read + (working + apart) * self.search.price_of_writing + self.written


def _pages(mask: int) -> np.ndarray:
    """The numbers of the bits that are set."""
    data = np.frombuffer(mask.to_bytes((mask.bit_length() + 7) // 8, "little"), np.uint8)
    return np.flatnonzero(np.unpackbits(data, bitorder="little"))


def _size(value: ir.Value) -> float:
    """In pages."""
    if not isinstance(value.type, ir.RankedTensorType):
        return 0.0
    element = numpy_dtype_size(ir.RankedTensorType(value.type).element_type)
    return math.prod(shape_of(value)) * element / PAGE_BYTES
