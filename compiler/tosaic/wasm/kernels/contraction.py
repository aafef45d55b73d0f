"""Sums of products over any nest of output rows, output columns and taps: what matmul and convolutions have in common.

    output[row, column] = start[column] + sum over taps of left[row, tap] * right[tap, column]

A row is an output pixel or a matrix row; 4 columns (channels) make a vector. The output is cut into blocks of equal
register tiles (full tiles and remainders of their own), each block one function of at most `function_bytes`. Tile and
unrolling are those with the least price among all that keep the limits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.kernels.epilogue import Epilogue, epilogue_operators
from tosaic.wasm.kernels.streams import (
    BIAS,
    LEFT,
    OUTPUT,
    RIGHT,
    Axis,
    Group,
    collapsed,
    load_words,
    nearly_equal,
    nest,
)
from tosaic.wasm.kernels.tile import ZERO, Arithmetic, Chain, Loops, RegisterTile

_LARGEST_SIDE = 32  # rows or vectors of a tile
_LARGEST_CHAIN = 64  # taps of a chain
_SHORTEST_BLOCK = 4  # taps of a block inside a loop
_OPERATOR_BYTES = 3  # of code, at most on average
_ADDRESS_LOCALS = 8  # at most so many locals hold loop ends and epilogue values in passing


@dataclass(frozen=True)
class Reduction:
    """The taps: a run of `run` taps `step` bytes apart on the left, inside loops of (trips, bytes), outermost first."""

    loops: tuple[tuple[int, int], ...]
    run: int
    step: int

    @property
    def taps(self) -> int:
        return self.run * math.prod(trips for trips, _ in self.loops)


@dataclass(frozen=True)
class Contraction:
    """A whole contraction, hashable: equal ones share their code.

    `batch` axes lie around everything, `rows` inside (outermost first). `column_steps` gives the bytes that each
    stream moves per column. The right operand is packed (`packing.py`) or, with `right_row` bytes between its taps,
    read in place. `start` is "zero", "scalar" (one bias for all columns) or "vector"; in memory vector biases and
    packed columns are padded to whole vectors, unless `exact_bias`.
    """

    arithmetic: Arithmetic
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: int
    column_steps: tuple[int, ...]
    reduction: Reduction
    epilogue: Epilogue
    right_row: int | None = None
    start: str = "zero"
    exact_bias: bool = False

    @property
    def vectors(self) -> int:
        return -(-self.columns // self.arithmetic.lanes)


@dataclass(frozen=True)
class Tiling:
    """The choice: a tile is `rows` indices of row axis `axis` (and all inside it) by `vectors`, taps in `order`."""

    axis: int
    rows: int
    vectors: int
    order: Loops


@dataclass(frozen=True)
class Panels(Group):
    """Equal groups of vectors side by side; `lanes` is the number of columns in the last vector of each."""

    lanes: int


def panels(columns: int, vectors: int, lanes: int) -> list[Panels]:
    """Panels of at most `vectors` vectors of `lanes` columns; a vector that is not full ends a panel of its own."""
    groups = [Panels(g.first, g.count, g.width, lanes) for g in nearly_equal(-(-columns // lanes), vectors)]
    if columns % lanes == 0:
        return groups
    last = groups.pop()
    if last.count > 1:
        groups.append(Panels(last.first, last.count - 1, last.width, lanes))
    return [*groups, Panels(last.first + (last.count - 1) * last.width, 1, last.width, columns % lanes)]


@lru_cache(maxsize=512)
def choose(contraction: Contraction, prices: PriceList, options: KernelOptions) -> Tiling:
    """The tiling with the least price for all calls and one install."""
    orders = [_Order.of(contraction, order, prices) for order in _orders(contraction.reduction)]
    rows = [_Rows.of(contraction, axis, count) for axis, count in _row_choices(contraction.rows)]
    columns = [_Columns.of(contraction, vectors) for vectors in _balanced(contraction.vectors)]
    calls = math.prod(axis.size for axis in contraction.batch)
    install = prices.compile_per_operator / options.calls_per_install
    best: tuple[float, Tiling] | None = None
    for order, m, n in itertools.product(orders, rows, columns):
        accumulators = m.rows * n.vectors
        operators = accumulators * order.operators
        if not order.fits(m.rows, n.vectors, options) or operators * _OPERATOR_BYTES > options.function_bytes:
            continue
        price = calls * order.price(m, n) + install * operators * m.bodies * n.bodies
        if best is None or price < best[0]:
            best = price, Tiling(m.axis, m.count, n.vectors, order.order)
    if best is None:
        raise ValueError(f"no register tile fits {options}")
    return best[1]


@lru_cache(maxsize=512)
def emit(contraction: Contraction, prices: PriceList, options: KernelOptions) -> Function:
    """A function that takes the addresses of all streams (i32) and computes the contraction."""
    tiling = choose(contraction, prices, options)
    params = ("i32",) * len(contraction.column_steps)
    f = Function("contraction", prices, params)
    for rows in _row_groups(contraction, tiling):
        for columns in panels(contraction.columns, tiling.vectors, contraction.arithmetic.lanes):
            block = _Block(Function("block", prices, params), contraction, tiling, rows, columns)
            block.emit()
            for stream in range(len(params)):
                f.get(stream)
                f.i32(block.start(stream))
                f.op("i32.add")
            f.call(block.f)
    return f


# The choice


def _orders(reduction: Reduction) -> Iterator[Loops]:
    """The ways to unroll the taps: all of the inner loops, or a part of the run."""
    for depth in range(len(reduction.loops) + 1):
        inner = reduction.loops[depth:]
        taps = reduction.run * math.prod(trips for trips, _ in inner)
        if taps <= _LARGEST_CHAIN:
            yield Loops(reduction.loops[:depth], 0, (), 0, _offsets(inner, reduction))
    for unroll in range(min(_SHORTEST_BLOCK, reduction.run), min(_LARGEST_CHAIN // 2, reduction.run - 1) + 1):
        yield _blocked(reduction, unroll)


def _blocked(reduction: Reduction, unroll: int) -> Loops:
    """A loop over blocks of the run; where there are no other loops the last block is peeled off, for the stores."""
    blocks = reduction.run // unroll if reduction.loops else (reduction.run - 1) // unroll
    offsets = [tap * reduction.step for tap in range(unroll)]
    tail = offsets[: reduction.run - blocks * unroll]
    return Loops(reduction.loops, blocks, tuple(offsets), unroll * reduction.step, tuple(tail))


def _offsets(loops: Sequence[tuple[int, int]], reduction: Reduction) -> tuple[int, ...]:
    ranges = [[i * move for i in range(trips)] for trips, move in loops]
    ranges.append([i * reduction.step for i in range(reduction.run)])
    return tuple(sum(parts) for parts in itertools.product(*ranges))


def _row_choices(rows: Sequence[Axis]) -> Iterator[tuple[int, int]]:
    """(axis, its indices in a tile): the innermost axis cut, or kept whole and the one around it cut, and so on."""
    if not rows:
        yield 0, 1
    inside = 1
    for axis in reversed(range(len(rows))):
        for count in _balanced(rows[axis].size):
            if count * inside <= _LARGEST_SIDE and (count > 1 or axis == len(rows) - 1):
                yield axis, count
        inside *= rows[axis].size


def _balanced(size: int) -> list[int]:
    """The sizes of the larger pieces when `size` is cut into nearly equal pieces of at most the largest side."""
    return sorted(
        {math.ceil(size / math.ceil(size / piece)) for piece in range(1, min(size, _LARGEST_SIDE) + 1)}
    )


@dataclass(frozen=True)
class _Rows:
    """A choice of rows: `count` indices of `axis` are `rows` rows of a tile, and `tiles` tiles all `total` rows, in
    `bodies` different sizes."""

    axis: int
    count: int
    rows: int
    tiles: int
    total: int
    bodies: int

    @classmethod
    def of(cls, c: Contraction, axis: int, count: int) -> _Rows:
        cut = c.rows[axis].size if c.rows else 1
        total = math.prod(other.size for other in c.rows)
        inside = math.prod(other.size for other in c.rows[axis + 1 :])
        tiles = -(-cut // count)
        return cls(
            axis, count, count * inside, tiles * (total // (cut * inside)), total, 1 + bool(cut % tiles)
        )


@dataclass(frozen=True)
class _Columns:
    """A choice of columns: `vectors` in a panel, and `panels` panels for all `total` vectors, in `bodies` sizes."""

    vectors: int
    panels: int
    total: int
    bodies: int

    @classmethod
    def of(cls, c: Contraction, vectors: int) -> _Columns:
        bodies = len(panels(c.columns, vectors, c.arithmetic.lanes))
        return cls(vectors, -(-c.vectors // vectors), c.vectors, bodies)


@dataclass(frozen=True)
class _Order:
    """An order of the taps and what it costs, estimated: an accumulator (`whole`, `operators` of code), an operand that
    is used once or more often (`single`, `shared`: a row or a vector of a tile), and a tile."""

    order: Loops
    chain: int
    looped: bool
    operators: int
    whole: int
    single: int
    shared: int
    tile: int

    @classmethod
    def of(cls, c: Contraction, order: Loops, prices: PriceList) -> _Order:
        price, chain = prices.operators, max(len(order.body), len(order.tail))
        get = price["local.get"]
        trips = math.prod(trips for trips, _ in order.loops)
        turns = trips * (order.blocks + bool(order.loops and order.tail))
        product = 2 * get + price[c.arithmetic.multiply] + price[c.arithmetic.add]
        return cls(
            order,
            chain,
            looped=bool(order.loops or order.blocks),
            operators=4 * (len(order.body) + len(order.tail)) + 2 + epilogue_operators(c.epilogue, prices),
            whole=order.taps * product + turns * 2 * get + 4 * get,
            single=order.taps * price["v128.load"],
            shared=order.taps * (price["v128.load"] + price["local.tee"]),
            tile=turns * 12 * get + trips * bool(order.loops) * 20 * get + 20 * get,
        )

    def fits(self, rows: int, vectors: int, options: KernelOptions) -> bool:
        held = rows * vectors * self.looped + self.chain * (1 + min(rows, vectors))
        return held + _ADDRESS_LOCALS <= options.locals

    def price(self, m: _Rows, n: _Columns) -> int:
        """All accumulators, the operands of both sides, and the tiles."""
        left = self.shared if n.vectors > 1 else self.single
        right = self.shared if m.rows > 1 else self.single
        return (
            m.total * n.total * self.whole
            + m.total * n.panels * left
            + n.total * m.tiles * right
            + m.tiles * n.panels * self.tile
        )


# The blocks


def _row_groups(c: Contraction, tiling: Tiling) -> list[Group]:
    return nearly_equal(c.rows[tiling.axis].size, tiling.rows) if c.rows else [Group(0, 1, 1)]


@dataclass
class _Block:
    """Equal tiles side by side: a group of tiles along the cut axis by a group of panels, and all axes around them."""

    f: Function
    c: Contraction
    tiling: Tiling
    group: Group
    panels: Panels

    def start(self, stream: int) -> int:
        """Byte offset of the block's first tile."""
        cut = self.c.rows[self.tiling.axis].steps[stream] if self.c.rows else 0
        return self.group.first * cut + self._columns(stream, self.panels.first)

    def emit(self) -> None:
        nest(self.f, collapsed([*self.c.batch, *self._panel_axis(), *self._row_axes()]), self._tile)

    def _panel_axis(self) -> list[Axis]:
        streams = range(len(self.c.column_steps))
        return [
            Axis(self.panels.count, tuple(self._columns(stream, self.panels.width) for stream in streams))
        ]

    def _row_axes(self) -> list[Axis]:
        if not self.c.rows:
            return []
        cut = self.c.rows[self.tiling.axis]
        tiles = Axis(self.group.count, tuple(step * self.group.width for step in cut.steps))
        return [*self.c.rows[: self.tiling.axis], tiles]

    def _columns(self, stream: int, vectors: int) -> int:
        """How far a stream moves over this many vectors of whole panels."""
        if stream == RIGHT and self.c.right_row is None:
            return vectors * self.c.reduction.taps * self.c.arithmetic.right_bytes
        return vectors * self.c.arithmetic.lanes * self.c.column_steps[stream]

    def _rows(self) -> list[tuple[int, ...]]:
        """For each row of the tile the byte offset in every stream."""
        streams = len(self.c.column_steps)
        if not self.c.rows:
            return [(0,) * streams]
        axes = [
            Axis(self.group.width, self.c.rows[self.tiling.axis].steps),
            *self.c.rows[self.tiling.axis + 1 :],
        ]
        found = []
        for indices in itertools.product(*(range(axis.size) for axis in axes)):
            found.append(tuple(sum(i * a.steps[s] for i, a in zip(indices, axes)) for s in range(streams)))
        return found

    def _tile(self) -> None:
        rows = self._rows()
        right_bytes = self.c.arithmetic.right_bytes

        def finish(row: int, vector: int, chain: Chain) -> None:
            offsets = [
                rows[row][stream] + self._columns(stream, vector)
                for stream in range(OUTPUT, len(self.c.column_steps))
            ]
            self.c.epilogue.store(self.f, offsets, self._lanes(vector), chain)

        RegisterTile(
            self.f,
            self.c.arithmetic,
            LEFT,
            RIGHT,
            rows=[row[LEFT] for row in rows],
            vectors=[vector * right_bytes for vector in range(self.panels.width)],
            right_step=self.panels.width * right_bytes if self.c.right_row is None else self.c.right_row,
            load_right=self._load_right,
            start=self._start,
            finish=finish,
        ).emit(self.tiling.order)

    def _lanes(self, vector: int) -> int:
        return self.panels.lanes if vector == self.panels.width - 1 else self.c.arithmetic.lanes

    def _load_right(self, vector: int, offset: int) -> None:
        if self.c.right_row is None:
            self.f.get(RIGHT)
            self.f.memory(self.c.arithmetic.load_right, offset)
        else:
            load_words(self.f, RIGHT, offset, self._lanes(vector))

    def _start(self, vector: int) -> None:
        arithmetic = self.c.arithmetic
        if self.c.start == "zero":
            self.f.v128(ZERO)
        elif self.c.start == "scalar":
            self.f.get(BIAS)
            self.f.memory(f"v128.load{8 * arithmetic.sum_bytes}_splat")
        else:
            lanes = self._lanes(vector) if self.c.exact_bias else arithmetic.lanes
            load_words(self.f, BIAS, self._columns(BIAS, vector), lanes * arithmetic.sum_bytes // 4)
