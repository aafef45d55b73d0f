"""The register tile: rows x vectors of accumulators, to which runs of products are added.

The network charges for every `local.get` and nothing for the operand stack, so each accumulator is taken up once,
gets a chain of products added on the stack, and is put down again:

    get accumulator; (get left; get right; multiply; add) per tap; set accumulator

Operands come into locals at their first use (`local.tee`). With m rows, n vectors and k taps a chain this costs, in
f32, 1.5 + (1/n + 1/m + 1/k) / 2 instructions a multiply-add. A tap is one product of the reduction. Taps are added
in ascending order, starting at the bias, whatever the tile: every tile choice gives the same bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tosaic.wasm.function import Function
from tosaic.wasm.kernels.streams import LANES

ZERO = bytes(16)


@dataclass(frozen=True)
class Arithmetic:
    """How one tap is multiplied and added.

    A left operand is 4 bytes, spread over the lanes: one number, or a pair of i16 that meets a pair of right-hand
    numbers in each lane (`width` numbers of the reduction are one tap). `load_right` loads the `right_bytes` of a
    vector, that is of `lanes` columns. With several `partial_sums` an accumulator holds those of one column, and a
    left operand is a vector too.
    """

    load_left: str
    load_right: str
    right_bytes: int
    multiply: str
    add: str
    width: int = 1
    lanes: int = LANES
    partial_sums: int = 1

    @property
    def sum_bytes(self) -> int:
        """Bytes of an accumulator's lane."""
        return 16 // (self.lanes * self.partial_sums)


F32 = Arithmetic("v128.load32_splat", "v128.load", 16, "f32x4.mul", "f32x4.add")
F32_ACROSS = Arithmetic("v128.load", "v128.load", 16, "f32x4.mul", "f32x4.add", 4, 1, 4)
I16_BY_I8 = Arithmetic("v128.load32_splat", "v128.load8x8_s", 8, "i32x4.dot_i16x8_s", "i32x4.add", 2)
I16_BY_I16 = Arithmetic("v128.load32_splat", "v128.load", 16, "i32x4.dot_i16x8_s", "i32x4.add", 2)
I32 = Arithmetic("v128.load32_splat", "v128.load", 16, "i32x4.mul", "i32x4.add")
I32_TO_I64 = Arithmetic(
    "v128.load32_splat", "v128.load64_zero", 8, "i64x2.extmul_low_i32x4_s", "i64x2.add", 1, 2
)
"""Sums of more than 32 bits: TOSA's i48."""


@dataclass(frozen=True)
class Loops:
    """The order of the taps: `loops` around `blocks` times `body`, then `tail`.

    `loops` are (trips, bytes the left operand moves), outermost first; `body` and `tail` hold the byte offset of the
    left operand for each tap; a block moves it by `block_move` bytes. On the right each tap follows the one before.
    """

    loops: tuple[tuple[int, int], ...]
    blocks: int
    body: tuple[int, ...]
    block_move: int
    tail: tuple[int, ...]

    @property
    def is_straight(self) -> bool:
        """Whether each accumulator is one chain from its start to its end."""
        return not (self.loops or self.blocks)

    @property
    def taps(self) -> int:
        return (self.blocks * len(self.body) + len(self.tail)) * math.prod(trips for trips, _ in self.loops)


Chain = Callable[[], None]
"""Pushes one accumulator with all products added so far."""


Finish = Callable[[int, int, Sequence[Chain]], None]


def operand_locals(rows: int, vectors: int, group: int) -> int:
    """Locals per tap for the operands of a tile whose vectors are finished in groups."""
    passing = min(group, vectors)
    return min(vectors + 1, rows + passing)


def _vectors_stay(rows: int, vectors: int, group: int) -> bool:
    """Whether all vectors stay in locals while rows pass, or all rows while groups of vectors do."""
    return vectors + 1 == operand_locals(rows, vectors, group)


