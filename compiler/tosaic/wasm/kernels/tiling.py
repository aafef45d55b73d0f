"""How a contraction is cut into register tiles: the tile and unrolling with the least price among all that keep the
limits of a function's bytes and locals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tosaic.prices import PriceList
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.kernels.across import joined_ends_of
from tosaic.wasm.kernels.epilogue import Ends, Epilogue, ends_of
from tosaic.wasm.kernels.streams import LANES, Axis, Group, nearly_equal
from tosaic.wasm.kernels.tile import Arithmetic, Loops, operand_locals

_LARGEST_SIDE = 32  # rows or vectors of a tile
_LARGEST_CHAIN = 64  # taps of a chain
_SHORTEST_BLOCK = 4  # taps of a block inside a loop
_OPERATOR_BYTES, _LOAD_BYTES, _FRAME_BYTES = (
    3,
    8,
    700,
)  # of code: arithmetic, an address with a load, all loops
_SHORT_LOCALS = 100  # of 128 that one byte names; the operands, named most often, come late
_OPERATORS_A_LONG_LOCAL = (
    2  # one in so many operators of an end names a local above 127, which takes a byte more
)
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

    @property
    def sums_across(self) -> bool:
        """Whether each vector holds the partial sums of a column."""
        return self.arithmetic.partial_sums > 1

    @property
    def group(self) -> int:
        """How many vectors side by side are finished at once."""
        return LANES if self.sums_across else self.epilogue.group

    def ends(self, prices: PriceList, vectors: int) -> Ends:
        """What the ends of so many vectors take."""
        still = self.epilogue.still_inputs(self.rows)
        if self.sums_across:
            return joined_ends_of(self.epilogue, prices, vectors, still)
        return ends_of(self.epilogue, prices, vectors, still)


@dataclass(frozen=True)
class Tiling:
    """The choice: a tile is `rows` indices of row axis `axis` (and all inside it) by `vectors`, taps in `order`; it
    takes that many `locals`."""

    axis: int
    rows: int
    vectors: int
    order: Loops
    locals: int


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
    columns = [_Columns.of(contraction, vectors, prices) for vectors in _balanced(contraction.vectors)]
    calls = math.prod(axis.size for axis in contraction.batch)
    install = prices.compile_per_operator / options.calls_per_install
    best: tuple[float, Tiling] | None = None
    for order, m, n in itertools.product(orders, rows, columns):
        if not order.fits(m, n, options):
            continue
        price = calls * order.price(m, n) + install * order.operators(m, n) * m.bodies * n.bodies
        if best is None or price < best[0]:
            best = price, Tiling(m.axis, m.count, n.vectors, order.order, order.locals(m, n))
    if best is None:
        raise ValueError(f"no register tile fits {options}")
    return best[1]


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
    """A choice of columns: `vectors` in a panel, and `panels` panels for all `total` vectors, in `bodies` sizes.

    `group` of them are finished at once; `ends` is what a panel's row takes for that, `ends_cost` a whole row's cost.
    """

    vectors: int
    panels: int
    total: int
    bodies: int
    group: int
    ends: Ends
    ends_cost: int

    @classmethod
    def of(cls, c: Contraction, vectors: int, prices: PriceList) -> _Columns:
        found = panels(c.columns, vectors, c.arithmetic.lanes)
        ends = [c.ends(prices, panel.width) for panel in found]
        return cls(
            vectors,
            -(-c.vectors // vectors),
            c.vectors,
            len(found),
            c.group,
            c.ends(prices, vectors),
            sum(panel.count * end.cost for panel, end in zip(found, ends)),
        )


@dataclass(frozen=True)
class _Order:
    """An order of the taps and what it costs, estimated: an accumulator (`whole`), an operand that is used once or more
    often (`single`, `shared`: a row or a vector of a tile), and a tile. `code_taps` of the taps are in the code,
    at most `chain` of them in one chain."""

    order: Loops
    chain: int
    code_taps: int
    whole: int
    single: int
    shared: int
    tile: int

    @classmethod
    def of(cls, c: Contraction, order: Loops, prices: PriceList) -> _Order:
        price = prices.operators
        get = price["local.get"]
        trips = math.prod(trips for trips, _ in order.loops)
        turns = trips * (order.blocks + bool(order.loops and order.tail))
        product = 2 * get + price[c.arithmetic.multiply] + price[c.arithmetic.add]
        return cls(
            order,
            chain=max(len(order.body), len(order.tail)),
            code_taps=len(order.body) + len(order.tail),
            whole=order.taps * product + turns * 2 * get + 2 * get,
            single=order.taps * price["v128.load"],
            shared=order.taps * (price["v128.load"] + price["local.tee"]),
            tile=turns * 12 * get + trips * bool(order.loops) * 20 * get + 20 * get,
        )

    def locals(self, m: _Rows, n: _Columns) -> int:
        accumulators = 0 if self.order.is_straight else m.rows * n.vectors
        return accumulators + self.chain * operand_locals(m.rows, n.vectors, n.group) + _ADDRESS_LOCALS

    def fits(self, m: _Rows, n: _Columns, options: KernelOptions) -> bool:
        locals_ = self.locals(m, n)
        return locals_ <= options.locals and self._bytes(m, n, locals_) <= options.function_bytes

    def _bytes(self, m: _Rows, n: _Columns, locals_: int) -> float:
        """Of the code of a tile, estimated."""
        access = 2 + max(0, locals_ - _SHORT_LOCALS) / locals_  # of one local on average
        accumulators, chains = m.rows * n.vectors, bool(self.order.body) + bool(self.order.tail)
        return (
            accumulators * self.code_taps * 2 * (access + _OPERATOR_BYTES)
            + accumulators * chains * 2 * access
            + (m.rows + n.vectors) * self.code_taps * (_LOAD_BYTES + access)
            + m.rows * (n.ends.bytes + n.ends.operators // _OPERATORS_A_LONG_LOCAL)
            + _FRAME_BYTES
        )

    def operators(self, m: _Rows, n: _Columns) -> int:
        """Of the code of a tile."""
        return m.rows * n.vectors * (4 * self.code_taps + 2) + m.rows * n.ends.operators

    def price(self, m: _Rows, n: _Columns) -> int:
        """All accumulators, the operands of both sides, the ends, and the tiles."""
        left = self.shared if n.vectors > 1 else self.single
        right = self.shared if m.rows > 1 else self.single
        return (
            m.total * n.total * self.whole
            + m.total * n.panels * left
            + n.total * m.tiles * right
            + m.total * n.ends_cost
            + m.tiles * n.panels * self.tile
        )
