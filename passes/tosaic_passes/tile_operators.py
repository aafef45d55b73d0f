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
from tosaic_passes.count_instructions import forget_kernels
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.kernel_names import describe
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program
from tosaic_passes.tile_expression import Expression
from tosaic_passes.tile_loops import cut_loop, least_cost, trips_within
from tosaic_passes.tile_parts import put_parts
from tosaic_passes.tile_search import Tiling, TilingSearch

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
                forget_kernels(program)
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
        put_parts(self.expression, self.tiling)


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