@dataclass
class RegisterTile:
    """Emits the products of one tile.

    `left` and `right` are the locals of the two addresses; `rows` the byte offset of each row on the left,
    `vectors` that of each vector on the right, `right_step` the bytes between taps on the right. `load_right`
    pushes a right-hand vector (its index, its byte offset). `start` pushes the first value of an accumulator,
    `finish` stores the chains of vectors side by side (row, first vector, chains), at most `group` of them.
    """

    f: Function
    arithmetic: Arithmetic
    left: int
    right: int
    rows: Sequence[int]
    vectors: Sequence[int]
    right_step: int
    load_right: Callable[[int, int], None]
    start: Callable[[int], None]
    finish: Finish
    group: int = 1

    def emit(self, order: Loops) -> None:
        """All products in the given order, from the start values to the stores; both addresses are restored."""
        if order.loops:
            accumulators = self._started()
            self._nest(order, order.loops, accumulators)
            self._move(0, -order.taps)
            for vectors, row in itertools.product(self._groups(self.group), range(len(self.rows))):
                chains = [partial(self.f.get, accumulators[row, vector]) for vector in vectors]
                self.finish(row, vectors[0], chains)
            self.f.release(*accumulators.values())
        elif order.blocks:
            accumulators = self._started()
            self._blocks(order, accumulators)
            start = lambda row, vector: self.f.get(accumulators[row, vector])  # noqa: E731
            self._chains(order.tail, start, self.finish, self.group)
            self._move(-order.blocks * order.block_move, -order.blocks * len(order.body))
            self.f.release(*accumulators.values())
        else:
            self._chains(order.tail, lambda row, vector: self.start(vector), self.finish, self.group)

    def _nest(self, order: Loops, loops: Sequence[tuple[int, int]], accumulators: dict) -> None:
        if not loops:
            self._blocks(order, accumulators)
            self._add(order.tail, accumulators)
            self._move(-order.blocks * order.block_move, len(order.tail))
            return
        (trips, move), *inner = loops
        with self.f.stepped(self.left, move, trips):
            self._nest(order, inner, accumulators)
        self._move(-trips * move, 0)

    def _blocks(self, order: Loops, accumulators: dict) -> None:
        if order.blocks == 0:
            return
        with self.f.stepped(self.right, len(order.body) * self.right_step, order.blocks):
            self._add(order.body, accumulators)
            self._move(order.block_move, 0)

    def _move(self, left: int, taps: int) -> None:
        self.f.add_to(self.left, left)
        self.f.add_to(self.right, taps * self.right_step)

    def _started(self) -> dict[tuple[int, int], int]:
        """A local for each accumulator, set to its first value."""
        accumulators = {}
        for vector in range(len(self.vectors)):
            self.start(vector)
            for row in range(len(self.rows)):
                accumulators[row, vector] = self.f.local("v128")
                put = self.f.set if row == len(self.rows) - 1 else self.f.tee
                put(accumulators[row, vector])
        return accumulators

    def _add(self, taps: Sequence[int], accumulators: dict) -> None:
        def finish(row: int, vector: int, chains: Sequence[Chain]) -> None:
            for chain in chains:
                chain()
                self.f.set(accumulators[row, vector])

        if taps:
            self._chains(taps, lambda row, vector: self.f.get(accumulators[row, vector]), finish, 1)

    def _groups(self, size: int) -> list[range]:
        count = len(self.vectors)
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    def _chains(self, taps: Sequence[int], start: Callable, finish: Finish, group: int) -> None:
        """One chain over the taps for each accumulator; one side of the tile stays in locals, the other passes."""
        rows, vectors = len(self.rows), len(self.vectors)
        left, right = _Loaded(self.f, uses=vectors), _Loaded(self.f, uses=rows)
        multiply, add = self.arithmetic.multiply, self.arithmetic.add

        def chain(row: int, vector: int) -> None:
            start(row, vector)
            for tap, offset in enumerate(taps):
                left.push((row, tap), partial(self._load_left, self.rows[row] + offset))
                right.push((vector, tap), partial(self._load_right, vector, tap))
                self.f.op(multiply)
                self.f.op(add)

        def finish_all(row: int, found: range) -> None:
            finish(row, found[0], [partial(chain, row, vector) for vector in found])

        if _vectors_stay(rows, vectors, group):
            for row in range(rows):
                for found in self._groups(group):
                    finish_all(row, found)
                left.drop()
        else:
            for found in self._groups(group):
                for row in range(rows):
                    finish_all(row, found)
                right.drop()
        left.drop()
        right.drop()

    def _load_left(self, offset: int) -> None:
        self.f.get(self.left)
        self.f.memory(self.arithmetic.load_left, offset)

    def _load_right(self, vector: int, tap: int) -> None:
        self.load_right(vector, self.vectors[vector] + tap * self.right_step)


class _Loaded:
    """Operand vectors of a piece of straight code: loaded at first use, kept in a local if used again."""

    def __init__(self, f: Function, uses: int) -> None:
        self._f = f
        self._uses = uses
        self._locals: dict[tuple[int, int], int] = {}

    def push(self, key: tuple[int, int], load: Callable[[], None]) -> None:
        if key in self._locals:
            self._f.get(self._locals[key])
            return
        load()
        if self._uses > 1:
            self._locals[key] = self._f.local("v128")
            self._f.tee(self._locals[key])

    def drop(self) -> None:
        self._f.release(*self._locals.values())
        self._locals.clear()
