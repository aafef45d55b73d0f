"""Running a chain part by part: which rows of each value are computed when, and the ops that do it.

What a part needs besides the rows that are new (for a convolution, those above them) was computed by the parts before
it and is still there, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch_mlir import ir

from tosaic_passes.chain import Chain, rows_of
from tosaic_passes.tile_expression import concat_of, demand, rebuilt, slice_of
from tosaic_passes.tile_windows import Window, shape_of, whole

Rows = tuple[int, int]
"""First and end along the axis of a value."""


@dataclass(frozen=True)
class Part:
    """The new rows of each kept value, at one index of the outer axis."""

    block: int
    rows: Mapping[ir.Value, Rows]


def about_so_many_parts(chain: Chain, count: int) -> list[Part] | None:
    """`count` parts for each index of the outer axis, or some other number that divides the chain evenly."""
    divisors = [number for number in range(2, chain.extent + 1) if chain.extent % number == 0]
    nearest = sorted(divisors, key=lambda number: abs(number - count))
    return next((parts for number in [count, *nearest] if (parts := parts_of(chain, number))), None)


def parts_of(chain: Chain, count: int) -> list[Part] | None:
    """At most `count` parts for each index of the outer axis, None if some part cannot be computed alone.

    A part gives its share of every result, and computes of the other values what that needs and no part before it gave.
    All but the last have the same share, so that they have the same kernels.
    """
    size = -(-chain.extent // count)
    parts = []
    for block in range(chain.outer_extent):
        done = dict.fromkeys(chain.kept, 0)
        for start in range(0, chain.extent, size):
            ends = _ends(chain, done, min(start + size, chain.extent), block)
            if ends is None:
                return None
            rows = {value: (done[value], end) for value, end in ends.items() if end > done[value]}
            parts.append(Part(block, rows))
            done = ends
    return parts


def _ends(chain: Chain, done: Mapping[ir.Value, int], share: int, block: int) -> dict[ir.Value, int] | None:
    """Up to which row each kept value is needed, if the results are to be there up to `share` of the extent."""
    ends = dict(done)
    for value in chain.results:
        ends[value] = max(ends[value], shape_of(value)[chain.axis[value]] * share // chain.extent)
    moved: dict[ir.Value, set[Window]] = {}
    for op in reversed(chain.ops):
        value = op.results[0]
        windows = moved.get(value, set())
        if value in ends:
            rows = (done[value], ends[value])
            windows = {rows_of(chain, value, rows, block)} if rows[1] > rows[0] else set()
        for window in windows:
            needed = demand(op, window)
            if needed is None:
                return None
            for operand, part in zip(op.operands, needed[0]):
                if not isinstance(part, tuple) or operand not in chain.axis:
                    continue
                if chain.outer and part[chain.outer[operand]] != (block, 1):
                    return None
                if operand in ends:
                    ends[operand] = max(ends[operand], sum(part[chain.axis[operand]]))
                else:
                    moved.setdefault(operand, set()).add(part)
    return ends


def run_in_parts(chain: Chain, parts: Sequence[Part]) -> list[ir.Value]:
    """Put the parts, and the concatenations of their results, in the place of the chain; returns what they compute."""
    last = chain.ops[-1]
    for op in reversed(chain.following):
        op.move_after(last)
    with ir.InsertionPoint(last):
        builder = _Builder(chain)
        for part in parts:
            builder.add(part)
        for value in chain.results:
            value.replace_all_uses_with(builder.whole(value))
    for op in reversed(chain.ops):
        op.erase()
    return builder.made


@dataclass(eq=False)
class _Builder:
    """The rows of each value that were computed so far, in pieces."""

    chain: Chain
    block: int = -1
    pieces: dict[ir.Value, list[tuple[Rows, ir.Value]]] = field(default_factory=dict)
    blocks: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    built: dict[tuple[ir.Value, Window], ir.Value] = field(default_factory=dict)
    made: list[ir.Value] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Compute new rows."""
        if part.block != self.block:
            self._end_block()
            self.block = part.block
        self.built.clear()
        for op in self.chain.ops:
            value = op.results[0]
            if value in part.rows:
                window = rows_of(self.chain, value, part.rows[value], self.block)
                piece = rebuilt(op, window, self._window)
                self.pieces.setdefault(value, []).append((part.rows[value], piece))
                self.made.append(piece)

    def whole(self, value: ir.Value) -> ir.Value:
        """All of a result."""
        self._end_block()
        blocks = self.blocks[value]
        return (
            blocks[0]
            if len(blocks) == 1
            else concat_of(blocks, self.chain.outer[value], value.owner.location)
        )

    def _end_block(self) -> None:
        for value in self.chain.results if self.pieces else ():
            extent = shape_of(value)[self.chain.axis[value]]
            self.blocks.setdefault(value, []).append(self._rows(value, (0, extent)))
        self.pieces.clear()

    def _window(self, value: ir.Value, window: Window) -> ir.Value:
        """A window of a value that was given, of one that was computed, or through ops that only move data."""
        if (value, window) not in self.built:
            self.built[value, window] = self._build(value, window)
        return self.built[value, window]

    def _build(self, value: ir.Value, window: Window) -> ir.Value:
        if value not in self.chain.axis:
            return value if window == whole(value) else slice_of(value, window)
        if value not in self.chain.kept:
            return rebuilt(value.owner, window, self._window)
        axis = self.chain.axis[value]
        first, size = window[axis]
        rows = self._rows(value, (first, first + size))
        within = list(window)
        within[axis] = (0, size)
        if self.chain.outer:
            within[self.chain.outer[value]] = (0, 1)
        return rows if tuple(within) == whole(rows) else slice_of(rows, tuple(within))

    def _rows(self, value: ir.Value, rows: Rows) -> ir.Value:
        pieces = list(self._cut(value, rows))
        joined = concat_of(pieces, self.chain.axis[value], value.owner.location)
        self.made += [joined] if len(pieces) > 1 else []
        return joined

    def _cut(self, value: ir.Value, rows: Rows) -> Iterator[ir.Value]:
        """The pieces that hold the rows, cut to them."""
        for (first, end), piece in self.pieces[value]:
            low, high = max(first, rows[0]), min(end, rows[1])
            if low < high:
                window = list(whole(piece))
                window[self.chain.axis[value]] = (low - first, high - low)
                yield piece if tuple(window) == whole(piece) else slice_of(piece, tuple(window))
