"""depthwise_conv2d with one tap a product: f32, 64-bit sums, and what pairs do not cover.

The weights of a vector of channels stay in locals while all pixels pass; the input pixels of a tile are loaded once
each. Taps are added in ascending order (row, column), starting at the bias.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.kernels.depthwise_walk import (
    HEIGHTS,
    HORIZONTAL,
    PASSING_LOCALS,
    VERTICAL,
    WIDTHS,
    Cut,
    Depthwise,
    Strip,
    channel_axis,
    cheapest,
    cross,
    install_share,
    output_offsets,
    strips,
)
from tosaic.wasm.kernels.epilogue import ends_of
from tosaic.wasm.kernels.streams import BIAS, LEFT, RIGHT, Axis, collapsed, load_words, nest


@dataclass(frozen=True)
class Tile:
    """The choice: outputs of a tile along both axes, and whether the weights stay in locals."""

    height: int
    width: int
    hoisted: bool


@lru_cache(maxsize=512)
def choose(d: Depthwise, prices: PriceList, options: KernelOptions) -> Tile | None:
    """The tile with the least price for all calls and one install; None if the code of none fits."""
    vertical, horizontal = (
        [_cut(strips(window, size)) for size in sizes if size <= window.outputs]
        for window, sizes in zip(d.windows, (HEIGHTS, WIDTHS))
    )
    priced = []
    for v, h, hoisted in itertools.product(vertical, horizontal, (True, False)):
        price = _price(d, v, h, hoisted, prices, options)
        if price is not None:
            priced.append((price, Tile(v.size, h.size, hoisted)))
    return cheapest(priced, lambda tile: _code(d, tile, prices), options)


def _cut(found: Sequence[Strip]) -> Cut:
    products = [sum(map(len, strip.taps)) for strip in found]
    loads = [len({index for taps in strip.taps for _, index in taps}) for strip in found]
    return Cut.of(found, products, loads)


def _price(
    d: Depthwise, v: Cut, h: Cut, hoisted: bool, prices: PriceList, options: KernelOptions
) -> float | None:
    """Estimated price of all calls and a share of one install, per call; None if the tile breaks a limit."""
    live = min(v.widest, d.windows[VERTICAL].taps) * h.widest if v.size * h.size > 1 else 0
    if live + hoisted * d.taps + PASSING_LOCALS > options.locals:
        return None
    pieces = 4 * (v.code_products * h.code_products + v.code_loads * h.code_loads)
    ends = ends_of(d.epilogue, prices, 1, ()).operators * v.code_outputs * h.code_outputs
    operators = (pieces + ends) * _vectors_in_code(d)
    install = install_share(operators, 0, prices, options)
    if install is None:
        return None
    price = prices.operators
    get = price["local.get"]
    product = 2 * get + price[d.arithmetic.multiply] + price[d.arithmetic.add] + (0 if hoisted else get)
    vector = (
        v.products * h.products * product
        + 2 * get * v.loads * h.loads
        + 4 * get * v.outputs * h.outputs
        + 16 * get * v.tiles * h.tiles
        + 3 * get * hoisted * d.taps
    )
    call = vector * math.ceil(d.columns / d.arithmetic.lanes) * d.batch.size
    return call + install


def _vector_channels(d: Depthwise) -> tuple[list[tuple[int, ...]], int]:
    """The pattern of input channels along the output's vectors: the channel of each lane for every vector of one
    period, and the number of input channels in a period."""
    width = d.arithmetic.lanes
    if d.multiplier % width == 0:
        return [(0,) * width], 1
    channels = width // math.gcd(width, d.multiplier)
    lanes = [column // d.multiplier for column in range(channels * d.multiplier)]
    return [tuple(lanes[i : i + width]) for i in range(0, len(lanes), width)], channels


def _vectors_in_code(d: Depthwise) -> int:
    """How many vectors of channels have code of their own."""
    patterns, width = _vector_channels(d)[0], d.arithmetic.lanes
    if d.multiplier % width == 0:
        return 1
    whole, rest = divmod(d.columns, len(patterns) * width)
    return (len(patterns) if whole else 0) + math.ceil(rest / width)


def emit(d: Depthwise, prices: PriceList, options: KernelOptions) -> Function:
    """A function that takes the addresses of all streams (i32) and computes the convolution."""
    tile = choose(d, prices, options)
    if tile is None:
        raise ValueError("no tile fits")
    return _code(d, tile, prices)


@lru_cache(maxsize=512)
def _code(d: Depthwise, tile: Tile, prices: PriceList) -> Function:
    f = Function("depthwise", prices, ("i32",) * len(d.column_steps))
    _Emission(f, d, tile).emit()
    return f


@dataclass
class _Emission:
    f: Function
    d: Depthwise
    tile: Tile

    def emit(self) -> None:
        """Batches, then vectors of channels, then tiles of pixels."""
        nest(self.f, collapsed([self.d.batch]), self._channels)

    def _channels(self) -> None:
        patterns, channels = _vector_channels(self.d)
        width = self.d.arithmetic.lanes
        if self.d.multiplier % width == 0:
            inner = channel_axis(self.d, self.d.multiplier // width, width, 0)
            outer = channel_axis(self.d, self.d.columns // self.d.multiplier, self.d.multiplier, 1)
            nest(self.f, collapsed([outer, inner]), lambda: self._vectors(patterns, width))
            return
        period = len(patterns) * width
        whole, rest = divmod(self.d.columns, period)
        axis = channel_axis(self.d, whole, period, channels)
        if whole:
            nest(self.f, collapsed([axis]), lambda: self._vectors(patterns, width))
        if rest:
            self._move(axis, whole)
            self._vectors(patterns[: math.ceil(rest / width)], (rest - 1) % width + 1)
            self._move(axis, -whole)

    def _move(self, axis: Axis, count: int) -> None:
        for stream, step in enumerate(axis.steps):
            self.f.add_to(stream, step * count)

    def _vectors(self, patterns: Sequence[tuple[int, ...]], last_lanes: int) -> None:
        """The vectors of one period; the last one holds `last_lanes` columns."""
        vertical, horizontal = (
            strips(window, size) for window, size in zip(self.d.windows, (self.tile.height, self.tile.width))
        )
        for index, channels in enumerate(patterns):
            width = self.d.arithmetic.lanes
            lanes = last_lanes if index == len(patterns) - 1 else width
            vector = _Vector(self.f, self.d, self.tile, index * width, channels, lanes)
            vector.load()
            for v, h in itertools.product(vertical, horizontal):
                vector.strips(v, h)
            vector.drop()


@dataclass
class _Vector:
    """One vector of output channels, `column` columns behind the streams' addresses."""

    f: Function
    d: Depthwise
    tile: Tile
    column: int
    channels: tuple[int, ...]
    lanes: int

    def load(self) -> None:
        """Bias and weights into locals."""
        f = self.f
        self._bias = f.local("v128")
        arithmetic = self.d.arithmetic
        if self.d.bias_start == "scalar":
            f.get(BIAS)
            f.memory(f"v128.load{8 * arithmetic.sum_bytes}_splat")
        else:
            lanes = self.lanes if self.d.exact_bias else arithmetic.lanes
            load_words(f, BIAS, arithmetic.sum_bytes * self.column, lanes * arithmetic.sum_bytes // 4)
        f.set(self._bias)
        self._weights = [f.local("v128") for _ in range(self.d.taps if self.tile.hoisted else 0)]
        for tap, local in enumerate(self._weights):
            self._load_weight(tap)
            f.set(local)

    def drop(self) -> None:
        self.f.release(self._bias, *self._weights)

    def strips(self, v: Strip, h: Strip) -> None:
        cross(self.f, self.d, v, h, lambda: self._tile(v, h))

    def _tile(self, v: Strip, h: Strip) -> None:
        pixels = _Pixels(self, v, h)
        for (row, row_taps), (column, column_taps) in itertools.product(enumerate(v.taps), enumerate(h.taps)):
            taps = list(itertools.product(row_taps, column_taps))
            self._output(row, column, taps, pixels)

    def _output(self, row: int, column: int, taps: Sequence, pixels: _Pixels) -> None:
        def chain() -> None:
            self.f.get(self._bias)
            for (i, y), (j, x) in taps:
                pixels.push(y, x)
                self._push_weight(i * self.d.windows[HORIZONTAL].taps + j)
                self.f.op(self.d.arithmetic.multiply)
                self.f.op(self.d.arithmetic.add)

        offsets = output_offsets(self.d, row, column, self.column)
        self.d.epilogue.store(self.f, offsets, self.lanes, [chain])

    def _push_weight(self, tap: int) -> None:
        if self.tile.hoisted:
            self.f.get(self._weights[tap])
        else:
            self._load_weight(tap)

    def _load_weight(self, tap: int) -> None:
        self.f.get(RIGHT)
        arithmetic = self.d.arithmetic
        offset = self.column * self.d.column_steps[RIGHT] + arithmetic.right_bytes * tap
        self.f.memory(arithmetic.load_right, offset)

    def load_pixel(self, y: int, x: int) -> None:
        """Push the input channels of this vector at a pixel of the tile."""
        step = self.d.column_steps[LEFT]
        base = y * self.d.pixel_steps[VERTICAL] + x * self.d.pixel_steps[HORIZONTAL]
        if self.d.multiplier == 1 and step == 4:
            load_words(self.f, LEFT, base + 4 * self.channels[0], self.lanes)
            return
        others = [lane for lane in range(1, self.lanes) if self.channels[lane] != self.channels[0]]
        for _ in range(1 + len(others)):
            self.f.get(LEFT)
        self.f.memory("v128.load32_splat", base + self.channels[0] * step)
        for lane in others:
            self.f.memory("v128.load32_lane", base + self.channels[lane] * step, lane)


class _Pixels:
    """The input pixels of a tile: each is loaded once and held until its last use."""

    def __init__(self, vector: _Vector, v: Strip, h: Strip) -> None:
        self._vector = vector
        self._left = Counter(
            (y, x)
            for rows, columns in itertools.product(v.taps, h.taps)
            for (_, y), (_, x) in itertools.product(rows, columns)
        )
        self._locals: dict[tuple[int, int], int] = {}

    def push(self, y: int, x: int) -> None:
        f, key = self._vector.f, (y, x)
        self._left[key] -= 1
        if key in self._locals:
            f.get(self._locals[key])
            if self._left[key] == 0:
                f.release(self._locals.pop(key))
            return
        self._vector.load_pixel(y, x)
        if self._left[key]:
            self._locals[key] = f.local("v128")
            f.tee(self._locals[key])
