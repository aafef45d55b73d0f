"""`fold-batch-norms`: scales and offsets of channels disappear in the weights before them.

Input: TOSA. Output: the same function, where a run of `tosa.mul`, `tosa.add` and `tosa.sub` with constants became
one `mul` and one `add`, or, behind a convolution or a matrix product with constant weights, part of these weights
(a batch normalization is such a run). Floats only.

    %1 = tosa.conv2d %x, %w, %b ...       %1 = tosa.conv2d %x, %w', %b' ...
    %2 = tosa.mul %1, %scale         ->
    %3 = tosa.add %2, %offset
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

_FLOATS = ("f32", "f16")
_LARGEST_OFFSET = 2.0**16
"""Adding a number much larger than the data, and taking it away again, is how models round: such runs stay."""

_SCALE_SHAPE = {
    "tosa.conv2d": (-1, 1, 1, 1),
    "tosa.conv3d": (-1, 1, 1, 1, 1),
    "tosa.transpose_conv2d": (-1, 1, 1, 1),
    "tosa.matmul": (1, 1, -1),
}
"""Where the output channels stand in the weights; a depthwise convolution has two axes for them."""


@dataclass(frozen=True)
class FoldBatchNormsPass:
    """Fold runs of constant scales and offsets into each other and into the weights before them."""

    name: ClassVar[str] = "fold-batch-norms"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            for function in program.module.body.operations:
                for region in function.operation.regions:
                    for block in region.blocks:
                        _fold_block(block, program.weights)


@dataclass
class _Run:
    """value = base * scale + offset; `ops` compute it, the last one gives the value."""

    base: ir.Value
    scale: np.ndarray
    offset: np.ndarray
    ops: list[ir.Operation]


def _fold_block(block: ir.Block, weights: WeightTable) -> None:
    runs: dict[ir.Value, _Run] = {}
    for view in block.operations:
        step = _affine_step(view.operation, weights)
        if step is None:
            continue
        operand, scale, offset = step
        before = runs.get(operand)
        if before is not None and _uses(operand) == 1 and _stays_small(before, scale, offset):
            del runs[operand]
        else:
            before = _start(operand)
        runs[view.operation.results[0]] = _Run(
            before.base, before.scale * scale, before.offset * scale + offset, [*before.ops, view.operation]
        )
    for run in reversed(runs.values()):  # a base that an earlier run computes is still there
        _replace(run, weights)


def _stays_small(run: _Run, scale: np.ndarray, offset: np.ndarray) -> bool:
    """Whether the folded constants are no larger than the largest of those that go into them."""
    largest = max(run.scale.size, run.offset.size, scale.size, offset.size)
    return np.broadcast(run.offset, run.scale, scale, offset).size <= largest


def _start(base: ir.Value) -> _Run:
    return _Run(base, np.ones(1, np.float64), np.zeros(1, np.float64), [])


def _uses(value: ir.Value) -> int:
    return sum(1 for _ in value.uses)


def _shape(value: ir.Value) -> list[int]:
    return ir.RankedTensorType(value.type).shape


def _element(value: ir.Value) -> ir.Type:
    return ir.RankedTensorType(value.type).element_type


def _affine_step(op: ir.Operation, weights: WeightTable) -> tuple[ir.Value, np.ndarray, np.ndarray] | None:
    """Operand, scale and offset of an op that is operand * scale + offset with constants, else None."""
    if op.name not in ("tosa.mul", "tosa.add", "tosa.sub") or str(_element(op.results[0])) not in _FLOATS:
        return None
    left, right = list(op.operands)[:2]
    constant, operand = _constant(right, weights), left
    if constant is None:
        constant, operand = _constant(left, weights), right
    if constant is None or _shape(operand) != _shape(op.results[0]):
        return None
    values = np.asarray(constant, np.float64)
    if op.name == "tosa.mul":
        return operand, values, np.zeros(1, np.float64)
    if np.abs(values).max(initial=0) > _LARGEST_OFFSET:
        return None
    if op.name == "tosa.add":
        return operand, np.ones(1, np.float64), values
    return (operand, np.ones(1), -values) if operand == left else (operand, -np.ones(1), values)


def _constant(value: ir.Value, weights: WeightTable) -> np.ndarray | None:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "tosa.const":
        return None
    return weights.array(owner.attributes["values"])


def _replace(run: _Run, weights: WeightTable) -> None:
    """Put the run into the weights of what computes its base, or make it as short as it can be.

    A factor or summand that the element type cannot hold, as the product of two that it can, stays in parts.
    """
    if not (_is_held(run.scale, run.base) and _is_finite(run.offset, run.base)):
        return
    last = run.ops[-1]
    with ir.InsertionPoint(last), last.location:
        value = _into_weights(run, weights) or _shortened(run, weights)
    if value is None:
        return
    last.results[0].replace_all_uses_with(value)
    for op in reversed(run.ops):
        op.erase()


def _into_weights(run: _Run, weights: WeightTable) -> ir.Value | None:
    axis = _channel_axis(run)
    maker = None if axis is None else _maker_of_channels(run.base, axis)
    old_weights = _constant(maker.operands[1], weights) if maker and len(maker.operands) > 2 else None
    if maker is None or old_weights is None or _element(maker.operands[1]) != _element(run.base):
        return None
    channels = _shape(maker.results[0])[-1]
    scale, offset = (np.broadcast_to(part.reshape(-1), (channels,)) for part in (run.scale, run.offset))
    if maker.name == "tosa.matmul":
        return _scaled_product(run, maker, old_weights, scale, weights)
    old_bias = _constant(maker.operands[2], weights)
    if old_bias is None or not (maker.name in _SCALE_SHAPE or maker.name == "tosa.depthwise_conv2d"):
        return None
    bias = np.asarray(old_bias, np.float64) * scale + offset
    scaled = _scaled(maker.name, old_weights, scale)
    if not (_is_finite(scaled, run.base) and _is_finite(bias, run.base)):
        return None
    with ir.InsertionPoint(maker):
        maker.operands[1] = _emit_constant(scaled, maker.operands[1], weights)
        maker.operands[2] = _emit_constant(bias, maker.operands[2], weights)
    return run.base


def _channel_axis(run: _Run) -> int | None:
    """The only axis, counted from the end, along which scale and offset vary (-1 if none), None if two do."""
    axes = {
        axis - part.ndim for part in (run.scale, run.offset) for axis, n in enumerate(part.shape) if n != 1
    }
    return next(iter(axes), -1) if len(axes) < 2 else None


def _maker_of_channels(value: ir.Value, axis: int) -> ir.Operation | None:
    """The op whose last dimension is the axis of `value`, which nobody else reads.

    Transposes and reshapes that leave the channels last lie between them.
    """
    while _uses(value) == 1 and not isinstance(value.owner, ir.Block):
        maker = value.owner
        shape, rank = _shape(value), len(_shape(value))
        if maker.name == "tosa.transpose":
            axis = ir.DenseI32ArrayAttr(maker.attributes["perms"])[axis % rank] - rank
        elif maker.name != "tosa.reshape":
            return maker if axis == -1 else None
        elif axis != -1 or _shape(maker.operands[0])[-1:] != shape[-1:]:
            return None
        value = maker.operands[0]
    return None


def _scaled_product(
    run: _Run, maker: ir.Operation, old_weights: np.ndarray, scale: np.ndarray, weights: WeightTable
) -> ir.Value | None:
    """A matrix product has no bias: its offset stays an `add`."""
    scaled = _scaled(maker.name, old_weights, scale)
    if (scale == 1).all() or not _is_finite(scaled, run.base):
        return None
    with ir.InsertionPoint(maker):
        maker.operands[1] = _emit_constant(scaled, maker.operands[1], weights)
    plain = _Run(run.base, np.ones(1), run.offset, run.ops)
    return _emit_run(plain, weights)


def _scaled(name: str, old: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if name == "tosa.depthwise_conv2d":  # [KH, KW, C, M]
        return old * scale.reshape(1, 1, *old.shape[2:])
    return old * scale.reshape(_SCALE_SHAPE[name])


def _shortened(run: _Run, weights: WeightTable) -> ir.Value | None:
    """At most one `mul` and one `add`, None if the run is as short as that."""
    needed = int((run.scale != 1).any()) + int((run.offset != 0).any())
    return _emit_run(run, weights) if needed < len(run.ops) else None


def _emit_run(run: _Run, weights: WeightTable) -> ir.Value:
    value = run.base
    if (run.scale != 1).any():
        shift = ir.DenseElementsAttr.get(np.zeros(1, np.int8))
        zero = ir.Operation.create("tosa.const", [shift.type], [], {"values": shift}).results[0]
        value = _emit("tosa.mul", [value, _broadcast_constant(run.scale, value, weights), zero])
    if (run.offset != 0).any():
        value = _emit("tosa.add", [value, _broadcast_constant(run.offset, value, weights)])
    return value


def _emit(name: str, operands: list[ir.Value]) -> ir.Value:
    return ir.Operation.create(name, [operands[0].type], operands).results[0]


def _broadcast_constant(values: np.ndarray, like: ir.Value, weights: WeightTable) -> ir.Value:
    """A constant of the rank of `like`, its dimensions of size 1 broadcast."""
    rank = len(_shape(like))
    shape = (1,) * (rank - values.ndim) + values.shape if rank else ()
    return _emit_constant(values.reshape(shape), like, weights)


def _emit_constant(values: np.ndarray, like: ir.Value, weights: WeightTable) -> ir.Value:
    """A `tosa.const` of the element type of `like`."""
    attribute = weights.attribute(values.astype(_dtype(like)), "folded", _element(like))
    return ir.Operation.create("tosa.const", [attribute.type], [], {"values": attribute}).results[0]


def _dtype(like: ir.Value) -> type[np.floating]:
    return np.float16 if str(_element(like)) == "f16" else np.float32


def _is_finite(values: np.ndarray, like: ir.Value) -> bool:
    """Whether no number is beyond the element type's greatest."""
    return bool((np.abs(values) <= np.finfo(_dtype(like)).max).all())


def _is_held(values: np.ndarray, like: ir.Value) -> bool:
    """Whether no number is beyond the element type's greatest or, unless it is 0, below its least normal one."""
    size = np.abs(values)
    return _is_finite(values, like) and bool(((size == 0) | (size >= np.finfo(_dtype(like)).tiny)).all())
