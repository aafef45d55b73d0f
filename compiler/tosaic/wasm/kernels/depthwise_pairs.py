"""depthwise_conv2d of i8: two rows of the window are one product (`i32x4.dot_i16x8_s`), 8 channels at a time.

The input rows of a tile are taken in pairs, from the first row of its first window on. A pair of pixels of 8 channels
becomes two vectors of 4 channels, where each lane holds the two rows as i16; it is formed once and stays in locals
while windows meet it. A weight vector holds the two weights of a pair in the same way, zero for a row that is not in
the window, so a window may begin on either row of a pair. Rows on the border are zeros, columns on it are left out.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

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
    Window,
    channel_axis,
    cross,
    install_share,
    output_offsets,
    still_inputs,
    strips,
)
from tosaic.wasm.kernels.epilogue import Held, ends_of
from tosaic.wasm.kernels.streams import BIAS, LEFT, RIGHT, Axis, collapsed, load_words, nest
from tosaic.wasm.kernels.tile import ZERO

CHANNELS = 8
"""Channels that are loaded at once: two vectors of sums."""

HALVES = ("low", "high")
_INTERLEAVED = {
    "low": [byte + row * 16 for lane in range(0, 8, 2) for row in range(2) for byte in (lane, lane + 1)],
    "high": [byte + row * 16 for lane in range(8, 16, 2) for row in range(2) for byte in (lane, lane + 1)],
}

Taps = tuple[int | None, int | None]
"""The taps of a window that meet the first and the second row of a pair."""


def window_pairs(window: Window, output: int) -> dict[int, Taps]:
    """Pair -> taps, for an output of a tile; pair p holds rows 2p and 2p + 1, counted from the tile's first window."""
    found: dict[int, list[int | None]] = {}
    for tap in range(window.taps):
        row = output * window.stride + tap * window.dilation
        found.setdefault(row // 2, [None, None])[row % 2] = tap
    return {pair: (taps[0], taps[1]) for pair, taps in found.items()}


def weight_taps(window: Window, height: int) -> list[Taps]:
    """All pairs of taps that the outputs of a tile meet: the rows of weight vectors."""
    return list(
        dict.fromkeys(taps for output in range(height) for taps in window_pairs(window, output).values())
    )


def pack(weights: np.ndarray, rows: Sequence[Taps]) -> np.ndarray:
    """Weights [rows, columns, channels] in the order in which they are read: 8 channels, pair of taps, column."""
    _, columns, channels = weights.shape
    padded = np.zeros((weights.shape[0], columns, -(-channels // CHANNELS) * CHANNELS), weights.dtype)
    padded[:, :, :channels] = weights
    zeros = np.zeros_like(padded[0])
    pairs = np.stack([[zeros if tap is None else padded[tap] for tap in taps] for taps in rows])
    grouped = pairs.reshape(len(rows), 2, columns, -1, CHANNELS)
    return np.ascontiguousarray(grouped.transpose(3, 0, 2, 4, 1)).reshape(-1)


@dataclass(frozen=True)
class Tile:
    """The choice: outputs of a tile along both axes."""

    height: int
    width: int


@lru_cache(maxsize=512)
def choose(d: Depthwise, prices: PriceList, options: KernelOptions) -> Tile | None:
    """The tile with the least price for all calls and one install; None if none keeps the limits."""
    tall, wide = d.windows
    priced = []
    for height, width in itertools.product(HEIGHTS, WIDTHS):
        if height <= tall.outputs and width <= wide.outputs:
            price = _price(d, height, width, prices, options)
            if price is not None:
                priced.append((price, height, width))
    return Tile(*min(priced)[1:]) if priced else None


def _price(d: Depthwise, height: int, width: int, prices: PriceList, options: KernelOptions) -> float | None:
    v, h = _vertical(d.windows[VERTICAL], height), _horizontal(d.windows[HORIZONTAL], width)
    weights = len(weight_taps(d.windows[VERTICAL], height)) * d.windows[HORIZONTAL].taps
    live = 2 * len(window_pairs(d.windows[VERTICAL], 0)) * h.widest
    held = sum(d.epilogue.held_locals(CHANNELS, index) for index in still_inputs(d))
    if live + 2 * weights + held + PASSING_LOCALS > options.locals:
        return None
    bodies = bool(d.columns >= CHANNELS) + bool(d.columns % CHANNELS)
    pieces = 8 * v.code_products * h.code_products + 16 * v.code_loads * h.code_loads
    ends = ends_of(d.epilogue, prices, 2).operators * v.code_outputs * h.code_outputs
    operators = bodies * (pieces + ends)
    shuffles = bodies * 2 * v.code_loads * h.code_loads
    install = install_share(operators, len(ZERO) * shuffles, prices, options)
    if install is None:
        return None
    price = prices.operators
    get = price["local.get"]
    product = 2 * get + price["i32x4.dot_i16x8_s"] + price["i32x4.add"]
    formed = 14 * get + 2 * price["i8x16.shuffle"] + (4 * get if d.zero_point else 0)
    octet = (
        2 * v.products * h.products * product
        + v.loads * h.loads * formed
        + 8 * get * v.outputs * h.outputs
        + 16 * get * v.tiles * h.tiles
        + 6 * get * weights
    )
    return octet * math.ceil(d.columns / CHANNELS) * d.batch.size + install


@lru_cache(maxsize=512)
def _vertical(window: Window, size: int) -> Cut:
    found = strips(window, size)
    met = [[_met(window, strip, output) for output in range(len(strip.taps))] for strip in found]
    products = [sum(map(len, outputs)) for outputs in met]
    loads = [len({pair for pairs in outputs for pair in pairs}) for outputs in met]
    return Cut.of(found, products, loads)


@lru_cache(maxsize=512)
def _horizontal(window: Window, size: int) -> Cut:
    found = strips(window, size)
    products = [sum(map(len, strip.taps)) for strip in found]
    loads = [len({index for taps in strip.taps for _, index in taps}) for strip in found]
    return Cut.of(found, products, loads)


def _met(window: Window, strip: Strip, output: int) -> dict[int, Taps]:
    """The pairs of an output with at least one row inside of the input."""
    inside = {index + strip.skipped for _, index in strip.taps[output]}
    pairs = window_pairs(window, output)
    return {pair: taps for pair, taps in pairs.items() if inside & {2 * pair, 2 * pair + 1}}


@lru_cache(maxsize=512)
def emit(d: Depthwise, prices: PriceList, options: KernelOptions) -> Function:
    """A function that takes the addresses of all streams (i32) and computes the convolution."""
    f = Function("depthwise", prices, ("i32",) * len(d.column_steps))
    tile = choose(d, prices, options)
    if tile is None:
        raise ValueError("no tile fits")
    nest(f, collapsed([d.batch]), lambda: _channels(f, d, tile))
    return f


def _channels(f: Function, d: Depthwise, tile: Tile) -> None:
    whole, rest = divmod(d.columns, CHANNELS)
    steps = list(channel_axis(d, whole, CHANNELS, CHANNELS).steps)
    weights = len(weight_taps(d.windows[VERTICAL], tile.height)) * d.windows[HORIZONTAL].taps
    steps[RIGHT] = 2 * weights * d.arithmetic.right_bytes
    axis = Axis(whole, tuple(steps))
    if whole:
        nest(f, collapsed([axis]), _Octet(f, d, tile, CHANNELS).emit)
    if rest:
        for stream, step in enumerate(axis.steps):
            f.add_to(stream, step * whole)
        _Octet(f, d, tile, rest).emit()
        for stream, step in enumerate(axis.steps):
            f.add_to(stream, -step * whole)


@dataclass
class _Octet:
    """Up to 8 channels at the addresses of the streams."""

    f: Function
    d: Depthwise
    tile: Tile
    channels: int
    _weights: dict[tuple[Taps, int, int], int] = field(default_factory=dict)
    _bias: list[int] = field(default_factory=list)
    _held: Held = field(default_factory=dict)

    @property
    def halves(self) -> range:
        return range(-(-self.channels // 4))

    def emit(self) -> None:
        """Bias, weights, zero point and what the ends of all pixels share into locals, then all tiles."""
        self._load_bias()
        self._hold_still_inputs()
        self._load_weights()
        self._zero_point = self.f.local("v128")
        self.f.v128(self.d.zero_point.to_bytes(2, "little", signed=True) * CHANNELS)
        self.f.set(self._zero_point)
        vertical, horizontal = (
            strips(window, size) for window, size in zip(self.d.windows, (self.tile.height, self.tile.width))
        )
        for v, h in itertools.product(vertical, horizontal):
            cross(self.f, self.d, v, h, partial(self._tile, v, h))
        self.f.release(self._zero_point, *self._bias, *self._weights.values(), *self._held.values())

    def _lanes(self, half: int) -> int:
        return min(4, self.channels - 4 * half)

    def _load_bias(self) -> None:
        self._bias = [self.f.local("v128") for _ in self.halves]
        for half, local in zip(self.halves, self._bias):
            if self.d.bias_start == "scalar":
                self.f.get(BIAS)
                self.f.memory("v128.load32_splat")
            else:
                load_words(self.f, BIAS, 16 * half, self._lanes(half) if self.d.exact_bias else 4)
            self.f.set(local)

    def _hold_still_inputs(self) -> None:
        epilogue = self.d.epilogue
        offsets = [0] * len(epilogue.steps)
        self._held = epilogue.hold(self.f, offsets, self.channels, still_inputs(self.d))

    def _load_weights(self) -> None:
        arithmetic, (tall, wide) = self.d.arithmetic, self.d.windows
        vectors = itertools.product(weight_taps(tall, self.tile.height), range(wide.taps), range(2))
        for index, (taps, column, half) in enumerate(vectors):
            if half in self.halves:
                local = self._weights[taps, column, half] = self.f.local("v128")
                self.f.get(RIGHT)
                self.f.memory(arithmetic.load_right, index * arithmetic.right_bytes)
                self.f.set(local)

    def _tile(self, v: Strip, h: Strip) -> None:
        window = self.d.windows[VERTICAL]
        met = [_met(window, v, output) for output in range(len(v.taps))]
        pairs = _Pairs(self.f, self.d, self.channels, self._zero_point, v, self._uses(met, h))
        for (row, taps_of), (column, columns) in itertools.product(enumerate(met), enumerate(h.taps)):
            terms = [(pair, taps, j, x) for pair, taps in taps_of.items() for j, x in columns]
            for pair, _, _, x in terms:
                pairs.form(pair, x)
            self._store(output_offsets(self.d, row, column, 0), terms, pairs)
            for pair, _, _, x in terms:
                pairs.used(pair, x)

    def _store(self, offsets: Sequence[int], terms: Sequence, pairs: _Pairs) -> None:
        chains = [partial(self._chain, half, terms, pairs) for half in self.halves]
        size = self.d.epilogue.group
        for first in range(0, len(chains), size):
            group = chains[first : first + size]
            lanes = min(4 * len(group), self.channels - 4 * first)
            moved = [offset + 4 * first * step for offset, step in zip(offsets, self.d.epilogue.steps)]
            self.d.epilogue.store(self.f, moved, lanes, group, self._held)

    def _uses(self, met: Sequence[dict[int, Taps]], h: Strip) -> Counter:
        return Counter(
            (pair, x)
            for taps_of, columns in itertools.product(met, h.taps)
            for pair, (_, x) in itertools.product(taps_of, columns)
        )

    def _chain(self, half: int, terms: Sequence[tuple[int, Taps, int, int]], pairs: _Pairs) -> None:
        self.f.get(self._bias[half])
        for pair, taps, column, x in terms:
            self.f.get(pairs.local(pair, x, half))
            self.f.get(self._weights[taps, column, half])
            self.f.op(self.d.arithmetic.multiply)
            self.f.op(self.d.arithmetic.add)


@dataclass
class _Pairs:
    """The pairs of pixels of a tile: each is formed once and held until its last use."""

    f: Function
    d: Depthwise
    channels: int
    zero_point: int
    strip: Strip
    left: Counter
    _locals: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def local(self, pair: int, x: int, half: int) -> int:
        return self._locals[pair, x][half]

    def used(self, pair: int, x: int) -> None:
        self.left[pair, x] -= 1
        if self.left[pair, x] == 0:
            self.f.release(*self._locals.pop((pair, x)))

    def form(self, pair: int, x: int) -> None:
        """Load the rows of a pair at a column and interleave them, if that is not done yet."""
        if (pair, x) in self._locals:
            return
        f = self.f
        inside = {index for taps in self.strip.taps for _, index in taps}
        rows = [f.local("v128") for _ in range(2)]
        for parity, row in enumerate(rows):
            index = 2 * pair + parity - self.strip.skipped
            self._push_row(index, x) if index in inside else f.v128(ZERO)
            f.set(row)
        self._locals[pair, x] = []
        for half in HALVES[: -(-self.channels // 4)]:
            for row in rows:
                f.get(row)
            f.shuffle(_INTERLEAVED[half])
            local = f.local("v128")
            f.set(local)
            self._locals[pair, x].append(local)
        f.release(*rows)

    def _push_row(self, y: int, x: int) -> None:
        """Push 8 channels of a pixel as i16, less the zero point."""
        f = self.f
        offset = y * self.d.pixel_steps[VERTICAL] + x * self.d.pixel_steps[HORIZONTAL]
        if self.channels == CHANNELS:
            f.get(LEFT)
            f.memory("v128.load8x8_s", offset)
        else:
            for _ in range(self.channels):
                f.get(LEFT)
            f.v128(ZERO)
            for lane in range(self.channels):
                f.memory("v128.load8_lane", offset + lane, lane)
            f.op("i16x8.extend_low_i8x16_s")
        if self.d.zero_point:
            f.get(self.zero_point)
            f.op("i16x8.sub")
