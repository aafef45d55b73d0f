"""Into which parts to cut an expression so that each fits: as few as possible, and those that read little again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from tosaic_passes.cost_model import Charge, CostModel
from tosaic_passes.tile_expression import Expression, is_constant
from tosaic_passes.tile_windows import VECTOR, Window, shape_of
from tosaic_passes.weights import numpy_dtype_size

PAGE_BYTES = 65536
_CHANNEL_GRAIN = 16
"""Parts of the last dimension begin at multiples of this: whole vectors."""
_MARGIN = 1.01
"""A part takes a little more than its share of the instructions."""
_MOST_PARTS = 256
"""Of one kernel: the code grows with each."""


@dataclass(frozen=True, order=True)
class Tiling:
    """Parts of `sizes`, the last along an axis being what is left; the smallest is the best: few, and little in all."""

    parts: int
    total: int
    sizes: tuple[int, ...]
    first: int = 0
    """The size of the first part along the only axis that is cut, if it is another one."""

    def windows(self, shape: Sequence[int]) -> Iterator[Window]:
        """The parts of a shape in row-major order."""
        return itertools.product(*self.ranges(shape))

    def ranges(self, shape: Sequence[int]) -> list[list[tuple[int, int]]]:
        """The parts along each axis."""
        return [
            _ranges(extent, size, self.first if size < extent else 0)
            for extent, size in zip(shape, self.sizes)
        ]


@dataclass(frozen=True)
class TilingSearch:
    """Tilings of an expression that takes `charge` as a whole."""

    expression: Expression
    charge: Charge
    model: CostModel

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(shape_of(self.expression.result))

    def best(self, room: int) -> Tiling | None:
        """The fewest parts of which each takes at most `room`, None if none are small enough.

        Cut along one axis where that is enough, else along several.
        """
        along_one = [t for axis in range(len(self.shape)) if (t := self._along(axis, room))]
        if along_one:
            return min(along_one)
        sizes = next((sizes for cost, sizes in self._halvings() if cost <= room), None)
        return self._coarsest(sizes, room) if sizes and self._possible(sizes) else None

    def filling(self, tiling: Tiling, left: int, room: int) -> Tiling:
        """The same cut with parts as large as `room` allows, after a first one that takes at most `left`."""
        cut = [axis for axis, (size, extent) in enumerate(zip(tiling.sizes, self.shape)) if size < extent]
        if len(cut) != 1:
            return tiling
        first, size = self._largest(cut[0], left), self._largest(cut[0], room)
        if not first or not size:
            return tiling
        sizes = (*self.shape[: cut[0]], size, *self.shape[cut[0] + 1 :])
        parts = 1 + math.ceil((self.shape[cut[0]] - first) / size)
        found = Tiling(parts, parts * room, sizes, first)
        possible = all(self.expression.reads(window) is not None for window in found.windows(self.shape))
        return found if possible else tiling

    def last_cost(self, tiling: Tiling) -> int:
        """About what the last part takes."""
        last = tuple(ranges[-1] for ranges in tiling.ranges(self.shape))
        return self._window_cost(last) or 0

    def _largest(self, axis: int, room: int) -> int:
        """The size of the largest part along an axis that takes at most `room`, 0 if none does."""
        grain = _CHANNEL_GRAIN if axis == len(self.shape) - 1 else 1
        low, high = 0, (self.shape[axis] - 1) // grain
        while low < high:
            tried = -(-(low + high) // 2)
            cost = self._cost((*self.shape[:axis], tried * grain, *self.shape[axis + 1 :]))
            low, high = (tried, high) if cost is not None and cost <= room else (low, tried - 1)
        return low * grain

    def least_cost(self) -> int:
        """The least room for which there are parts, or what the whole takes if there are none."""
        along_one = (
            (self._cost(sizes), sizes) for axis in range(len(self.shape)) for sizes in self._cuts(axis)
        )
        found = [*((cost, sizes) for cost, sizes in along_one if cost is not None), *self._halvings()]
        return next(
            (cost for cost, sizes in sorted(found) if self._possible(sizes)), self._cost(self.shape) or 0
        )

    def _along(self, axis: int, room: int) -> Tiling | None:
        """The coarsest tiling along one axis."""
        for sizes in self._cuts(axis):
            cost = self._cost(sizes)
            if cost is not None and cost <= room and self._possible(sizes):
                return self._tiling(sizes, cost)
        return None

    def _cuts(self, axis: int) -> Iterator[tuple[int, ...]]:
        """Parts along one axis, each smaller than those before."""
        for size in self._steps(axis):
            sizes = (*self.shape[:axis], size, *self.shape[axis + 1 :])
            if self._parts(sizes) > _MOST_PARTS:
                return
            yield sizes

    def _halvings(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The whole, and then parts that are halves along the axis that saves most, as long as one saves anything."""
        halves = [self.shape]
        least = None
        while costs := [(c, half) for half in halves if (c := self._cost(half)) is not None]:
            cost, sizes = min(costs)
            if least is not None and cost >= least:
                return
            yield cost, sizes
            least = cost
            halves = [half for axis in range(len(sizes)) if (half := self._halved(sizes, axis))]

    def _halved(self, sizes: tuple[int, ...], axis: int) -> tuple[int, ...] | None:
        wanted = -(-sizes[axis] // 2)
        smaller = [size for size in self._steps(axis) if size < sizes[axis]]
        if not smaller:
            return None
        found = next((size for size in smaller if size <= wanted), smaller[-1])
        halved = (*sizes[:axis], found, *sizes[axis + 1 :])
        return halved if self._parts(halved) <= _MOST_PARTS else None

    def _coarsest(self, sizes: tuple[int, ...], room: int) -> Tiling:
        """Larger parts, axis by axis, as long as they fit."""
        for axis in range(len(sizes)):
            for size in self._steps(axis):
                larger = (*sizes[:axis], size, *sizes[axis + 1 :])
                cost = self._cost(larger)
                if size > sizes[axis] and cost is not None and cost <= room and self._possible(larger):
                    sizes = larger
                    break
        return self._tiling(sizes, self._cost(sizes) or 0)

    def _tiling(self, sizes: tuple[int, ...], cost: int) -> Tiling:
        parts = self._parts(sizes)
        return Tiling(parts, cost * parts, sizes)

    def _parts(self, sizes: Sequence[int]) -> int:
        return math.prod(-(-extent // size) for extent, size in zip(self.shape, sizes))

    def _steps(self, axis: int) -> Iterator[int]:
        """Sizes of parts along an axis, each smaller than the one before."""
        extent = self.shape[axis]
        last = axis == len(self.shape) - 1
        before, count = extent, 2
        while count <= extent:
            size = -(-extent // count)
            for grain in _grains(size) if last else (1,):
                rounded = min(-(-size // grain) * grain, extent - 1)
                if rounded < before:
                    before = rounded
                    yield rounded
            count = max(count + 1, count * 9 // 8)

    def _possible(self, sizes: Sequence[int]) -> bool:
        """Whether every part can be computed alone."""
        return all(self.expression.reads(window) is not None for window in windows(self.shape, sizes))

    def _cost(self, sizes: Sequence[int]) -> int | None:
        """About what the dearest part takes, its pages included; None if it cannot be computed alone."""
        costs = [self._window_cost(window) for window in _samples(self.shape, sizes)]
        return None if None in costs else max(cost for cost in costs if cost is not None)

    def _window_cost(self, window: Window) -> int | None:
        reads = self.expression.reads(window)
        if reads is None:
            return None
        share = math.prod(size for _, size in window) / math.prod(self.shape)
        return math.ceil(self.charge.instructions * share * _MARGIN) + self._touches(window, reads)

    def _touches(self, window: Window, reads: Iterable[tuple[ir.Value, Window]]) -> int:
        """About what the pages of a part cost: they are pages of the whole. Small tensors lie in common pages."""
        charge, model = self.charge, self.model
        written = math.ceil(pages(self.expression.result, window)) + 1
        read = math.ceil(sum(pages(value, part) for value, part in reads)) + 2
        written = min(written, charge.writes.bit_count())
        accessed = min(read + written, (charge.reads | charge.writes).bit_count())
        return accessed * model.page_access + written * model.page_write


def _grains(size: int) -> tuple[int, ...]:
    """What parts of the last dimension of about this size are multiples of: smaller ones of a vector, or of nothing."""
    return (_CHANNEL_GRAIN,) if size >= _CHANNEL_GRAIN else (VECTOR, 1)


def windows(shape: Sequence[int], sizes: Sequence[int]) -> Iterator[Window]:
    """The parts of a shape in row-major order."""
    return itertools.product(*(_ranges(extent, size) for extent, size in zip(shape, sizes)))


def _ranges(extent: int, size: int, first: int = 0) -> list[tuple[int, int]]:
    """(start, size) of parts of an axis, the first one of another size where that is given."""
    rest = [(start, min(size, extent - start)) for start in range(first, extent, size)]
    return [(0, first), *rest] if first else rest


def _samples(shape: Sequence[int], sizes: Sequence[int]) -> Iterator[Window]:
    """The first part, one in the middle and the last one."""
    counts = [-(-extent // size) for extent, size in zip(shape, sizes)]
    for places in ([0] * len(counts), [count // 2 for count in counts], [count - 1 for count in counts]):
        starts = [place * size for place, size in zip(places, sizes)]
        yield tuple((start, min(size, extent - start)) for start, size, extent in zip(starts, sizes, shape))


def pages(value: ir.Value, window: Window) -> float:
    """About how many pages a window of a tensor fills; a part of a constant is stored by itself."""
    element = numpy_dtype_size(ir.RankedTensorType(value.type).element_type)
    if is_constant(value):
        return math.prod(size for _, size in window) * element / PAGE_BYTES
    run, runs, stride, span = element, 1, element, element
    for (_, size), extent in zip(reversed(window), reversed(shape_of(value))):
        if runs == 1 and run == stride:
            run *= size
        else:
            runs *= size
        span += (size - 1) * stride
        stride *= extent
    return min(span / PAGE_BYTES, runs * (run / PAGE_BYTES + 1))
