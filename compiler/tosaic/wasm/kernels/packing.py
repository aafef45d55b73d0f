"""The right operand of a contraction in the order in which its tiles read it: panel by panel, tap by tap.

A panel holds the columns of one tile, padded to whole vectors. Constants are packed when the kernel is built, other
operands into scratch memory by the kernel itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tosaic.wasm.function import Function
from tosaic.wasm.kernels.staging import Conversion
from tosaic.wasm.kernels.tile import Arithmetic
from tosaic.wasm.kernels.tiling import panels
from tosaic.wasm.lanes import store_lanes


@dataclass(frozen=True)
class RightOperand:
    """Where the right operand's elements lie: (size, bytes apart) of batches, tap loops, the run of taps and columns.

    Pairs of taps are formed within a run, the last one filled up with zero.
    """

    batches: tuple[tuple[int, int], ...]
    loops: tuple[tuple[int, int], ...]
    run: tuple[int, int]
    columns: tuple[int, int]

    def packed_bytes(self, arithmetic: Arithmetic) -> int:
        count = math.prod(size for size, _ in (*self.batches, *self.loops))
        taps = -(-self.run[0] // arithmetic.width)
        return count * taps * -(-self.columns[0] // arithmetic.lanes) * arithmetic.right_bytes


def pack(right: np.ndarray, run: int, arithmetic: Arithmetic, vectors: int) -> np.ndarray:
    """A constant [batches, taps, columns] in panels of at most `vectors`; innermost are the numbers of one tap."""
    batches, taps, columns = right.shape
    width, lanes = arithmetic.width, arithmetic.lanes
    pairs = -(-run // width)
    padded = np.zeros((batches, taps // run, pairs * width, -(-columns // lanes) * lanes), right.dtype)
    padded[:, :, :run, :columns] = right.reshape(batches, taps // run, run, columns)
    padded = padded.reshape(batches, taps // run * pairs, width, -1).transpose(0, 1, 3, 2)
    parts = []
    for batch in padded:
        for group in panels(columns, vectors, lanes):
            for panel in range(group.count):
                first = (group.first + panel * group.width) * lanes
                parts.append(batch[:, first : first + group.width * lanes].reshape(-1))
    return np.concatenate(parts)


@dataclass
class Packing:
    """Emits the packing of the operand at the address in local `source` to that in `target`.

    Lanes behind the last column keep what they hold, or hold anything: nothing that is stored depends on them.
    """

    f: Function
    source: int
    target: int
    operand: RightOperand
    arithmetic: Arithmetic
    conversion: Conversion

    def emit(self, vectors: int) -> None:
        """Pack into panels of at most `vectors` vectors."""
        self._loops(self.operand.batches, partial(self._columns, vectors))

    def _columns(self, vectors: int) -> None:
        columns, stride = self.operand.columns
        for group in panels(columns, vectors, self.arithmetic.lanes):
            start = group.first * self.arithmetic.lanes * stride
            self.f.add_to(self.source, start)
            width = group.width * self.arithmetic.lanes
            panel = partial(self._loops, self.operand.loops, partial(self._run, group.width, group.lanes))
            self._loops([(group.count, width * stride)], panel)
            self.f.add_to(self.source, -start)

    def _run(self, vectors: int, lanes: int) -> None:
        run, stride = self.operand.run
        taps, rest = divmod(run, self.arithmetic.width)
        self._loops(
            [(taps, self.arithmetic.width * stride)],
            partial(self._tap, vectors, lanes, self.arithmetic.width),
        )
        if rest:
            moved = taps * self.arithmetic.width * stride
            self.f.add_to(self.source, moved)
            self._tap(vectors, lanes, rest)
            self.f.add_to(self.source, -moved)

    def _loops(self, axes: Sequence[tuple[int, int]], body: Callable[[], None]) -> None:
        axes = [axis for axis in axes if axis[0] != 1]
        if not axes:
            body()
            return
        (size, stride), *inner = axes
        if size == 0:
            return
        with self.f.counted(size):
            self._loops(inner, body)
            self.f.add_to(self.source, stride)
        self.f.add_to(self.source, -size * stride)

    def _tap(self, vectors: int, lanes: int, width: int) -> None:
        """One tap of a panel; `width` of its numbers exist."""
        emit = self._one if self.arithmetic.width == 1 else partial(self._pair, width)
        for vector in range(vectors):
            emit(vector, lanes if vector == vectors - 1 else self.arithmetic.lanes)
        self.f.add_to(self.target, vectors * self.arithmetic.right_bytes)

    def _one(self, vector: int, lanes: int) -> None:
        """The columns of a vector in the staged type."""
        stride, first = self.operand.columns[1], 0
        while first < lanes:
            count = next(w for w in (4, 2, 1) if w <= lanes - first)
            offset = (vector * self.arithmetic.lanes + first) * stride
            address = partial(self.f.get, self.source)
            value = partial(self.conversion.push, self.f, count, address, offset, stride)
            target = vector * self.arithmetic.right_bytes + first * 4
            store_lanes(
                self.f, self.conversion.staged, count, partial(self.f.get, self.target), value, target
            )
            first += count

    def _pair(self, width: int, vector: int, lanes: int) -> None:
        """Pairs of taps for the columns of a vector, widened from i8 to i16, less the zero point."""
        f, stride = self.f, self.operand.columns[1]
        places = [(lane, tap) for lane in range(lanes) for tap in range(width)]
        f.get(self.target)
        for _ in places:
            f.get(self.source)
        f.v128(self.conversion.zero_point.to_bytes(1, "little", signed=True) * 16)
        for lane, tap in places:
            offset = (vector * self.arithmetic.lanes + lane) * stride + tap * self.operand.run[1]
            f.memory("v128.load8_lane", offset, 2 * lane + tap)
        f.op("i16x8.extend_low_i8x16_s")
        if self.conversion.zero_point:
            f.v128(self.conversion.zero_point.to_bytes(2, "little", signed=True) * 8)
            f.op("i16x8.sub")
        f.memory("v128.store", vector * self.arithmetic.right_bytes)
