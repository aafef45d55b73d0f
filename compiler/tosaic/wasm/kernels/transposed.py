"""transpose_conv2d: NHWC activations, OHWI weights.

With strides (s, t) the output falls into s * t phases: pixels whose taps meet the same rows and columns of the window.
Each phase is a convolution of the input with stride 1 and every s-th row and t-th column of the window, and fills
every s-th row and t-th column of the output. Sums start at the bias and run over the input in ascending order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.prices import PriceList
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest, Operand, View
from tosaic.wasm.kernels.across import goes_across
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.epilogue import Target
from tosaic.wasm.kernels.numbers import numbers_of
from tosaic.wasm.kernels.product import Product, bias_of, left_view
from tosaic.wasm.kernels.staging import Border

INPUT, WEIGHTS, BIAS = range(3)
ZERO_POINTS = ("input_zp", "weight_zp")


@dataclass(frozen=True)
class Phase:
    """Outputs `first`, `first + stride`, ... (`outputs` of them) along one axis.

    The n-th of them adds input index `input + n + t` times row `window - t * stride` of the window, t = 0 ... taps - 1.
    """

    first: int
    outputs: int
    input: int
    taps: int
    window: int


def phases(outputs: int, window: int, stride: int, before: int) -> list[Phase]:
    """The phases of one axis; `before` is TOSA's out_pad, which shifts the output."""
    found = []
    for first in range(min(stride, outputs)):
        index, row = divmod(first - before, stride)
        taps = max(0, -(-(window - row) // stride))
        count = -(-(outputs - first) // stride)
        found.append(Phase(first, count, index - taps + 1, taps, row + (taps - 1) * stride))
    return found


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """Attributes `out_pad` (top, bottom, left, right) and `stride`."""
    assembly = Assembly(request, prices, options)
    weights, output = request.inputs[WEIGHTS].view, assembly.output
    stride, out_pad = request.attributes["stride"], request.attributes["out_pad"]
    axes = [
        phases(output.shape[1 + axis], weights.shape[1 + axis], stride[axis], out_pad[2 * axis])
        for axis in range(2)
    ]
    numbers = numbers_of(request, ZERO_POINTS)
    borders = [_border(assembly.view(INPUT), axis, axes) for axis in range(4)]
    channels = weights.shape[3]
    across = {
        phase: goes_across(
            numbers,
            request.inputs[WEIGHTS],
            output.shape[3],
            math.prod(p.taps for p in phase) * channels,
            channels if channels > 1 else 0,
        )
        for phase in itertools.product(*axes)
    }
    touched = [range(border.size) for border in borders]
    place, left = left_view(assembly, numbers.left, borders, touched, any(across.values()))
    bias, whole = bias_of(assembly, BIAS, numbers), Target.whole(assembly)
    for phase, goes in across.items():
        first = [p.input + border.before for p, border in zip(phase, borders[1:3])]
        start = sum(index * step for index, step in zip(first, left.strides[1:3]))
        taps = [(p.taps, step) for p, step in zip(phase, left.strides[1:3])]
        right, offset = _part(request.inputs[WEIGHTS], phase, stride)
        target = whole.every(
            [
                (0, 1, output.shape[0]),
                *((p.first, step, p.outputs) for p, step in zip(phase, stride)),
                (0, 1, output.shape[3]),
            ]
        )
        Product(
            assembly,
            numbers,
            right,
            left=Place(place.param, place.offset + start),
            left_moves=left.strides[:3],
            left_taps=(*taps, (left.shape[3], left.strides[3])),
            right_taps=(1, 2, 3),
            right_columns=0,
            bias=bias,
            right_offset=offset,
            goes_across=goes,
        ).contract(target)
    return assembly.kernel()


def _border(view: View, axis: int, phases_of: Sequence[Sequence[Phase]]) -> Border:
    """The input along one axis with the zeros that some phase reaches."""
    size, stride = view.shape[axis], view.strides[axis]
    if axis not in (1, 2):
        return Border(size, stride)
    reaching = [phase for phase in phases_of[axis - 1] if phase.taps]
    before = max((-phase.input for phase in reaching), default=0)
    after = max((phase.input + phase.outputs - 1 + phase.taps - size for phase in reaching), default=0)
    return Border(size, stride, max(0, before), max(0, after))


def _part(weights: Operand, phase: Sequence[Phase], stride: Sequence[int]) -> tuple[Operand, int]:
    """The rows and columns of the window that a phase meets, in the order of the input; and their first byte."""
    view, array = weights.view, weights.array
    offset = sum(p.window * step for p, step in zip(phase, view.strides[1:3]) if p.taps)
    strides = [-every * step for every, step in zip(stride, view.strides[1:3])]
    shape = (view.shape[0], *(p.taps for p in phase), view.shape[3])
    part = View(view.element, shape, (view.strides[0], *strides, view.strides[3]))
    if array is not None:
        rows, columns = ([p.window - t * every for t in range(p.taps)] for p, every in zip(phase, stride))
        array = array[:, rows][:, :, columns]
    return Operand(part, array), offset
