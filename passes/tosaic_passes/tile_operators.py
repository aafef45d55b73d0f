"""`tile-operators`: what one message cannot hold is computed in parts.

Input: `@main` of TOSA ops. Output: the same, where each kernel that exceeds the limit became several that compute parts
of its result, and a concatenation. Only these kernels change; each is cut along the dimension that needs the fewest
parts, and among those reads the fewest bytes again. Every element is computed as before: no bit changes.

    %1 = tosa.exp %0 : (tensor<64x8xf32>) -> tensor<64x8xf32>

becomes, under a limit that holds a half of it,

    %1 = tosa.slice %0 ... -> tensor<32x8xf32>        %3 = tosa.slice %0 ... -> tensor<32x8xf32>
    %2 = tosa.exp %1 ...                              %4 = tosa.exp %3 ...
    %5 = tosa.concat %2, %4 {axis = 0 : i32} : ... -> tensor<64x8xf32>
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from tosaic_passes.cost_model import Charge, CostModel, KernelCost, message_instructions
from tosaic_passes.count_instructions import INSTRUCTIONS, KERNEL
from tosaic_passes.functions import find_function
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program
from tosaic_passes.tile_windows import Window, demand, shape_of, whole
from tosaic_passes.weights import numpy_dtype_size

PAGE_BYTES = 65536
_MOST_ROUNDS = 8
_CHANNEL_GRAIN = 16
"""Parts of the last dimension begin at multiples of this: whole vectors."""
_CONSTANTS = ("tosa.const", "tosa.const_shape")


@dataclass(frozen=True)
class TileOperatorsPass:
    """Cut kernels that exceed `limit-instructions` alone in a message; what cannot be cut stays as it is."""

    name: ClassVar[str] = "tile-operators"
    limit_instructions: int
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        for _ in range(_MOST_ROUNDS):
            if not self._tile(program):
                return

    def _tile(self, program: Program) -> bool:
        """Tile every kernel that is too large, once; whether there was one that could be tiled."""
        kernels = self.cost_model.kernels(program)
        changed = False
        with program.context, ir.Location.unknown():
            for index, kernel in enumerate(kernels):
                overhead = self._overhead(program, index, len(kernels))
                if message_instructions(self.cost_model, kernel.charge + overhead) > self.limit_instructions:
                    changed |= self._tile_kernel(kernel, overhead)
            if changed:
                _forget_kernels(program)
        return changed

    def _overhead(self, program: Program, index: int, count: int) -> Charge:
        """Of the message that holds the kernel, with what comes before it in other messages."""
        last = index == count - 1
        places = [0] if index == 0 else [1, 2]
        charges = [self.cost_model.overhead(program, place, last) for place in places]
        return max(charges, key=lambda charge: message_instructions(self.cost_model, charge))

    def _tile_kernel(self, kernel: KernelCost, overhead: Charge) -> bool:
        expression = _Expression.of(kernel.ops)
        if expression is None:
            return False
        room = self.limit_instructions - message_instructions(self.cost_model, overhead)
        tilings = [
            tiling
            for axis in range(len(shape_of(expression.result)))
            if (tiling := self._tiling(expression, kernel.charge.instructions, axis, room))
        ]
        if not tilings:
            return False
        _rewrite(expression, min(tilings))
        return True

    def _tiling(self, expression: _Expression, instructions: int, axis: int, room: int) -> _Tiling | None:
        """The coarsest tiling along an axis that fits into `room`, None if there is none."""
        extent = shape_of(expression.result)[axis]
        grain = _CHANNEL_GRAIN if axis == len(shape_of(expression.result)) - 1 else 1
        count = 2
        while count <= extent and room > 0:
            size = -(-extent // count)
            size = min(-(-size // grain) * grain if size >= grain else size, extent - 1)
            cost = self._part_cost(expression, instructions, axis, size)
            if cost is None:
                return None
            if cost <= room:
                parts = -(-extent // size)
                return _Tiling(parts, cost * parts, axis, size)
            count = max(count + 1, count * 9 // 8)
        return None

    def _part_cost(self, expression: _Expression, instructions: int, axis: int, size: int) -> int | None:
        """About what a part of so many along the axis takes, its pages included; None if some part is impossible."""
        extent = shape_of(expression.result)[axis]
        windows = list(_windows(expression.result, axis, size))
        reads = [expression.reads(window) for window in (windows[0], windows[-1])]
        if None in reads:
            return None
        read_bytes = sum(_bytes(value, window) for value, window in reads[0] or ())
        written = _bytes(expression.result, windows[0])
        model = self.cost_model
        pages = _pages(read_bytes) * model.page_access + _pages(written) * (
            model.page_access + model.page_write
        )
        return math.ceil(instructions * size / extent * 1.01) + pages


@dataclass(frozen=True, order=True)
class _Tiling:
    """Parts of `size` along `axis`; the smallest is the best: few parts that take little."""

    parts: int
    total: int
    axis: int
    size: int


@dataclass(frozen=True, eq=False)
class _Expression:
    """The ops of a kernel that compute one result; what else they read is given."""

    ops: tuple[ir.Operation, ...]
    result: ir.Value

    @classmethod
    def of(cls, ops: Sequence[ir.Operation]) -> _Expression | None:
        """The expression that the ops are, None if they give more than one result."""
        folded: set[ir.Operation] = set()
        for op in ops:
            if op.operands and all(_is_constant(value, folded) for value in op.operands):
                folded.add(op)
        inner = [op for op in ops if op not in folded]
        read_outside = [
            result
            for op in inner
            for result in op.results
            if any(use.owner.operation not in inner for use in result.uses)
        ]
        one = len(read_outside) == 1 and read_outside[0].owner == inner[-1]
        return cls(tuple(inner), read_outside[0]) if one else None

    def reads(self, window: Window) -> set[tuple[ir.Value, Window]] | None:
        """What is read from outside for a window of the result; None if the window cannot be computed alone."""
        found: set[tuple[ir.Value, Window]] = set()
        return found if self._collect(self.result, window, found) else None

    def _collect(self, value: ir.Value, window: Window, found: set) -> bool:
        if not self.computes(value):
            found.add((value, window))
            return True
        needed = demand(value.owner, window)
        if needed is None:
            return False
        return all(
            part is None or self._collect(operand, part, found)
            for operand, part in zip(value.owner.operands, needed[0])
        )

    def computes(self, value: ir.Value) -> bool:
        """Whether the value is computed in here."""
        return not isinstance(value.owner, ir.Block) and value.owner in self.ops


def _is_constant(value: ir.Value, folded: set[ir.Operation]) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and (owner.name in _CONSTANTS or owner in folded)


def _rewrite(expression: _Expression, tiling: _Tiling) -> None:
    """Put the parts and their concatenation in the place of the expression."""
    last = expression.ops[-1]
    with ir.InsertionPoint(last):
        parts = []
        for window in _windows(expression.result, tiling.axis, tiling.size):
            parts.append(_build(expression, expression.result, window, {}))
        axis = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), tiling.axis)
        concat = ir.Operation.create(
            "tosa.concat", [expression.result.type], parts, {"axis": axis}, loc=last.location
        )
    expression.result.replace_all_uses_with(concat.results[0])
    for op in reversed(expression.ops):
        op.erase()


def _build(
    expression: _Expression, value: ir.Value, window: Window, built: dict[tuple[ir.Value, Window], ir.Value]
) -> ir.Value:
    """A window of a value: computed if the expression computes the value, else sliced."""
    if (value, window) not in built:
        if expression.computes(value):
            built[value, window] = _compute(expression, value, window, built)
        else:
            built[value, window] = value if window == whole(value) else _slice(value, window)
    return built[value, window]


def _compute(expression: _Expression, value: ir.Value, window: Window, built: dict) -> ir.Value:
    op = value.owner
    needed = demand(op, window)
    assert needed is not None
    operands = [
        operand if part is None else _build(expression, operand, part, built)
        for operand, part in zip(op.operands, needed[0])
    ]
    kept = {name: attribute for name, attribute in op.attributes.items() if not name.startswith("ic.")}
    result = _with_shape(value, window)
    return ir.Operation.create(op.name, [result], operands, kept | needed[1], loc=op.location).results[0]


def _slice(value: ir.Value, window: Window) -> ir.Value:
    start, size = (_const_shape([part[i] for part in window]) for i in (0, 1))
    return ir.Operation.create("tosa.slice", [_with_shape(value, window)], [value, start, size]).results[0]


def _const_shape(sizes: Sequence[int]) -> ir.Value:
    values = ir.DenseElementsAttr.get(np.array(sizes, np.int64), type=ir.IndexType.get())
    type = ir.Type.parse(f"!tosa.shape<{len(sizes)}>")
    return ir.Operation.create("tosa.const_shape", [type], [], {"values": values}).results[0]


def _with_shape(value: ir.Value, window: Window) -> ir.Type:
    element = ir.RankedTensorType(value.type).element_type
    return ir.RankedTensorType.get([size for _, size in window], element)


def _windows(value: ir.Value, axis: int, size: int) -> Iterator[Window]:
    """Parts of `size` along an axis, the last one what is left."""
    extent = shape_of(value)[axis]
    for start in range(0, extent, size):
        part = (start, min(size, extent - start))
        yield tuple(part if i == axis else full for i, full in enumerate(whole(value)))


def _bytes(value: ir.Value, window: Window) -> int:
    element = ir.RankedTensorType(value.type).element_type
    return math.prod(size for _, size in window) * numpy_dtype_size(element)


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) + 1


def _forget_kernels(program: Program) -> None:
    """The ops are to be grouped anew."""
    for op in find_function(program.module, "main").entry_block.operations:
        for name in (KERNEL, INSTRUCTIONS):
            if name in op.operation.attributes:
                del op.operation.attributes[name]
