"""depthwise_conv2d: NHWC activations, HWCM weights; each channel on its own, output channels in the lanes of a vector.

Two ways to emit it: `depthwise_vectors.py`, and `depthwise_pairs.py` for i8, where two taps are one product.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NoReturn

import numpy as np

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest
from tosaic.wasm.kernels import depthwise_pairs, depthwise_vectors
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.depthwise_walk import HORIZONTAL, VERTICAL, Depthwise, Window
from tosaic.wasm.kernels.epilogue import Epilogue, Target
from tosaic.wasm.kernels.numbers import Numbers, numbers_of
from tosaic.wasm.kernels.packing import Packing, RightOperand, pack
from tosaic.wasm.kernels.product import Bias, bias_of, left_view
from tosaic.wasm.kernels.staging import Border, Conversion, touched_runs
from tosaic.wasm.kernels.streams import Axis

INPUT, WEIGHTS, BIAS_INPUT = range(3)
ZERO_POINTS = ("input_zp", "weight_zp")


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """depthwise_conv2d; attributes `pad` (top, bottom, left, right), `stride`, `dilation`."""
    return _paired(request, prices, options) or _by_vectors(request, prices, options) or _refuse(request)


def _refuse(request: KernelRequest) -> NoReturn:
    height, width = request.inputs[WEIGHTS].view.shape[:2]
    raise TosaicError(f"a depthwise window of {height} x {width} does not fit into a WebAssembly function")


def _paired(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel | None:
    """By pairs of rows, for constant i8 weights, one output channel an input channel, and adjacent channels."""
    weights = request.inputs[WEIGHTS]
    adjacent = request.inputs[INPUT].view.strides[3] == 1 and min(request.inputs[INPUT].view.strides) >= 0
    numbers = numbers_of(request, ZERO_POINTS)
    if numbers.arithmetic.width != 2 or weights.array is None or weights.view.shape[3] != 1 or not adjacent:
        return None
    assembly = Assembly(request, prices, options)
    constant_bias = request.inputs[BIAS_INPUT].array
    target = Target.whole(assembly)
    bias = bias_of(assembly, BIAS_INPUT, numbers) if constant_bias is None else Bias(Place(BIAS_INPUT), 4)
    in_place = replace(numbers, left=Conversion("i8", "i8"))
    place, depthwise = _described(assembly, in_place, target, bias, padded=False)
    zero_point = numbers.left.zero_point
    depthwise = replace(depthwise, zero_point=zero_point, is_corrected=constant_bias is not None)
    tile = depthwise_pairs.choose(depthwise, prices, options)
    if depthwise.taps == 0 or tile is None:
        return None
    used = numbers.converted(_used_weights(request))[:, :, :, 0]
    rows = depthwise_pairs.weight_taps(depthwise.windows[VERTICAL], tile.height)
    packed = assembly.pack(WEIGHTS, depthwise_pairs.pack(used, rows))
    if constant_bias is None:
        biases = bias.place or packed
    else:
        biases = assembly.pack(
            BIAS_INPUT, depthwise_pairs.corrected_biases(depthwise, tile, constant_bias, used)
        )
    streams = [place, packed, biases, target.place, *target.fused_places]
    assembly.call(depthwise_pairs.emit(depthwise, prices, options), streams)
    return assembly.kernel()


def _by_vectors(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel | None:
    """Tap by tap: on the input as it lies, or on a copy with zero borders."""
    numbers = numbers_of(request, ZERO_POINTS, pairs=False)
    for padded in (False, True):
        assembly = Assembly(request, prices, options)
        target, bias = Target.whole(assembly), bias_of(assembly, BIAS_INPUT, numbers)
        place, depthwise = _described(assembly, numbers, target, bias, padded)
        if depthwise_vectors.choose(depthwise, prices, options) is None:
            continue
        weights = _weights(assembly, numbers)
        streams = [place, weights or place, bias.place or place, target.place, *target.fused_places]
        assembly.call(depthwise_vectors.emit(depthwise, prices, options), streams)
        return assembly.kernel()
    return None


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


def _used_weights(request: KernelRequest) -> np.ndarray:
    """The constant weights of the taps that ever meet the input."""
    weights = request.inputs[WEIGHTS].array
    assert weights is not None
    (rows, top), (columns, left) = (_window(request, axis).trimmed() for axis in (VERTICAL, HORIZONTAL))
    return weights[top : top + rows.taps, left : left + columns.taps]


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
        matrix = numbers.converted(_used_weights(assembly.request).reshape(1, -1, channels * multiplier))
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
