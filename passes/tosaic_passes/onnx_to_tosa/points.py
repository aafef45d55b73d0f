"""Values of images between their elements: what GridSample, RoiAlign and DeformConv have in common.

Positions are f32 tensors in units of elements, element centres at whole numbers, one tensor a spatial axis;
they broadcast against each other to the shape of the points.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT32
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_CUBIC_A = -0.75


@dataclass(frozen=True)
class Tap:
    """An element that a value is made of, along one axis: whole positions (f32) and weights (None: 1)."""

    position: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True)
class Image:
    """Rows [N, P, C] of all elements in row-major order, and the spatial sizes, whose product is P."""

    rows: Tensor
    sizes: tuple[int, ...]


def image(ctx: LoweringContext, x: Tensor, *, border: int = 0) -> Image:
    """[N, C, spatial...] with `border` zeros around each spatial axis."""
    widths = [0, *[border] * (x.rank - 2), 0]
    padded = ctx.pad(ctx.transpose(x, [0, *range(2, x.rank), 1]), widths, widths)
    sizes = padded.shape[1:-1]
    return Image(ctx.reshape(padded, (x.shape[0], math.prod(sizes), x.shape[1])), sizes)


def nearest_tap(ctx: LoweringContext, position: Tensor) -> list[Tap]:
    """The nearest element, of two the even one."""
    bounded = ctx.clamp(position, -(2.0**30), 2.0**30)
    return [Tap(ctx.cast(ctx.cast(bounded, INT32), FLOAT32))]


def linear_taps(ctx: LoweringContext, position: Tensor) -> list[Tap]:
    """The two elements around a position, each weighted by how near it is."""
    floor = ctx.floor(position)
    ratio = ctx.sub(position, floor)
    return [Tap(floor, ctx.sub(1, ratio)), Tap(ctx.add(floor, 1), ratio)]


def cubic_taps(ctx: LoweringContext, position: Tensor) -> list[Tap]:
    """Four elements around a position, weighted by Keys' cubic convolution kernel with a = -0.75."""
    floor = ctx.floor(position)
    ratio = ctx.sub(position, floor)
    rest = ctx.sub(1, ratio)
    weights = [
        _cubic_far(ctx, ctx.add(ratio, 1)),
        _cubic_near(ctx, ratio),
        _cubic_near(ctx, rest),
        _cubic_far(ctx, ctx.add(rest, 1)),
    ]
    return [Tap(ctx.add(floor, shift), weight) for shift, weight in zip((-1, 0, 1, 2), weights, strict=True)]


def _cubic_near(ctx: LoweringContext, distance: Tensor) -> Tensor:
    """(a + 2) d^3 - (a + 3) d^2 + 1, for 0 <= d <= 1."""
    line = ctx.sub(ctx.mul(distance, _CUBIC_A + 2), _CUBIC_A + 3)
    return ctx.add(ctx.mul(ctx.mul(line, distance), distance), 1)


def _cubic_far(ctx: LoweringContext, distance: Tensor) -> Tensor:
    """a (d^3 - 5 d^2 + 8 d - 4), for 1 <= d <= 2."""
    square = ctx.sub(ctx.mul(distance, _CUBIC_A), 5 * _CUBIC_A)
    line = ctx.add(ctx.mul(square, distance), 8 * _CUBIC_A)
    return ctx.sub(ctx.mul(line, distance), 4 * _CUBIC_A)


def sample(
    ctx: LoweringContext,
    source: Image,
    taps: Sequence[Sequence[Tap]],
    shape: Sequence[int],
    *,
    first: Tensor | None = None,
    combine: str = "add",
) -> Tensor:
    """Sums (or `maximum`s) of weighted elements, [N, W, C], at points of this shape [N, ...], W points for each n.

    `taps` are those of each axis, positions outside of the image mean its nearest element; `first` (i32)
    is added to the rows.
    """
    rows = _row_numbers(ctx, taps, source.sizes, first)
    total = None
    for chosen in itertools.product(*rows):
        index = functools.reduce(ctx.add, [tap.position for tap in chosen])
        flat = ctx.reshape(ctx.broadcast_to(index, shape), (shape[0], math.prod(shape[1:])))
        value = ctx.gather(source.rows, flat)
        weights = [tap.weight for tap in chosen if tap.weight is not None]
        if weights:
            weight = ctx.broadcast_to(functools.reduce(ctx.mul, weights), shape)
            value = ctx.mul(value, ctx.reshape(weight, (*flat.shape, 1)))
        total = value if total is None else ctx.elementwise(combine, total, value)
    assert total is not None
    return total


def _row_numbers(
    ctx: LoweringContext, taps: Sequence[Sequence[Tap]], sizes: Sequence[int], first: Tensor | None
) -> list[list[Tap]]:
    """Taps whose positions are i32 and times the rows that one step along the axis skips: their sum is a row."""
    rows = []
    for axis, size in enumerate(sizes):
        stride = np.array(math.prod(sizes[axis + 1 :]), np.int32)
        along = []
        for tap in taps[axis]:
            row = ctx.cast(ctx.clamp(tap.position, 0, size - 1), INT32)
            row = row if stride == 1 else ctx.mul(row, stride)
            row = ctx.add(row, first) if axis == 0 and first is not None else row
            along.append(Tap(row, tap.weight))
        rows.append(along)
    return rows
