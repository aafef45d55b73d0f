"""How a depthwise convolution walks over its pixels: axis by axis, in tiles that share their code.

Tiles along an axis that see the zero border in the same way form a strip; where two strips cross, all tiles have
the same code, in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.kernels.epilogue import Epilogue
from tosaic.wasm.kernels.streams import LEFT, OUTPUT, Axis, collapsed, nearly_equal, nest
from tosaic.wasm.kernels.tile import Arithmetic

VERTICAL, HORIZONTAL = range(2)

HEIGHTS, WIDTHS = range(1, 9), range(1, 17)
"""Sizes of tiles that are tried."""

PASSING_LOCALS = 12
"""Locals for loop ends and values of the epilogue."""

_OPERATOR_BYTES = 2.7  # of code, on average


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

    `output` and `input` are the first tile's first output and first input index, `move` how many outputs on the
    next tile is; `taps` holds for each output of a tile its (tap, input index relative to the tile's first). The first
    window of a tile begins `skipped` indices before that, on the border.
    """

    tiles: int
    output: int
    input: int
    move: int
    taps: tuple[tuple[tuple[int, int], ...], ...]
    skipped: int


def strips(window: Window, size: int) -> list[Strip]:
    """The axis in tiles of at most `size` outputs, those with the same taps joined."""
    found: list[Strip] = []
    for group in nearly_equal(window.outputs, size):
        for i in range(group.count):
            output = group.first + i * group.width
            reached = [window.reached(output + j) for j in range(group.width)]
            first = min((index for taps in reached for _, index in taps), default=0)
            taps = tuple(tuple((tap, index - first) for tap, index in one) for one in reached)
            skipped = first - (output * window.stride - window.before)
            last = found[-1] if found else None
            if last and (last.taps, last.skipped) == (taps, skipped):
                found[-1] = replace(last, tiles=last.tiles + 1)
            else:
                found.append(Strip(1, output, first, group.width, taps, skipped))
    return found


@dataclass(frozen=True)
class Cut:
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
    def of(cls, found: Sequence[Strip], products: Sequence[int], loads: Sequence[int]) -> Cut:
        """From strips, with the products and the loads of one tile of each."""
        outputs = [len(strip.taps) for strip in found]
        tiles = [strip.tiles for strip in found]

        def total(counts: Sequence[int]) -> int:
            return sum(number * count for number, count in zip(tiles, counts))

        return cls(
            max(outputs),
            sum(tiles),
            total(outputs),
            total(products),
            total(loads),
            sum(outputs),
            sum(products),
            sum(loads),
            max(loads),
        )


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution, hashable: equal ones share their code.

    `batch` and `pixels` (the two axes of the image) tell how the streams move per output index, `pixel_steps` how
    many bytes the input moves per input index; `columns` output channels, `multiplier` of them an input channel.
    `zero_point` is what is still to be subtracted from the input, unless `is_corrected`: then there are as many rows
    of biases as ways to meet the border, and each makes up for it.
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
    zero_point: int = 0
    is_corrected: bool = False

    @property
    def taps(self) -> int:
        return self.windows[0].taps * self.windows[1].taps


def cross(f: Function, d: Depthwise, v: Strip, h: Strip, tile: Callable[[], None]) -> None:
    """The tiles where two strips cross."""
    tall, wide = d.pixels
    start = [v.output * a + h.output * b for a, b in zip(tall.steps, wide.steps)]
    start[LEFT] = v.input * d.pixel_steps[VERTICAL] + h.input * d.pixel_steps[HORIZONTAL]
    for stream, offset in enumerate(start):
        f.add_to(stream, offset)
    axes = [
        Axis(v.tiles, tuple(step * v.move for step in tall.steps)),
        Axis(h.tiles, tuple(step * h.move for step in wide.steps)),
    ]
    nest(f, collapsed(axes), tile)
    for stream, offset in enumerate(start):
        f.add_to(stream, -offset)


def output_offsets(d: Depthwise, row: int, column: int, channel: int) -> list[int]:
    """Byte offsets of the output and the fused inputs at an output of a tile."""
    tall, wide = d.pixels
    return [
        row * tall.steps[stream] + column * wide.steps[stream] + channel * d.column_steps[stream]
        for stream in range(OUTPUT, len(d.column_steps))
    ]


Tile = TypeVar("Tile")


def cheapest(
    priced: Sequence[tuple[float, Tile]], code: Callable[[Tile], Function], options: KernelOptions
) -> Tile | None:
    """The tile with the least price (an estimate) among those whose code keeps the limits; None if none does."""
    for _, tile in sorted(priced, key=lambda entry: entry[0]):
        function = code(tile)
        if function.byte_size <= options.function_bytes and function.local_count <= options.locals:
            return tile
    return None


def channel_axis(d: Depthwise, size: int, columns: int, channels: int) -> Axis:
    """`size` steps of so many output columns and input channels."""
    left, *others = d.column_steps
    return Axis(size, (left * channels, *(step * columns for step in others)))


def install_share(
    operators: int, extra_bytes: int, prices: PriceList, options: KernelOptions
) -> float | None:
    """The install price of so many operators per call; None if they will hardly fit into one function.

    `extra_bytes` is the size of their immediates beyond the usual.
    """
    if operators * _OPERATOR_BYTES + extra_bytes > options.function_bytes:
        return None
    return prices.compile_per_operator * operators / options.calls_per_install
