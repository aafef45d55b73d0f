"""Which part of its operands an op needs for a part of its result: the rules by which operators are tiled.

A rule gives what becomes of each operand (`Part`) and the attributes that change, or None where this part of the result
cannot be computed alone. Every element of the result is computed by the same arithmetic in the same order, so its bits
stay what they were. Rules of ops that only move data are in `tile_movement`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from torch_mlir import ir

Window = tuple[tuple[int, int], ...]
"""A (start, size) for each dimension of a tensor."""


@dataclass(frozen=True)
class Sizes:
    """A constant operand of sizes or positions (`tosa.const_shape`) that takes the place of the one before."""

    values: tuple[int, ...]


class Untiled(Enum):
    """What becomes of operands of which no window is taken."""

    WHOLE = "as it is"
    ABSENT = "not read by this part"


Part = Window | Sizes | Untiled
Demand = tuple[list[Part], dict[str, ir.Attribute]]
Rule = Callable[[ir.Operation, Window], Demand | None]


def shape_of(value: ir.Value) -> list[int]:
    """The shape of a ranked tensor."""
    return list(ir.RankedTensorType(value.type).shape)


VECTOR = 4
"""Columns of a product that are computed at once. Those behind the last full vector may be added in another order, so
a part of the columns begins at a vector, and ends at one or with all columns."""


def _in_vectors(part: tuple[int, int], extent: int) -> bool:
    start, size = part
    return start % VECTOR == 0 and (size % VECTOR == 0 or start + size == extent)


def whole(value: ir.Value) -> Window:
    """The window that is the whole tensor."""
    return tuple((0, size) for size in shape_of(value))


def others(op: ir.Operation, *parts: Part) -> list[Part]:
    """Parts of the first operands; all others are taken as they are."""
    return [*parts, *[Untiled.WHOLE] * (len(op.operands) - len(parts))]


def sizes_of(value: ir.Value) -> list[int] | None:
    """The numbers of a constant operand of sizes or positions; None if it is computed."""
    if isinstance(value.owner, ir.Block) or value.owner.name != "tosa.const_shape":
        return None
    unsigned = ir.DenseIntElementsAttr(value.owner.attributes["values"])  # what the bindings make of an index
    return [(int(size) + (1 << 63)) % (1 << 64) - (1 << 63) for size in unsigned]


def _elementwise(tensors: int) -> Rule:
    """The first operands are tensors of the result's rank, dimensions of 1 broadcast."""

    def rule(op: ir.Operation, window: Window) -> Demand | None:
        found = []
        for value in list(op.operands)[:tensors]:
            found.append(tuple((0, 1) if n == 1 else part for n, part in zip(shape_of(value), window)))
        return others(op, *found), {}

    return rule


def _rescale(op: ir.Operation, window: Window) -> Demand | None:
    """Multipliers and shifts may stand for the channels, the last dimension."""
    channels = [
        (window[-1],) if shape_of(value)[0] > 1 else Untiled.WHOLE for value in list(op.operands)[1:3]
    ]
    return others(op, window, *channels), {}


def _convolution(output_channels: int) -> Rule:
    """[N, spatial..., C] with weights whose dimension `output_channels` and bias stand for the result's channels."""

    def rule(op: ir.Operation, window: Window) -> Demand | None:
        source, weight, bias = list(op.operands)[:3]
        kernel = shape_of(weight)[1:-1] if output_channels == 0 else shape_of(weight)[:2]
        spatial = _spatial(op, shape_of(source), kernel, window)
        channels = _channels(op, weight, output_channels, window[-1])
        if spatial is None or channels is None:
            return None
        source_channels, weight_channels = channels
        weights = tuple(
            weight_channels if axis == output_channels else part for axis, part in enumerate(whole(weight))
        )
        biases = (window[-1],) if shape_of(bias)[0] > 1 else Untiled.WHOLE
        return others(op, (window[0], *spatial[0], source_channels), weights, biases), {"pad": spatial[1]}

    return rule


