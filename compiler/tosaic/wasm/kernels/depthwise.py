"""depthwise_conv2d: NHWC activations, HWCM weights; each channel on its own, output channels in the lanes of a vector.

The weights of a vector stay in locals while all pixels pass. Pixels are computed in tiles whose input pixels are
loaded once each; taps that fall on the zero border are left out. Tiles along an axis that see the border in the
same way share their code, in a loop. Taps are added in ascending order (row, column), starting at the bias.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.epilogue import Epilogue, Target
from tosaic.wasm.kernels.numbers import Numbers, numbers_of
from tosaic.wasm.kernels.packing import Packing, RightOperand, pack
from tosaic.wasm.kernels.product import Bias, bias_of, left_view
from tosaic.wasm.kernels.staging import Border, touched_runs
from tosaic.wasm.kernels.streams import (
    BIAS,
    LEFT,
    OUTPUT,
    RIGHT,
    Axis,
    collapsed,
    load_words,
    nearly_equal,
    nest,
)
from tosaic.wasm.kernels.tile import Arithmetic

INPUT, WEIGHTS, BIAS_INPUT = range(3)
ZERO_POINTS = ("input_zp", "weight_zp")

_HEIGHTS, _WIDTHS = range(1, 9), range(1, 17)  # tiles that are tried
_PASSING_LOCALS = 12  # loop ends and values of the epilogue
_OPERATOR_BYTES = 2.6  # of code, on average

VERTICAL, HORIZONTAL = range(2)


@dataclass(frozen=True)
class Window:
    """One axis of the convolution."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    dilation: int
    before: int

    @property
    def extent(self) -> int:
        """Input indices from the first to the last that a window holds, the border's included."""
        return (self.outputs - 1) * self.stride + (self.taps - 1) * self.dilation + 1

    def reached(self, output: int) -> tuple[tuple[int, int], ...]:
        """(tap, input index) of the taps of an output that fall inside of the input."""
        first = output * self.stride - self.before
        pairs = ((tap, first + tap * self.dilation) for tap in range(self.taps))
        return tuple((tap, index) for tap, index in pairs if 0 <= index < self.inputs)

    def trimmed(self) -> tuple[Window, int]:
        """The same window without the taps before the first and behind the last that ever meet the input, and the
        number of the former."""
        used = [tap for output in range(self.outputs) for tap, _ in self.reached(output)]
        first, taps = (min(used), max(used) + 1 - min(used)) if used else (0, 0)
        return replace(self, taps=taps, before=self.before - first * self.dilation), first

    def inputs_reached(self) -> list[int]:
        """The input indices that some output's window holds."""
        return sorted({index for output in range(self.outputs) for _, index in self.reached(output)})


@dataclass(frozen=True)
class Strip:
    """Consecutive tiles along one axis with the same code.

    `output` and `input` are the first tile's first output and first input index, `move` and `input_move` how far the
    next tile is; `taps` holds for each output of a tile its (tap, input index relative to the tile's first).
    """

    tiles: int
    output: int
    input: int
    move: int
    input_move: int
    taps: tuple[tuple[tuple[int, int], ...], ...]


