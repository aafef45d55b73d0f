"""depthwise_conv2d of i8: two rows of the window are one product (`i32x4.dot_i16x8_s`), 8 channels at a time.

The input rows of a tile are taken in pairs, from the first row of its first window on. A pair of pixels of 8 channels
becomes two vectors of 4 channels, where each lane holds the two rows as i16; it is formed once and stays in locals
while windows meet it. A weight vector holds the two weights of a pair in the same way, zero for a row that is not in
the window, so a window may begin on either row of a pair. A row on the border holds the zero point, columns and pairs
of rows on it are left out. A constant bias takes the zero point in: less the zero point times the weights that count.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
    cheapest,
    cross,
    install_share,
    output_offsets,
    strips,
)
from tosaic.wasm.kernels.epilogue import Held, ends_of
from tosaic.wasm.kernels.streams import BIAS, LEFT, RIGHT, Axis, collapsed, load_words, nest
from tosaic.wasm.kernels.tile import ZERO

CHANNELS = 8
"""Channels that are loaded at once: two vectors of sums."""

HALVES = ("low", "high")
_INTERLEAVED = [channel + 16 * row for channel in range(CHANNELS) for row in range(2)]

Taps = tuple[int | None, int | None]
"""The taps of a window that meet the first and the second row of a pair."""

Term = tuple[int, Taps, int, int]
"""A pair of rows, its taps, a column of the window, and the input column that it meets."""

Counted = tuple[tuple[int, ...], tuple[int, ...]]
"""The rows and the columns of a window that count at an output."""


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


def counted(d: Depthwise, tile: Tile) -> list[Counted]:
    """All that can count, where that makes a difference; each has a row of biases."""
    if not (d.is_corrected and d.zero_point):
        return [tuple(tuple(range(window.taps)) for window in d.windows)]  # type: ignore[list-item]
    tall, wide = d.windows
    return list(itertools.product(_all_rows(tall, tile.height), _all_columns(wide, tile.width)))


@lru_cache(maxsize=512)
def _all_rows(window: Window, height: int) -> tuple[tuple[int, ...], ...]:
    found = strips(window, height)
    outputs = ((strip, output) for strip in found for output in range(len(strip.taps)))
    return tuple(dict.fromkeys(_counted_rows(_met(window, *output)) for output in outputs))


@lru_cache(maxsize=512)
def _all_columns(window: Window, width: int) -> tuple[tuple[int, ...], ...]:
    found = strips(window, width)
    return tuple(dict.fromkeys(_counted_columns(taps) for strip in found for taps in strip.taps))


def corrected_biases(d: Depthwise, tile: Tile, bias: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The biases for each of `counted`, channels filled up to whole octets; weights [rows, columns, channels]."""
    sums = [weights[np.ix_(*found)].sum(axis=(0, 1), dtype=np.int64) for found in counted(d, tile)]
    table = (bias.reshape(1, -1) - d.zero_point * np.stack(sums)).astype(np.int32)
    return np.pad(table, ((0, 0), (0, -table.shape[1] % CHANNELS))).reshape(-1)


def _counted_rows(met: Mapping[int, Taps]) -> tuple[int, ...]:
    return tuple(sorted(tap for taps in met.values() for tap in taps if tap is not None))