def _channels(
    op: ir.Operation, weight: ir.Value, axis: int, part: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Channels of the input and of the weights for a part of the output channels."""
    source = shape_of(op.operands[0])[-1]
    if axis == 0:
        return ((0, source), part) if _in_vectors(part, shape_of(weight)[0]) else None
    multiplier = shape_of(weight)[3]  # depthwise: [KH, KW, C, M], output channel c * M + m
    if part[0] % multiplier or part[1] % multiplier:
        return None
    found = (part[0] // multiplier, part[1] // multiplier)
    return found, found


def _pooling(op: ir.Operation, window: Window) -> Demand | None:
    source = op.operands[0]
    spatial = _spatial(op, shape_of(source), _numbers(op, "kernel"), window)
    if spatial is None:
        return None
    return others(op, (window[0], *spatial[0], window[-1])), {"pad": spatial[1]}


def _spatial(
    op: ir.Operation, source: Sequence[int], kernel: Sequence[int], window: Window
) -> tuple[Window, ir.Attribute] | None:
    """The rows and columns under the kernel's positions, and what is left of the padding."""
    stride, pad = _numbers(op, "stride"), _numbers(op, "pad")
    dilation = _numbers(op, "dilation") or [1] * len(kernel)
    parts, pads = [], []
    for axis, (start, size) in enumerate(window[1:-1]):
        first = start * stride[axis] - pad[2 * axis]
        end = first + (size - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
        low, high = max(first, 0), min(end, source[1 + axis])
        if low >= high:
            return None
        parts.append((low, high - low))
        pads += [low - first, end - high]
    return tuple(parts), ir.DenseI64ArrayAttr.get(pads)


def _transpose_convolution(op: ir.Operation, window: Window) -> Demand | None:
    """The rows and columns whose products reach the window, and what is left of the padding, or is cut off by it."""
    source, weight, bias = list(op.operands)[:3]
    if not _in_vectors(window[-1], shape_of(weight)[0]):
        return None
    stride, pad = _numbers(op, "stride"), _numbers(op, "out_pad")
    parts, pads = [], []
    for axis, (start, size) in enumerate(window[1:-1]):
        step, reach = stride[axis], shape_of(weight)[1 + axis]
        begin = start - pad[2 * axis]
        low = max(0, -(-(begin - reach + 1) // step))
        high = min(shape_of(source)[1 + axis] - 1, (begin + size - 1) // step)
        if low > high:
            return None
        before = low * step - begin
        parts.append((low, high - low + 1))
        pads += [before, size - (high - low) * step - before - reach]
    weights = (window[-1], *whole(weight)[1:])
    biases = (window[-1],) if shape_of(bias)[0] > 1 else Untiled.WHOLE
    inputs = (window[0], *parts, whole(source)[-1])
    return others(op, inputs, weights, biases), {"out_pad": ir.DenseI64ArrayAttr.get(pads)}


def _matmul(op: ir.Operation, window: Window) -> Demand | None:
    batch, rows, columns = window
    inner, extent = (0, shape_of(op.operands[0])[2]), shape_of(op.operands[1])[2]
    if not _in_vectors(columns, extent):
        return None
    return others(op, (batch, rows, inner), (batch, inner, columns)), {}


def _matmul_t(op: ir.Operation, window: Window) -> Demand | None:
    batch, rows, columns = window
    inner = (0, shape_of(op.operands[0])[2])
    shared, extent = shape_of(op.operands[1])[0] == 1, shape_of(op.operands[1])[1]
    if not _in_vectors(columns, extent):
        return None
    return others(op, (batch, rows, inner), ((0, 1) if shared else batch, columns, inner)), {}


def _reduction(op: ir.Operation, window: Window) -> Demand | None:
    axis, source = axis_of(op), whole(op.operands[0])
    return others(op, tuple(source[i] if i == axis else part for i, part in enumerate(window))), {}


def _argmax(op: ir.Operation, window: Window) -> Demand | None:
    axis, source = axis_of(op), whole(op.operands[0])
    return others(op, (*window[:axis], source[axis], *window[axis:])), {}


def _resize(op: ir.Operation, window: Window) -> Demand | None:
    """The rows and columns between which a part interpolates.

    Position y of the result lies at (y * denominator + offset) / numerator of the input, which is read at the whole
    number below it and at the next one, both inside of the input.
    """
    scale, offset, border = (sizes_of(value) for value in list(op.operands)[1:4])
    if scale is None or offset is None or border is None:
        return None
    parts, offsets, borders = [], [], []
    for axis, (start, size) in enumerate(window[1:3]):
        numerator, denominator = scale[2 * axis : 2 * axis + 2]
        first = start * denominator + offset[axis]
        last = first + (size - 1) * denominator
        low = max(0, first // numerator)
        high = min(shape_of(op.operands[0])[1 + axis] - 1, last // numerator + 1)
        parts.append((low, high - low + 1))
        offsets.append(first - low * numerator)
        borders.append(last - high * numerator)
    source = (window[0], *parts, window[3])
    return others(op, source, Sizes(tuple(scale)), Sizes(tuple(offsets)), Sizes(tuple(borders))), {}


def axis_of(op: ir.Operation) -> int:
    return ir.IntegerAttr(op.attributes["axis"]).value


def _numbers(op: ir.Operation, name: str) -> list[int]:
    return list(ir.DenseI64ArrayAttr(op.attributes[name])) if name in op.attributes else []


_TENSORS = {
    1: "abs bitwise_not cast ceil clamp clz cos erf exp floor identity log logical_not negate reciprocal rsqrt sigmoid "
    "sin table tanh",
    2: "add arithmetic_right_shift bitwise_and bitwise_or bitwise_xor equal greater greater_equal intdiv "
    "logical_and logical_left_shift logical_or logical_right_shift logical_xor maximum minimum mul pow sub",
    3: "select",
}
WINDOW_RULES: Mapping[str, Rule] = {
    **{name: _elementwise(count) for count, names in _TENSORS.items() for name in names.split()},
    **dict.fromkeys(
        "reduce_all reduce_any reduce_max reduce_min reduce_product reduce_sum".split(), _reduction
    ),
    "argmax": _argmax,
    "avg_pool2d": _pooling,
    "conv2d": _convolution(0),
    "conv3d": _convolution(0),
    "depthwise_conv2d": _convolution(2),
    "matmul": _matmul,
    "matmul_t": _matmul_t,
    "max_pool2d": _pooling,
    "rescale": _rescale,
    "resize": _resize,
    "transpose_conv2d": _transpose_convolution,
}
