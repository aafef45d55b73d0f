"""Requests for matrix products and convolutions, and their values with the same order of additions in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tosaic.prices import PriceList
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest, Operand, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, run_kernel, view_of

PRICES = PriceList.load()


@dataclass
class Case:
    """A request with the values of its inputs."""

    request: KernelRequest
    arrays: list[np.ndarray]

    def kernel(self, options: KernelOptions | None = None) -> Kernel:
        return build(self.request, PRICES, options)

    def run(self, options: KernelOptions | None = None) -> np.ndarray:
        """The output of the one call; cost, touched pages and guard zones are checked on the way."""
        return run_kernel(self.kernel(options), self.request, self.arrays)[0]


def case(
    op: str,
    inputs: Sequence[tuple[np.ndarray, bool]],
    output: tuple[int, ...] | View,
    attributes: Mapping[str, Any] | None = None,
    zero_points: tuple[int, int] = (0, 0),
    result: str = "f32",
) -> Case:
    """A request with (values, is constant) inputs, and the zero points of the first two as attributes."""
    operands = tuple(
        Operand(view_of(array, element_of(array)), array if constant else None) for array, constant in inputs
    )
    view = output if isinstance(output, View) else View.contiguous(result, output)
    names = ("a_zp", "b_zp") if op.startswith("matmul") else ("input_zp", "weight_zp")
    attributes = {**(attributes or {}), **dict(zip(names, zero_points))}
    return Case(KernelRequest(op, operands, (view,), attributes, result), [array for array, _ in inputs])


def element_of(array: np.ndarray) -> str:
    """The element type that is stored like the array; i64 stands for i48."""
    return (
        "i48" if array.dtype == np.int64 else next(e for e, dtype in DTYPES.items() if dtype == array.dtype)
    )


def values(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def integers(rng: np.random.Generator, dtype: type[np.integer], *shape: int) -> np.ndarray:
    """Over the whole range of the type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def ordered_matmul(left: np.ndarray, right: np.ndarray, constant: bool = False) -> np.ndarray:
    """[N, H, C] x [N, C, W] in f32, adding along C from zero on; `constant` columns behind whole vectors across."""
    taps = left.shape[2]
    sums = Sums(np.zeros((left.shape[0], left.shape[1], right.shape[2]), np.float32))
    for c in range(taps):
        sums.add(left[:, :, c, None] * right[:, None, c, :], c)
    return sums.result(constant and taps >= 24 and taps % 4 == 0)


class Sums:
    """Sums by column in both orders: one by one, and as four partial sums."""

    def __init__(self, start: np.ndarray) -> None:
        zero = np.zeros_like(start)
        self.straight, self.partial = start, [start, zero, zero, zero]

    def add(self, products: np.ndarray, innermost: int) -> None:
        """Add a tap; `innermost` is its place among the innermost taps."""
        self.straight = self.straight + products
        self.partial[innermost % 4] = self.partial[innermost % 4] + products

    def result(self, goes_across: bool) -> np.ndarray:
        """The sums; if they go across, those of columns behind the last full vector as partial sums."""
        full = self.straight.shape[-1] // 4 * 4 if goes_across else self.straight.shape[-1]
        across = (self.partial[0] + self.partial[1]) + (self.partial[2] + self.partial[3])
        return np.concatenate([self.straight[..., :full], across[..., full:]], -1)


@dataclass(frozen=True)
class Geometry:
    """Convolution over any number of axes; `pad` is (before, after) of each."""

    pad: tuple[tuple[int, int], ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def output(self, inputs: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
        """Output sizes."""
        return tuple(
            (size + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
            for size, taps, pad, stride, dilation in zip(inputs, window, self.pad, self.stride, self.dilation)
        )

    @property
    def attributes(self) -> dict[str, tuple[int, ...]]:
        flat = tuple(border for pair in self.pad for border in pair)
        return {"pad": flat, "stride": self.stride, "dilation": self.dilation}


def ordered_convolution(
    image: np.ndarray, weights: np.ndarray, bias: np.ndarray, geometry: Geometry, constant: bool = True
) -> np.ndarray:
    """Channels-last convolution in the image's type, adding over window and channels in order, from the bias on.

    Of f32 by `constant` weights the output channels behind whole vectors are added across, if the channels, or the
    columns of the window over a single channel, come in fours.
    """
    window, channels = weights.shape[1:-1], image.shape[-1]
    outputs = geometry.output(image.shape[1:-1], window)
    padded = np.pad(image, ((0, 0), *geometry.pad, (0, 0)))
    sums = Sums(np.broadcast_to(bias, (image.shape[0], *outputs, weights.shape[0])).astype(image.dtype))
    for tap in np.ndindex(*window):
        seen = padded[:, *_slices(tap, outputs, geometry)]
        for channel in range(channels):
            products = seen[..., channel, None] * weights[:, *tap, channel]
            sums.add(products, channel if channels > 1 else tap[-1])
    innermost = channels if channels > 1 else window[-1] * (geometry.dilation[-1] == 1)
    in_fours = innermost % 4 == 0 < innermost and channels * np.prod(window) >= 24
    return sums.result(constant and image.dtype == np.float32 and bool(in_fours))


def _slices(tap: Sequence[int], outputs: Sequence[int], geometry: Geometry) -> list[slice]:
    starts = [index * dilation for index, dilation in zip(tap, geometry.dilation)]
    return [
        slice(start, start + (size - 1) * stride + 1, stride)
        for start, size, stride in zip(starts, outputs, geometry.stride)
    ]


def ordered_depthwise(
    image: np.ndarray, weights: np.ndarray, bias: np.ndarray, geometry: Geometry
) -> np.ndarray:
    """Depthwise convolution (NHWC, HWCM) in the image's type, adding over the window in order, from the bias on."""
    height, width, channels, multiplier = weights.shape
    outputs = geometry.output(image.shape[1:-1], (height, width))
    padded = np.pad(image, ((0, 0), *geometry.pad, (0, 0)))
    shape = (image.shape[0], *outputs, channels * multiplier)
    found = np.broadcast_to(bias, shape).astype(image.dtype)
    for tap in np.ndindex(height, width):
        seen = padded[:, *_slices(tap, outputs, geometry)]
        found = found + (seen[..., None] * weights[tap]).reshape(shape)
    return found


@st.composite
def convolutions(draw: st.DrawFn, axes: int) -> tuple[Geometry, tuple[int, ...], tuple[int, ...]]:
    """A geometry with image sizes and a window that fit together."""
    window = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    pad = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(axes))
    outputs = tuple(draw(st.integers(1, 9)) for _ in range(axes))
    image = tuple(
        max(1, (o - 1) * s + (k - 1) * d + 1 - sum(p))
        for o, s, k, d, p in zip(outputs, stride, window, dilation, pad)
    )
    return Geometry(pad, stride, dilation), image, window
