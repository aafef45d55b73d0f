"""`tile-operators`: what one message cannot hold is computed in parts.

Input: `@main` of TOSA ops. Output: the same, where each kernel that exceeds the limit became several that compute parts
of its result, and a concatenation. Only these kernels change; each is cut along the dimension that needs the fewest
parts, and among those reads the fewest bytes again; along several dimensions where one is not enough. A loop becomes
several that run some of the trips each, a branch several that run a part of either arm each. Every element is computed
as before: no bit changes.

    %1 = tosa.exp %0 : (tensor<64x8xf32>) -> tensor<64x8xf32>

becomes, under a limit that holds a half of it,

    %1 = tosa.slice %0 ... -> tensor<32x8xf32>        %3 = tosa.slice %0 ... -> tensor<32x8xf32>
    %2 = tosa.exp %1 ...                              %4 = tosa.exp %3 ...
    %5 = tosa.concat %2, %4 {axis = 0 : i32} : ... -> tensor<64x8xf32>
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.cost_model import Charge, CostModel, KernelCost, Trips, message_instructions
from tosaic_passes.count_instructions import forget_kernels
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.kernel_names import describe
from tosaic_passes.limit_usage import LimitUsage
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program
from tosaic_passes.tile_branches import BRANCH, Arm, Stage, put_stages, stages
from tosaic_passes.tile_expression import Expression
from tosaic_passes.tile_loops import can_be_laid_out, cut_loop, lay_out_trips, least_cost, trips_within
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
        overheads = [self._overheads(program, place, len(kernels) + 1)[-1] for place in (0, 1)]
        with program.context, ir.Location.unknown():
            cuts = [
                self._cut(program, kernel, self._overheads(program, index, len(kernels)))
                for index, kernel in enumerate(kernels)
            ]
            self._refuse(cuts)
            for cut in list(self._filled(kernels, cuts, *overheads)):
                if isinstance(cut, _Tiles | _Trips | _Stages):
                    cut.apply()
            changed = any(cuts)
            if changed:
                forget_kernels(program)
        return changed

    def _filled(
        self, kernels: Sequence[KernelCost], cuts: Sequence[_Cut | None], entry: Charge, overhead: Charge
    ) -> Iterator[_Cut | None]:
        """The cuts with first parts that fill the messages which what comes before leaves open."""
        model = self.cost_model
        held = entry
        for kernel, cut in zip(kernels, cuts):
            if isinstance(cut, _Tiles):
                room = self.limit_instructions - message_instructions(model, overhead)
                cut = cut.filling(self.limit_instructions - message_instructions(model, held), room)
                held = overhead + Charge(cut.last_cost)
            elif message_instructions(model, held + kernel.charge) <= self.limit_instructions:
                held += kernel.charge
            else:
                held = overhead + kernel.charge
            yield cut

    def _overheads(self, program: Program, index: int, count: int) -> list[Charge]:
        """Of the messages that may hold the kernel, with what comes before it in other messages; the dearest last."""
        last = index == count - 1
        places = [0] if index == 0 else [1, 2]
        charges = [self.cost_model.overhead(program, place, last) for place in places]
        return sorted(charges, key=lambda charge: message_instructions(self.cost_model, charge))

    def _cut(self, program: Program, kernel: KernelCost, overheads: Sequence[Charge]) -> _Cut | None:
        """How to cut a kernel so that each part fits into any message; None where it fits, or may fit, as a whole."""
        model, limit = self.cost_model, self.limit_instructions
        if message_instructions(model, kernel.charge + overheads[-1]) <= limit:
            return None
        parts = self._parts(program, kernel, limit - message_instructions(model, overheads[-1]))
        if not isinstance(parts, _Indivisible):
            return parts
        whole = message_instructions(model, kernel.charge + overheads[0])
        paid = message_instructions(model, overheads[-1])
        return _Indivisible(parts.what, min(whole, parts.least + paid)) if whole > limit else None

    def _parts(self, program: Program, kernel: KernelCost, room: int) -> _Cut:
        """Parts of a kernel that take at most `room` each, or what the smallest takes."""
        if kernel.trips:
            return _Trips.of(kernel, kernel.trips, room, self.cost_model)
        if kernel.ops and kernel.ops[-1].name == BRANCH:
            return self._stages(program, kernel.ops[-1], room)
        expression = Expression.of(kernel.ops)
        if expression is None:
            return _Indivisible(describe(kernel), message_instructions(self.cost_model, kernel.charge))
        search = TilingSearch(expression, kernel.charge, self.cost_model)
        tiling = search.best(room)
        return _Tiles(search, tiling) if tiling else _Indivisible(describe(kernel), search.least_cost())

    def _stages(self, program: Program, branch: ir.Operation, room: int) -> _Cut:
        """Parts of a branch; what is too large in an arm is cut there first."""
        model = _KernelsAlone(self.cost_model)
        arms = [Arm.of(region, list(branch.operands)[1:], program.weights) for region in branch.regions]
        for arm in arms:
            try:
                _TileArm(room, model).run(arm.program)
            except LimitTooSmallError as error:
                return _Indivisible(error.what, error.needed)
            arm.kernels = model.kernels(arm.program)
        found = stages(arms, room, model)
        if len(found) > 1:
            return _Stages(branch, arms, found)
        kernels = [kernel for arm in arms for kernel in arm.kernels]
        return _Indivisible(
            BRANCH, max((message_instructions(model, kernel.charge) for kernel in kernels), default=0)
        )

    def _refuse(self, cuts: Sequence[_Cut | None]) -> None:
        """Raise for the kernel whose smallest part takes most, if there is one that cannot be cut so far."""
        found = [cut for cut in cuts if isinstance(cut, _Indivisible)]
        if found:
            dearest = max(found, key=lambda cut: cut.least)
            needed = max(dearest.least, self.limit_instructions + 1)
            raise LimitTooSmallError(dearest.what, needed, self.limit_instructions)


class _TileArm(TileOperatorsPass):
    """Cut kernels of an arm, which are put into messages only with the other arm's."""

    def _filled(
        self, kernels: Sequence[KernelCost], cuts: Sequence[_Cut | None], entry: Charge, overhead: Charge
    ) -> Iterator[_Cut | None]:
        yield from cuts