def _counted_columns(taps: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(tap for tap, _ in taps)


@lru_cache(maxsize=512)
def choose(d: Depthwise, prices: PriceList, options: KernelOptions) -> Tile | None:
    """The tile with the least price for all calls and one install; None if none keeps the limits."""
    tall, wide = d.windows
    priced = []
    for height, width in itertools.product(HEIGHTS, WIDTHS):
        if height <= tall.outputs and width <= wide.outputs:
            price = _price(d, height, width, prices, options)
            if price is not None:
                priced.append((price, Tile(height, width)))
    return cheapest(priced, lambda tile: _code(d, tile, prices), options)


def _price(d: Depthwise, height: int, width: int, prices: PriceList, options: KernelOptions) -> float | None:
    v, h = _vertical(d.windows[VERTICAL], height), _horizontal(d.windows[HORIZONTAL], width)
    weights = len(weight_taps(d.windows[VERTICAL], height)) * d.windows[HORIZONTAL].taps
    live = 2 * len(window_pairs(d.windows[VERTICAL], 0)) * h.widest
    still = d.epilogue.still_inputs(d.pixels)
    held = sum(d.epilogue.held_locals(CHANNELS, index) for index in still)
    biases = 2 * len(counted(d, Tile(height, width)))
    if live + 2 * weights + held + biases + PASSING_LOCALS > options.locals:
        return None
    bodies = bool(d.columns >= CHANNELS) + bool(d.columns % CHANNELS)
    subtracts = d.zero_point != 0 and not d.is_corrected
    pieces = 8 * v.code_products * h.code_products + (11 + 4 * subtracts) * v.code_loads * h.code_loads
    ends = ends_of(d.epilogue, prices, 2, still).operators * v.code_outputs * h.code_outputs
    operators = bodies * (pieces + ends)
    shuffles = bodies * v.code_loads * h.code_loads
    install = install_share(operators, len(ZERO) * shuffles, prices, options)
    if install is None:
        return None
    price = prices.operators
    get = price["local.get"]
    product = 2 * get + price["i32x4.dot_i16x8_s"] + price["i32x4.add"]
    formed = 10 * get + price["i8x16.shuffle"] + 4 * get * subtracts
    octet = (
        2 * v.products * h.products * product
        + v.loads * h.loads * formed
        + 8 * get * v.outputs * h.outputs
        + 16 * get * v.tiles * h.tiles
        + 6 * get * weights
        + 3 * get * biases
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


def emit(d: Depthwise, prices: PriceList, options: KernelOptions) -> Function:
    """A function that takes the addresses of all streams (i32) and computes the convolution."""
    tile = choose(d, prices, options)
    if tile is None:
        raise ValueError("no tile fits")
    return _code(d, tile, prices)


@lru_cache(maxsize=512)
def _code(d: Depthwise, tile: Tile, prices: PriceList) -> Function:
    f = Function("depthwise", prices, ("i32",) * len(d.column_steps))
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
    _bias: dict[tuple[Counted, int], int] = field(default_factory=dict)
    _held: Held = field(default_factory=dict)

    @property
    def halves(self) -> range:
        return range(-(-self.channels // 4))

    def emit(self) -> None:
        """Biases, weights and what the ends of all pixels share into locals, then all tiles."""
        self._load_bias()
        self._hold_still_inputs()
        self._load_weights()
        vertical, horizontal = (
            strips(window, size) for window, size in zip(self.d.windows, (self.tile.height, self.tile.width))
        )
        for v, h in itertools.product(vertical, horizontal):
            cross(self.f, self.d, v, h, partial(self._tile, v, h))
        self.f.release(*self._bias.values(), *self._weights.values(), *self._held.values())

    def _lanes(self, half: int) -> int:
        return min(4, self.channels - 4 * half)

    def _load_bias(self) -> None:
        row = 4 * CHANNELS * math.ceil(self.d.columns / CHANNELS)
        for number, found in enumerate(counted(self.d, self.tile)):
            for half in self.halves:
                self._push_bias(number * row + 16 * half, self._lanes(half))
                self._bias[found, half] = self.f.local("v128")
                self.f.set(self._bias[found, half])

    def _push_bias(self, offset: int, lanes: int) -> None:
        if self.d.bias_start == "scalar":
            self.f.get(BIAS)
            self.f.memory("v128.load32_splat")
        else:
            load_words(self.f, BIAS, offset, lanes if self.d.exact_bias else 4)

    def _hold_still_inputs(self) -> None:
        epilogue = self.d.epilogue
        offsets = [0] * len(epilogue.steps)
        self._held = epilogue.hold(
            self.f, offsets, self.channels, self.d.epilogue.still_inputs(self.d.pixels)
        )

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
        pairs = _Pairs(self.f, self.d, self.channels, v, self._uses(met, h))
        for (row, taps_of), (column, columns) in itertools.product(enumerate(met), enumerate(h.taps)):
            terms = [(pair, taps, j, x) for pair, taps in taps_of.items() for j, x in columns]
            for pair, _, _, x in terms:
                pairs.form(pair, x)
            bias = self._bias_of(_counted_rows(taps_of), _counted_columns(columns))
            self._store(output_offsets(self.d, row, column, 0), bias, terms, pairs)
            for pair, _, _, x in terms:
                pairs.used(pair, x)

    def _bias_of(self, *found: tuple[int, ...]) -> list[int]:
        """The locals with the bias where these rows and columns count; where all are alike, with that of all."""
        rows, columns = found
        key = (rows, columns) if len(self._bias) > len(self.halves) else next(iter(self._bias))[0]
        return [self._bias[key, half] for half in self.halves]

    def _store(
        self, offsets: Sequence[int], bias: Sequence[int], terms: Sequence[Term], pairs: _Pairs
    ) -> None:
        chains = [partial(self._chain, half, bias[half], terms, pairs) for half in self.halves]
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

    def _chain(self, half: int, bias: int, terms: Sequence[Term], pairs: _Pairs) -> None:
        self.f.get(bias)
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
        for parity in range(2):
            index = 2 * pair + parity - self.strip.skipped
            self._push_row(index, x) if index in inside else f.v128(self._border)
        f.shuffle(_INTERLEAVED)
        halves = HALVES[: -(-self.channels // 4)]
        self._locals[pair, x] = [f.local("v128") for _ in halves]
        bytes_ = f.local("v128")
        f.set(bytes_)
        for half, local in zip(halves, self._locals[pair, x]):
            f.get(bytes_)
            f.op(f"i16x8.extend_{half}_i8x16_s")
            if self.d.zero_point and not self.d.is_corrected:
                f.v128(self.d.zero_point.to_bytes(2, "little", signed=True) * CHANNELS)
                f.op("i16x8.sub")
            f.set(local)
        f.release(bytes_)

    @property
    def _border(self) -> bytes:
        return self.d.zero_point.to_bytes(1, "little", signed=True) * 16

    def _push_row(self, y: int, x: int) -> None:
        """Push 8 channels of a pixel as bytes in the low half."""
        f = self.f
        offset = y * self.d.pixel_steps[VERTICAL] + x * self.d.pixel_steps[HORIZONTAL]
        if self.channels == CHANNELS:
            f.get(LEFT)
            f.memory("v128.load64_zero", offset)
            return
        for _ in range(self.channels):
            f.get(LEFT)
        f.v128(ZERO)
        for lane in range(self.channels):
            f.memory("v128.load8_lane", offset + lane, lane)
