"""Sliding windows: the geometry that convolution and pooling share, and how TOSA wants it.

Spatial axes are named from the left; all pairs are (begin, end) of one spatial axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.tensor import Tensor

MAX_KERNEL = 8192
MAX_STRIDE = 8192
"""TOSA 1.0, level 8k: MAX_KERNEL bounds dilation * kernel and every pad, MAX_STRIDE the strides."""


@dataclass(frozen=True)
class Windows:
    """Kernel, strides, dilations and pads of every spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements from the first to the last tap of a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def axis(self, index: int) -> Windows:
        """The windows along one axis only."""
        return self.axes(index, index + 1)

    def axes(self, start: int, stop: int) -> Windows:
        """The windows along neighbouring axes only."""
        return Windows(
            self.kernel[start:stop],
            self.strides[start:stop],
            self.dilations[start:stop],
            self.pads[start:stop],
        )

    def with_pads(self, pads: Sequence[tuple[int, int]]) -> Windows:
        return replace(self, pads=tuple(pads))


def resolve_windows(
    ctx: LoweringContext,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    auto_pad: str,
) -> Windows:
    """The windows over an input with these spatial sizes, with the defaults of ONNX and `auto_pad` filled in."""
    rank = len(sizes)
    if len(kernel) != rank:
        ctx.fail(f"a kernel of {len(kernel)} axes does not fit an input with {rank} spatial axes")
    strides, dilations = tuple(strides) or (1,) * rank, tuple(dilations) or (1,) * rank
    pads = tuple(pads) or (0,) * (2 * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        ctx.fail(f"strides, dilations and pads do not fit {rank} spatial axes")
    pairs = tuple(zip(pads[:rank], pads[rank:], strict=True))
    windows = Windows(tuple(kernel), strides, dilations, pairs)
    if auto_pad == "VALID":
        return windows.with_pads([(0, 0)] * rank)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return windows.with_pads(
            [
                same_pads(size, stride, extent, auto_pad)
                for size, stride, extent in zip(sizes, strides, windows.extents, strict=True)
            ]
        )
    if auto_pad not in ("NOTSET", ""):
        ctx.fail(f"auto_pad '{auto_pad}' is not known")
    return windows


def same_pads(size: int, stride: int, extent: int, auto_pad: str) -> tuple[int, int]:
    """Pads that give ceil(size / stride) windows; the odd one goes to the end for SAME_UPPER."""
    total = max(0, (-(-size // stride) - 1) * stride + extent - size)
    small, large = total // 2, total - total // 2
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def window_counts(sizes: Sequence[int], windows: Windows, *, ceil_mode: bool = False) -> tuple[int, ...]:
    """Windows along each axis. With `ceil_mode` the last may hang over, but starts inside of input or left pad."""
    counts = []
    for size, extent, stride, (begin, end) in zip(
        sizes, windows.extents, windows.strides, windows.pads, strict=True
    ):
        room = size + begin + end - extent
        count = room // stride + 1
        if ceil_mode and room % stride and count * stride < size + begin:
            count += 1
        counts.append(count)
    return tuple(counts)


def fit(
    ctx: LoweringContext, x: Tensor, windows: Windows, counts: Sequence[int], first: int
) -> tuple[Tensor, Windows]:
    """The input and pads that hold exactly `counts` windows, as TOSA demands: no element is left over.

    Spatial axes start at axis `first` of x. What the last window does not reach is taken from the end pad,
    then from the input; negative pads crop the input; a window that hangs over enlarges the end pad.
    """
    starts, sizes, pads = [0] * x.rank, list(x.shape), []
    for axis, (count, reach, (begin, _)) in enumerate(
        zip(counts, reaches(windows, counts), windows.pads, strict=True), first
    ):
        if count < 1:
            ctx.fail("the window is larger than its input")
        end = reach - sizes[axis] - begin
        starts[axis] = max(0, -begin)
        sizes[axis] -= max(0, -begin) + max(0, -end)
        pads.append((max(0, begin), max(0, end)))
    if min(sizes) < 1:
        ctx.fail("the window reads only padding")
    fitted = windows.with_pads(pads)
    check_level(ctx, fitted)
    return ctx.slice(x, starts, sizes), fitted


def reaches(windows: Windows, counts: Sequence[int]) -> list[int]:
    """Elements from the first tap of the first window to the last tap of the last one, of every axis."""
    return [
        (count - 1) * stride + extent
        for count, stride, extent in zip(counts, windows.strides, windows.extents, strict=True)
    ]


def padded(ctx: LoweringContext, x: Tensor, windows: Windows, value: int) -> tuple[Tensor, Windows]:
    """Channels-last x with its pads written out; negative ones are left to `fit`."""
    written = [(max(0, begin), max(0, end)) for begin, end in windows.pads]
    left = [(min(0, begin), min(0, end)) for begin, end in windows.pads]
    return pad_spatial(ctx, x, written, 1, value), windows.with_pads(left)


def check_level(ctx: LoweringContext, windows: Windows) -> None:
    """Fails where TOSA's level 8k ends."""
    widest = max(*windows.extents, *(width for pair in windows.pads for width in pair))
    if widest > MAX_KERNEL:
        ctx.fail(f"a kernel or padding of {widest} is above TOSA's level 8k ({MAX_KERNEL})")
    if max(windows.strides) > MAX_STRIDE:
        ctx.fail(f"a stride of {max(windows.strides)} is above TOSA's level 8k ({MAX_STRIDE})")


def channels_last(ctx: LoweringContext, x: Tensor) -> Tensor:
    """[N, C, spatial...] -> [N, spatial..., C]."""
    return ctx.transpose(x, [0, *range(2, x.rank), 1])


def channels_first(ctx: LoweringContext, x: Tensor) -> Tensor:
    """[N, spatial..., C] -> [N, C, spatial...]."""
    return ctx.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def flat_pads(windows: Windows) -> list[int]:
    """[begin, end] of every axis one after the other, as TOSA writes pads."""
    return [width for pair in windows.pads for width in pair]


def pad_spatial(
    ctx: LoweringContext, x: Tensor, pads: Sequence[tuple[int, int]], first: int, value: float | int = 0
) -> Tensor:
    """Explicit padding of the spatial axes, which start at axis `first`."""
    before, after = [0] * x.rank, [0] * x.rank
    for axis, (begin, end) in enumerate(pads, first):
        before[axis], after[axis] = begin, end
    return ctx.pad(x, before, after, value)


def every_nth(ctx: LoweringContext, x: Tensor, axis: int, step: int) -> Tensor:
    """Elements 0, step, 2 * step, ... along an axis: a pad, a reshape and a slice."""
    if step == 1:
        return x
    count = -(-x.shape[axis] // step)
    after = [0] * x.rank
    after[axis] = count * step - x.shape[axis]
    padded = ctx.pad(x, [0] * x.rank, after)
    outer, inner = x.shape[:axis], x.shape[axis + 1 :]
    grouped = ctx.reshape(padded, (math.prod(outer) * count, step, math.prod(inner)))
    return ctx.reshape(ctx.slice_axis(grouped, 1, 0, 1), (*outer, count, *inner))