@dataclass(frozen=True)
class _Tiles:
    """Parts of an expression, and the concatenation that takes its place."""

    search: TilingSearch
    tiling: Tiling

    @property
    def last_cost(self) -> int:
        """About what the last part takes."""
        return self.search.last_cost(self.tiling)

    def filling(self, left: int, room: int) -> _Tiles:
        """The same with a first part that takes at most `left`, and others that take at most `room`."""
        return _Tiles(self.search, self.search.filling(self.tiling, left, room))

    def apply(self) -> None:
        put_parts(self.search.expression, self.tiling)


@dataclass(frozen=True)
class _Trips:
    """Parts of a loop, of `size` trips each, or if that is 0, the trips without a loop."""

    loop: ir.Operation
    trips: Trips
    size: int

    @classmethod
    def of(cls, kernel: KernelCost, trips: Trips, room: int, model: CostModel) -> _Cut:
        """As many trips in each part as take at most `room`; what is in a trip where not even one does."""
        size = trips_within(kernel, trips, room, model)
        loop = kernel.ops[-1]
        if not size and not can_be_laid_out(loop, trips):
            return _Indivisible(describe(kernel), least_cost(kernel, trips, model))
        return cls(loop, trips, min(size, -(-trips.most // 2)))

    def apply(self) -> None:
        if self.size:
            cut_loop(self.loop, self.trips, self.size)
        else:
            lay_out_trips(self.loop, self.trips)


@dataclass(frozen=True)
class _Stages:
    """Parts of a branch."""

    branch: ir.Operation
    arms: Sequence[Arm]
    stages: Sequence[Stage]

    def apply(self) -> None:
        put_stages(self.branch, self.arms, self.stages)


@dataclass(frozen=True)
class _Indivisible:
    """A kernel, or one in its regions, of which no part fits: the smallest takes `least` instructions."""

    what: str
    least: int


_Cut = _Tiles | _Trips | _Stages | _Indivisible


class _KernelsAlone(CostModel):
    """A cost model by which messages pay for their kernels alone: of a program that is a part of another."""

    def __init__(self, model: CostModel) -> None:
        self.model, self.page_access, self.page_write = model, model.page_access, model.page_write

    def kernels(self, program: Program) -> list[KernelCost]:
        return self.model.kernels(program)

    def overhead(self, program: Program, index: int, last: bool) -> Charge:
        return Charge()

    def closing(self, program: Program, segments: int) -> Charge | None:
        return None

    def transfers(self, program: Program) -> list[tuple[str, Charge]]:
        return []

    def limit_usage(self, program: Program, limit_instructions: int) -> list[LimitUsage]:
        return []
