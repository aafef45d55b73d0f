"""conv2d, conv3d: NHWC (NDHWC) activations, OHWI (ODHWI) weights.

An output pixel is a row of the contraction, an output channel a column; taps run over the window and then over the
input channels, both ascending, starting at the bias (channels that fill no vector: `across.py`). Zero padding is a
copy into scratch memory (about one instruction per element, against hundreds of products per element).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tosaic.prices import PriceList
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest, Operand, View
from tosaic.wasm.kernels.across import goes_across
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.epilogue import Target
from tosaic.wasm.kernels.numbers import Numbers, numbers_of
from tosaic.wasm.kernels.product import Product, bias_of, left_view
from tosaic.wasm.kernels.staging import Border

INPUT, WEIGHTS, BIAS = range(3)
ZERO_POINTS = ("input_zp", "weight_zp")


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """conv2d and conv3d; attributes `pad` (before and after each axis), `stride`, `dilation`."""
    request = _without_zero_point(request)
    assembly = Assembly(request, prices, options)
    weights = request.inputs[WEIGHTS].view
    window, stride, dilation = (
        weights.shape[1:-1],
        request.attributes["stride"],
        request.attributes["dilation"],
    )
    numbers = numbers_of(request, ZERO_POINTS)
    channels = weights.shape[-1]
    innermost = channels if channels > 1 else window[-1] * (dilation[-1] == 1)
    taps_in_all = math.prod(window) * channels
    across = goes_across(numbers, request.inputs[WEIGHTS], weights.shape[0], taps_in_all, innermost)
    place, left = _left(assembly, numbers, window, stride, dilation, across)
    moves = [step * left_stride for step, left_stride in zip(stride, left.strides[1:])]
    taps = [(size, step * left_stride) for size, step, left_stride in zip(window, dilation, left.strides[1:])]
    Product(
        assembly,
        numbers,
        request.inputs[WEIGHTS],
        left=place,
        left_moves=(left.strides[0], *moves),
        left_taps=(*taps, (left.shape[-1], left.strides[-1])),
        right_taps=tuple(range(1, len(weights.shape))),
        right_columns=0,
        bias=bias_of(assembly, BIAS, numbers),
        goes_across=across,
    ).contract(Target.whole(assembly))
    return assembly.kernel()


def _without_zero_point(request: KernelRequest) -> KernelRequest:
    """Without padding a constant bias can take in the input's zero point: less its product with all weights."""
    weights, bias = (operand.array for operand in request.inputs[WEIGHTS : BIAS + 1])
    zero_point, weight_zero = (int(request.attributes.get(name, 0)) for name in ZERO_POINTS)
    if not zero_point or weights is None or bias is None or any(request.attributes["pad"]):
        return request
    if request.inputs[INPUT].view.element != "i8" or weights.dtype != np.int8:
        return request
    sums = (weights.astype(np.int64) - weight_zero).sum(axis=tuple(range(1, weights.ndim)))
    moved = (bias.reshape(-1) - zero_point * sums).astype(np.int32)  # i32 sums wrap around
    inputs = list(request.inputs)
    inputs[BIAS] = Operand(View.contiguous("i32", moved.shape), moved)
    return replace(request, inputs=tuple(inputs), attributes={**request.attributes, "input_zp": 0})


def _left(
    assembly: Assembly,
    numbers: Numbers,
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    adjacent: bool,
) -> tuple[Place, View]:
    """The input where it lies, or a copy of it with zero borders or with elements of the type that is multiplied;
    `adjacent` taps are neighbours in memory."""
    view, pad = assembly.view(INPUT), assembly.request.attributes["pad"]
    borders = [Border(view.shape[0], view.strides[0])]
    touched: list[Sequence[int]] = [range(view.shape[0])]
    for axis, outputs in enumerate(assembly.output.shape[1:-1]):
        extent = (outputs - 1) * stride[axis] + (window[axis] - 1) * dilation[axis] + 1
        before = min(pad[2 * axis], extent)
        size = min(view.shape[axis + 1], extent - before)
        borders.append(Border(size, view.strides[axis + 1], before, extent - before - size))
        touched.append(_taps_reached(outputs, stride[axis], window[axis], dilation[axis]))
    borders.append(Border(view.shape[-1], view.strides[-1]))
    touched.append(range(view.shape[-1]))
    return left_view(assembly, numbers.left, borders, touched, adjacent)


def _taps_reached(outputs: int, stride: int, window: int, dilation: int) -> list[int]:
    """The indices along one axis that some output's window holds."""
    return sorted({o * stride + k * dilation for o in range(outputs) for k in range(window)})