def strips(window: Window, size: int) -> list[Strip]:
    """The axis in tiles of at most `size` outputs, those with the same taps joined."""
    found: list[Strip] = []
    for group in nearly_equal(window.outputs, size):
        for i in range(group.count):
            output = group.first + i * group.width
            reached = [window.reached(output + j) for j in range(group.width)]
            first = min((index for taps in reached for _, index in taps), default=0)
            taps = tuple(tuple((tap, index - first) for tap, index in one) for one in reached)
            last = found[-1] if found else None
            if last and last.taps == taps and first == last.input + last.tiles * last.input_move:
                found[-1] = Strip(last.tiles + 1, *_fields(last))
            else:
                found.append(Strip(1, output, first, group.width, group.width * window.stride, taps))
    return found


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution, hashable: equal ones share their code.

    `batch` and `pixels` (the two axes of the image) tell how the streams move per output index, `pixel_steps` how
    many bytes the input moves per input index; `columns` output channels, `multiplier` of them an input channel.
    """

    arithmetic: Arithmetic
    windows: tuple[Window, Window]
    batch: Axis
    pixels: tuple[Axis, Axis]
    pixel_steps: tuple[int, int]
    columns: int
    multiplier: int
    column_steps: tuple[int, ...]
    epilogue: Epilogue
    bias_start: str
    exact_bias: bool

    @property
    def taps(self) -> int:
        return self.windows[0].taps * self.windows[1].taps


@dataclass(frozen=True)
class Tile:
    """The choice: outputs of a tile along both axes, and whether the weights stay in locals."""

    height: int
    width: int
    hoisted: bool


def _fields(strip: Strip) -> tuple:
    return strip.output, strip.input, strip.move, strip.input_move, strip.taps


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """depthwise_conv2d; attributes `pad` (top, bottom, left, right), `stride`, `dilation`."""
    numbers = numbers_of(request, ZERO_POINTS, pairs=False)
    for padded in (False, True):
        assembly = Assembly(request, prices, options)
        target, bias = Target.whole(assembly), bias_of(assembly, BIAS_INPUT, numbers)
        place, depthwise = _described(assembly, numbers, target, bias, padded)
        if choose(depthwise, prices, options) is not None:
            break
    else:
        raise TosaicError(
            f"a depthwise window of {depthwise.taps} taps does not fit into a WebAssembly function"
        )
    weights = _weights(assembly, numbers)
    streams = [place, weights or place, bias.place or place, target.place, *target.fused_places]
    assembly.call(emit(depthwise, prices, options), streams)
    return assembly.kernel()


def _described(
    assembly: Assembly, numbers: Numbers, target: Target, bias: Bias, padded: bool
) -> tuple[Place, Depthwise]:
    """The convolution and the place of its input: as it lies, or (`padded`) a copy with zero borders, for windows so
    large that code for each way of seeing the border would not fit."""
    request, output, source = assembly.request, assembly.output, assembly.view(INPUT)
    windows = [_window(request, axis).trimmed()[0] for axis in (VERTICAL, HORIZONTAL)]
    taps = math.prod(window.taps for window in windows)
    borders = [Border(size, stride) for size, stride in zip(source.shape, source.strides)]
    if padded:
        borders[1:3] = [_border(window, border) for window, border in zip(windows, borders[1:3])]
        windows = [
            replace(
                window,
                inputs=border.before + border.size + border.after,
                before=window.before - border.before,
            )
            for window, border in zip(windows, borders[1:3])
        ]
    touched = [
        range(source.shape[0]),
        *(window.inputs_reached() for window in windows),
        range(source.shape[3]),
    ]
    place, view = left_view(assembly, numbers.left, borders, touched)
    axes = [
        Axis(output.shape[d], (view.strides[d] * step, 0, 0, *target.moves(d)))
        for d, step in zip(range(3), (1, *request.attributes["stride"]))
    ]
    epilogue = Epilogue.of(request, target)
    return place, Depthwise(
        numbers.arithmetic,
        (windows[VERTICAL], windows[HORIZONTAL]),
        batch=axes[0],
        pixels=(axes[1], axes[2]),
        pixel_steps=(view.strides[1], view.strides[2]),
        columns=output.shape[3],
        multiplier=request.inputs[WEIGHTS].view.shape[3],
        column_steps=(view.strides[3], 4 * taps, bias.step, *epilogue.steps),
        epilogue=epilogue,
        bias_start=bias.start,
        exact_bias=bias.exact,
    )


def _window(request: KernelRequest, axis: int) -> Window:
    attributes = request.attributes
    return Window(
        request.inputs[INPUT].view.shape[1 + axis],
        request.outputs[0].shape[1 + axis],
        request.inputs[WEIGHTS].view.shape[axis],
        attributes["stride"][axis],
        attributes["dilation"][axis],
        attributes["pad"][2 * axis],
    )


def _border(window: Window, axis: Border) -> Border:
    size = min(window.inputs, window.extent - window.before)
    return Border(size, axis.stride, max(0, window.before), window.extent - window.before - size)


def _weights(assembly: Assembly, numbers: Numbers) -> Place | None:
    """The weights vector by vector, and in each of these tap by tap; None if all taps fall on the border."""
    array, view = assembly.request.inputs[WEIGHTS].array, assembly.view(WEIGHTS)
    (rows, top), (columns, left) = (
        _window(assembly.request, axis).trimmed() for axis in (VERTICAL, HORIZONTAL)
    )
    if rows.taps * columns.taps == 0:
        return None
    _, _, channels, multiplier = view.shape
    if array is not None:
        used = array[top : top + rows.taps, left : left + columns.taps]
        matrix = numbers.converted(used.reshape(1, -1, channels * multiplier))
        return assembly.pack(WEIGHTS, pack(matrix, 1, numbers.arithmetic, 1))
    if multiplier > 1 and channels > 1 and view.strides[2] != multiplier * view.strides[3]:
        raise TosaicError("the weights of tosa.depthwise_conv2d are not contiguous in their last two axes")
    outputs = (channels * multiplier, view.strides[3] if multiplier > 1 else view.strides[2])
    operand = RightOperand((), ((rows.taps, view.strides[0]),), (columns.taps, view.strides[1]), outputs)
    place = assembly.scratch(operand.packed_bytes(numbers.arithmetic))
    start = top * view.strides[0] + left * view.strides[1]
    used_rows, used_columns = range(top, top + rows.taps), range(left, left + columns.taps)
    touched = touched_runs(view, [used_rows, used_columns, range(channels), range(multiplier)])
    assembly.prepare(
        Place(assembly.read(WEIGHTS, touched).param, start),
        place,
        lambda f, a, b: Packing(f, a, b, operand, numbers.arithmetic, numbers.right).emit(1),
    )
    return place


@dataclass(frozen=True)
class _Cut:
    """An axis cut into tiles of a size, in sums: over all tiles (outputs, products, inputs loaded), and over the
    code of all strips (the same); and the most inputs of one tile."""

    size: int
    tiles: int
    outputs: int
    products: int
    loads: int
    code_outputs: int
    code_products: int
    code_loads: int
    widest: int

    @classmethod
    def of(cls, window: Window, size: int) -> _Cut:
        found = strips(window, size)
        products = [sum(map(len, strip.taps)) for strip in found]
        reached = [len({index for taps in strip.taps for _, index in taps}) for strip in found]
        return cls(
            size=max(len(strip.taps) for strip in found),
            tiles=sum(strip.tiles for strip in found),
            outputs=window.outputs,
            products=sum(strip.tiles * count for strip, count in zip(found, products)),
            loads=sum(strip.tiles * count for strip, count in zip(found, reached)),
            code_outputs=sum(len(strip.taps) for strip in found),
            code_products=sum(products),
            code_loads=sum(reached),
            widest=max(reached),
        )


@lru_cache(maxsize=512)
def choose(d: Depthwise, prices: PriceList, options: KernelOptions) -> Tile | None:
    """The tile with the least price for all calls and one install; None if the code of none fits."""
    vertical, horizontal = (
        [_Cut.of(window, size) for size in sizes if size <= window.outputs]
        for window, sizes in zip(d.windows, (_HEIGHTS, _WIDTHS))
    )
    priced = []
    for v, h, hoisted in itertools.product(vertical, horizontal, (True, False)):
        price = _price(d, v, h, hoisted, prices, options)
        if price is not None:
            priced.append((price, v.size, h.size, hoisted))
    return Tile(*min(priced)[1:]) if priced else None


def _price(
    d: Depthwise, v: _Cut, h: _Cut, hoisted: bool, prices: PriceList, options: KernelOptions
) -> float | None:
    """Estimated price of all calls and a share of one install, per call; None if the tile breaks a limit."""
    live = min(v.widest, d.windows[VERTICAL].taps) * h.widest if v.size * h.size > 1 else 0
    if live + hoisted * d.taps + _PASSING_LOCALS > options.locals:
        return None
    pieces = (
        v.code_products * h.code_products + v.code_loads * h.code_loads + 2 * v.code_outputs * h.code_outputs
    )
    operators = 4 * pieces * _vectors_in_code(d)
    if operators * _OPERATOR_BYTES > options.function_bytes:
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
    return call + prices.compile_per_operator * operators / options.calls_per_install


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


@lru_cache(maxsize=512)
def emit(d: Depthwise, prices: PriceList, options: KernelOptions) -> Function:
    """A function that takes the addresses of all streams (i32) and computes the convolution."""
    f = Function("depthwise", prices, ("i32",) * len(d.column_steps))
    tile = choose(d, prices, options)
    if tile is None:
        raise ValueError("no tile fits")
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
            inner = self._channel_axis(self.d.multiplier // width, width, 0)
            outer = self._channel_axis(self.d.columns // self.d.multiplier, self.d.multiplier, 1)
            nest(self.f, collapsed([outer, inner]), lambda: self._vectors(patterns, width))
            return
        period = len(patterns) * width
        whole, rest = divmod(self.d.columns, period)
        axis = self._channel_axis(whole, period, channels)
        if whole:
            nest(self.f, collapsed([axis]), lambda: self._vectors(patterns, width))
        if rest:
            self._move(axis, whole)
            self._vectors(patterns[: math.ceil(rest / width)], (rest - 1) % width + 1)
            self._move(axis, -whole)

    def _channel_axis(self, size: int, columns: int, channels: int) -> Axis:
        left, *others = self.d.column_steps
        return Axis(size, (left * channels, *(step * columns for step in others)))

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
        """The tiles where two strips cross."""
        tall, wide = self.d.pixels
        start = [
            v.output * a + h.output * b if stream != LEFT else 0
            for stream, (a, b) in enumerate(zip(tall.steps, wide.steps))
        ]
        start[LEFT] = v.input * self.d.pixel_steps[VERTICAL] + h.input * self.d.pixel_steps[HORIZONTAL]
        for stream, offset in enumerate(start):
            self.f.add_to(stream, offset)
        axes = [
            Axis(v.tiles, tuple(step * v.move for step in tall.steps)),
            Axis(h.tiles, tuple(step * h.move for step in wide.steps)),
        ]
        nest(self.f, collapsed(axes), lambda: self._tile(v, h))
        for stream, offset in enumerate(start):
            self.f.add_to(stream, -offset)

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

        tall, wide = self.d.pixels
        offsets = [
            row * tall.steps[stream] + column * wide.steps[stream] + self.column * self.d.column_steps[stream]
            for stream in range(OUTPUT, len(self.d.column_steps))
        ]
        self.d.epilogue.store(self.f, offsets, self.lanes, chain)

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
