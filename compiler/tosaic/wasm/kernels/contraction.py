"""Sums of products in register tiles: what convolutions and matrix products have in common.

    output[row, column] = start[column] + sum over taps of left[row, tap] * right[tap, column]

A row is an output pixel or a matrix row; 4 columns (channels) make a vector, or 4 partial sums of one (`across.py`).
The output is cut into blocks of equal register tiles (full tiles and remainders of their own), each block one function
of at most `function_bytes`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.kernels.across import join
from tosaic.wasm.kernels.epilogue import Held
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
from tosaic.wasm.kernels.tile import ZERO, Chain, RegisterTile
from tosaic.wasm.kernels.tiling import Contraction, Panels, Tiling, choose, panels


@lru_cache(maxsize=512)
def emit(contraction: Contraction, prices: PriceList, options: KernelOptions) -> Function:
    """A function that takes the addresses of all streams (i32) and computes the contraction."""
    tiling = choose(contraction, prices, options)
    params = ("i32",) * len(contraction.column_steps)
    f = Function("contraction", prices, params)
    for rows in _row_groups(contraction, tiling):
        for columns in panels(contraction.columns, tiling.vectors, contraction.arithmetic.lanes):
            block = _Block(Function("block", prices, params), contraction, tiling, rows, columns, options)
            block.emit()
            for stream in range(len(params)):
                f.get(stream)
                f.i32(block.start(stream))
                f.op("i32.add")
            f.call(block.f)
    return f


def _row_groups(c: Contraction, tiling: Tiling) -> list[Group]:
    return nearly_equal(c.rows[tiling.axis].size, tiling.rows) if c.rows else [Group(0, 1, 1)]


@dataclass
class _Block:
    """Equal tiles side by side: a group of tiles along the cut axis by a group of panels, and all axes around them.

    What is the same for all rows is held in locals, as far as there are any left: inputs of the epilogue (`held`) and
    the bias, by vector.
    """

    f: Function
    c: Contraction
    tiling: Tiling
    group: Group
    panels: Panels
    options: KernelOptions
    held: Held = field(default_factory=dict)
    bias: list[int] = field(default_factory=list)

    def start(self, stream: int) -> int:
        """Byte offset of the block's first tile."""
        cut = self.c.rows[self.tiling.axis].steps[stream] if self.c.rows else 0
        return self.group.first * cut + self._columns(stream, self.panels.first)

    def emit(self) -> None:
        around, rows = [*self.c.batch, *self._panel_axis()], self._row_axes()
        inputs, bias = self._still()
        if inputs or bias:
            nest(self.f, collapsed(around), lambda: self._hold(inputs, bias, collapsed(rows)))
        else:
            nest(self.f, collapsed([*around, *rows]), self._tile)

    def _hold(self, inputs: Sequence[int], bias: bool, rows: Sequence[Axis]) -> None:
        """All rows of a panel, with these inputs of the epilogue and the bias held."""
        columns = [0] * (len(self.c.column_steps) - OUTPUT)
        self.held = self.c.epilogue.hold(self.f, columns, self._lanes_of(range(self.panels.width)), inputs)
        for vector in range(self.panels.width if bias else 0):
            self._load_bias(vector)
            self.bias.append(self.f.local("v128"))
            self.f.set(self.bias[-1])
        nest(self.f, rows, self._tile)
        self.f.release(*self.held.values(), *self.bias)

    def _still(self) -> tuple[list[int], bool]:
        """The inputs of the epilogue that do not move with the rows, and whether each sum starts at its bias anew:
        those that there are locals for."""
        c, width = self.c, self.panels.width
        inputs: list[int] = []
        free = self.options.locals - self.tiling.locals
        for index in c.epilogue.still_inputs(c.rows):
            wanted = c.epilogue.held_locals(self._lanes_of(range(width)), index)
            if wanted <= free:
                inputs.append(index)
                free -= wanted
        several = math.prod(axis.size for axis in c.rows) > 1
        return inputs, several and c.start == "vector" and self.tiling.order.is_straight and width <= free

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

        def finish(row: int, vector: int, chains: Sequence[Chain]) -> None:
            offsets = [
                rows[row][stream] + self._columns(stream, vector)
                for stream in range(OUTPUT, len(self.c.column_steps))
            ]
            lanes = self._lanes_of(range(vector, vector + len(chains)))
            results = [partial(join, self.f, chains)] if self.c.sums_across else chains
            self.c.epilogue.store(self.f, offsets, lanes, results, self.held)

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
            group=self.c.group,
        ).emit(self.tiling.order)

    def _lanes(self, vector: int) -> int:
        return self.panels.lanes if vector == self.panels.width - 1 else self.c.arithmetic.lanes

    def _lanes_of(self, vectors: range) -> int:
        return sum(self._lanes(vector) for vector in vectors)

    def _load_right(self, vector: int, offset: int) -> None:
        if self.c.right_row is None:
            self.f.get(RIGHT)
            self.f.memory(self.c.arithmetic.load_right, offset)
        else:
            load_words(self.f, RIGHT, offset, self._lanes(vector))

    def _start(self, vector: int) -> None:
        if self.bias:
            self.f.get(self.bias[vector])
        elif self.c.start == "zero":
            self.f.v128(ZERO)
        elif self.c.start == "scalar":
            self.f.get(BIAS)
            lanes = "zero" if self.c.sums_across else "splat"
            self.f.memory(f"v128.load{8 * self.c.arithmetic.sum_bytes}_{lanes}")
        else:
            self._load_bias(vector)

    def _load_bias(self, vector: int) -> None:
        arithmetic = self.c.arithmetic
        lanes = self._lanes(vector) if self.c.exact_bias else arithmetic.lanes
        load_words(self.f, BIAS, self._columns(BIAS, vector), lanes * arithmetic.sum_bytes // 4)
