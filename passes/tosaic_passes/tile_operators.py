"""`tile-operators`: what one message cannot hold is computed in parts.

Input: `@main` of TOSA ops. Output: the same, where each kernel that exceeds the limit became several that compute parts
of its result, and a concatenation. Only these kernels change; each is cut along the dimension that needs the fewest
parts, and among those reads the fewest bytes again; along several dimensions where one is not enough. A loop becomes
several that run some of the trips each. Every element is computed as before: no bit changes.

    %1 = tosa.exp %0 : (tensor<64x8xf32>) -> tensor<64x8xf32>

becomes, under a limit that holds a half of it,

    %1 = tosa.slice %0 ... -> tensor<32x8xf32>        %3 = tosa.slice %0 ... -> tensor<32x8xf32>
    %2 = tosa.exp %1 ...                              %4 = tosa.exp %3 ...
    %5 = tosa.concat %2, %4 {axis = 0 : i32} : ... -> tensor<64x8xf32>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.cost_model import Charge, CostModel, KernelCost, Trips, message_instructions
from tosaic_passes.count_instructions import INSTRUCTIONS, KERNEL
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.functions import find_function
from tosaic_passes.kernel_names import describe
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program
from tosaic_passes.tile_expression import Expression
from tosaic_passes.tile_loops import cut_loop, least_cost, trips_within
from tosaic_passes.tile_search import Tiling, TilingSearch, windows
from tosaic_passes.tile_windows import shape_of

_MOST_ROUNDS = 8


@dataclass(frozen=True)
class TileOperatorsPass:
    """Cut kernels that exceed `limit-instructions` alone in a message; refuse what cannot be cut so far."""

    name: ClassVar[str] = "tile-operators"
    limit_instructions: int
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        for _ in range(_MOST_ROUNDS):
            if not self._tile(program):
                return

    def _tile(self, program: Program) -> bool:
        """Tile every kernel that is too large, once; whether there was one."""
        kernels = self.cost_model.kernels(program)
        with program.context, ir.Location.unknown():
            cuts = [
                self._cut(kernel, self._overheads(program, index, len(kernels)))
                for index, kernel in enumerate(kernels)
            ]
            self._refuse(cuts)
            for cut in cuts:
                if isinstance(cut, _Tiles | _Trips):
                    cut.apply()
            changed = any(cuts)
            if changed:
                _forget_kernels(program)
        return changed

    def _overheads(self, program: Program, index: int, count: int) -> list[Charge]:
        """Of the messages that may hold the kernel, with what comes before it in other messages; the dearest last."""
        last = index == count - 1
        places = [0] if index == 0 else [1, 2]
        charges = [self.cost_model.overhead(program, place, last) for place in places]
        return sorted(charges, key=lambda charge: message_instructions(self.cost_model, charge))

    def _cut(self, kernel: KernelCost, overheads: Sequence[Charge]) -> _Cut | None:
        """How to cut a kernel so that each part fits into any message; None where it fits, or may fit, as a whole."""
        model, limit = self.cost_model, self.limit_instructions
        if message_instructions(model, kernel.charge + overheads[-1]) <= limit:
            return None
        parts = self._parts(kernel, limit - message_instructions(model, overheads[-1]))
        if not isinstance(parts, _Indivisible):
            return parts
        whole = message_instructions(model, kernel.charge + overheads[0])
        paid = message_instructions(model, overheads[-1])
        return _Indivisible(kernel, min(whole, parts.least + paid)) if whole > limit else None

    def _parts(self, kernel: KernelCost, room: int) -> _Cut:
        """Parts of a kernel that take at most `room` each, or what the smallest takes."""
        if kernel.trips:
            return _Trips.of(kernel, kernel.trips, room, self.cost_model)
        expression = Expression.of(kernel.ops)
        if expression is None:
            return _Indivisible(kernel, message_instructions(self.cost_model, kernel.charge))
        search = TilingSearch(expression, kernel.charge, self.cost_model)
        tiling = search.best(room)
        return _Tiles(expression, tiling) if tiling else _Indivisible(kernel, search.least_cost())

    def _refuse(self, cuts: Sequence[_Cut | None]) -> None:
        """Raise for the kernel whose smallest part takes most, if there is one that cannot be cut so far."""
        found = [cut for cut in cuts if isinstance(cut, _Indivisible)]
        if found:
            dearest = max(found, key=lambda cut: cut.least)
            needed = max(dearest.least, self.limit_instructions + 1)
            raise LimitTooSmallError(describe(dearest.kernel), needed, self.limit_instructions)


@dataclass(frozen=True)
class _Tiles:
    """Parts of an expression, and the concatenation that takes its place."""

    expression: Expression
    tiling: Tiling

    def apply(self) -> None:
        result, last = self.expression.result, self.expression.ops[-1]
        shape = shape_of(result)
        with ir.InsertionPoint(last):
            parts = [self.expression.build(window) for window in windows(shape, self.tiling.sizes)]
            for axis in reversed(range(len(shape))):
                parts = self._joined(parts, axis, last.location)
        result.replace_all_uses_with(parts[0])
        for op in reversed(self.expression.ops):
            op.erase()

    def _joined(self, parts: Sequence[ir.Value], axis: int, location: ir.Location) -> list[ir.Value]:
        """Concatenate neighbours along an axis; along the axes after it they are joined already."""
        extent, size = shape_of(self.expression.result)[axis], self.tiling.sizes[axis]
        count = -(-extent // size)
        if count == 1:
            return list(parts)
        attribute = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), axis)
        return [
            _concat(list(row), attribute, extent, location)
            for row in zip(*(parts[i::count] for i in range(count)))
        ]


@dataclass(frozen=True)
class _Trips:
    """Parts of a loop, of `size` trips each."""

    loop: ir.Operation
    trips: Trips
    size: int

    @classmethod
    def of(cls, kernel: KernelCost, trips: Trips, room: int, model: CostModel) -> _Cut:
        """As many trips in each part as take at most `room`."""
        size = trips_within(kernel, trips, room, model)
        if not size:
            return _Indivisible(kernel, least_cost(kernel, trips, model))
        return cls(kernel.ops[-1], trips, min(size, -(-trips.most // 2)))

    def apply(self) -> None:
        cut_loop(self.loop, self.trips, self.size)


@dataclass(frozen=True)
class _Indivisible:
    """A kernel of which no part fits: the smallest takes `least` instructions."""

    kernel: KernelCost
    least: int


_Cut = _Tiles | _Trips | _Indivisible


def _concat(parts: list[ir.Value], axis: ir.IntegerAttr, extent: int, location: ir.Location) -> ir.Value:
    first = ir.RankedTensorType(parts[0].type)
    shape = [extent if i == axis.value else size for i, size in enumerate(first.shape)]
    type = ir.RankedTensorType.get(shape, first.element_type)
    return ir.Operation.create("tosa.concat", [type], parts, {"axis": axis}, loc=location).results[0]


def _forget_kernels(program: Program) -> None:
    """The ops are to be grouped anew."""
    for op in find_function(program.module, "main").entry_block.operations:
        for name in (KERNEL, INSTRUCTIONS):
            if name in op.operation.attributes:
                del op.operation.attributes[name]
