"""Which part of its operands an op needs for a part of its result: the rules by which operators are tiled.

A window is a (start, size) for each dimension of a tensor. A rule gives the window of each operand (None: all of it, as
it is) and the attributes that change, or None where this part of the result cannot be computed alone. Every element of
the result is computed by the same arithmetic in the same order, so its bits stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch_mlir import ir

Window = tuple[tuple[int, int], ...]
Demand = tuple[list[Window | None], dict[str, ir.Attribute]]
Rule = Callable[[ir.Operation, Window], Demand | None]


def shape_of(value: ir.Value) -> list[int]:
    """The shape of a ranked tensor."""
    return list(ir.RankedTensorType(value.type).shape)


def whole(value: ir.Value) -> Window:
    """The window that is the whole tensor."""
    return tuple((0, size) for size in shape_of(value))


def demand(op: ir.Operation, window: Window) -> Demand | None:
    """What `op` needs to compute a window of its result; None if it cannot, or if its kind is never tiled."""
    rule = _RULES.get(op.name.removeprefix("tosa."))
    return rule(op, window) if rule and len(op.results) == 1 else None


def _others(op: ir.Operation, *windows: Window | None) -> list[Window | None]:
    """Windows of the first operands; all others are taken as they are."""
    return [*windows, *[None] * (len(op.operands) - len(windows))]


def _elementwise(tensors: int) -> Rule:
    """The first operands are tensors of the result's rank, dimensions of 1 broadcast."""

    def rule(op: ir.Operation, window: Window) -> Demand | None:
        found = []
        for value in list(op.operands)[:tensors]:
            found.append(tuple((0, 1) if n == 1 else part for n, part in zip(shape_of(value), window)))
        return _others(op, *found), {}

    return rule


def _rescale(op: ir.Operation, window: Window) -> Demand | None:
    """Multipliers and shifts may stand for the channels, the last dimension."""
    channels = [(window[-1],) if shape_of(value)[0] > 1 else None for value in list(op.operands)[1:3]]
    return _others(op, window, *channels), {}


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
        biases = (window[-1],) if shape_of(bias)[0] > 1 else None
        return _others(op, (window[0], *spatial[0], source_channels), weights, biases), {"pad": spatial[1]}

    return rule


def _channels(
    op: ir.Operation, weight: ir.Value, axis: int, part: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Channels of the input and of the weights for a part of the output channels."""
    source = shape_of(op.operands[0])[-1]
    if axis == 0:
        return (0, source), part
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
    return _others(op, (window[0], *spatial[0], window[-1])), {"pad": spatial[1]}


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
    """By images and output channels; neighbouring rows share what they are made of."""
    source, weight, bias = list(op.operands)[:3]
    if window[1:-1] != whole(op.results[0])[1:-1]:
        return None
    weights = (window[-1], *whole(weight)[1:])
    biases = (window[-1],) if shape_of(bias)[0] > 1 else None
    return _others(op, (window[0], *whole(source)[1:]), weights, biases), {}


def _matmul(op: ir.Operation, window: Window) -> Demand | None:
    batch, rows, columns = window
    inner = (0, shape_of(op.operands[0])[2])
    return _others(op, (batch, rows, inner), (batch, inner, columns)), {}


def _reduction(op: ir.Operation, window: Window) -> Demand | None:
    axis, source = _axis(op), whole(op.operands[0])
    return _others(op, tuple(source[i] if i == axis else part for i, part in enumerate(window))), {}


def _argmax(op: ir.Operation, window: Window) -> Demand | None:
    axis, source = _axis(op), whole(op.operands[0])
    return _others(op, (*window[:axis], source[axis], *window[axis:])), {}


def _gather(op: ir.Operation, window: Window) -> Demand | None:
    values = whole(op.operands[0])
    return [(window[0], values[1], window[2]), window[:2]], {}


def _transpose(op: ir.Operation, window: Window) -> Demand | None:
    perms = list(ir.DenseI32ArrayAttr(op.attributes["perms"]))
    return [tuple(window[perms.index(axis)] for axis in range(len(perms)))], {}


def _resize(op: ir.Operation, window: Window) -> Demand | None:
    """By images and channels."""
    if window[1:3] != whole(op.results[0])[1:3]:
        return None
    return _others(op, (window[0], *whole(op.operands[0])[1:3], window[3])), {}


def _axis(op: ir.Operation) -> int:
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
_RULES: Mapping[str, Rule] = {
    **{name: _elementwise(count) for count, names in _TENSORS.items() for name in names.split()},
    **dict.fromkeys(
        "reduce_all reduce_any reduce_max reduce_min reduce_product reduce_sum".split(), _reduction
    ),
    "argmax": _argmax,
    "avg_pool2d": _pooling,
    "conv2d": _convolution(0),
    "conv3d": _convolution(0),
    "depthwise_conv2d": _convolution(2),
    "gather": _gather,
    "matmul": _matmul,
    "max_pool2d": _pooling,
    "rescale": _rescale,
    "resize": _resize,
    "transpose": _transpose,
    "transpose_conv2d": _transpose_convolution,
}
