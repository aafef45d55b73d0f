"""`tile-chains`: kernels that hand a large tensor on to each other run part by part.

Input: `@main` of TOSA ops that one message cannot hold. Output: the same, where kernels between which a large tensor
passes (the scores of an attention, say) compute a part of what they give to others at a time, all of them one part
after the other, and a concatenation. No tensor that is as large stands between messages then, and each page of it
would have been paid for again in every message that reads it. Nothing is computed twice, and no bit changes.

    %1 = tosa.matmul %q, %k ... -> tensor<6x1500x1500xf32>
    %2 = tosa.exp %1 ... -> tensor<6x1500x1500xf32>
    %3 = tosa.matmul %2, %v ... -> tensor<6x1500x64xf32>

becomes a slice of %q and these three ops on it for some rows, the same for the next rows, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.cost_model import Charge, CostModel, KernelCost, message_instructions
from tosaic_passes.count_instructions import forget_kernels
from tosaic_passes.functions import find_function
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program
from tosaic_passes.tile_expression import Expression
from tosaic_passes.tile_parts import put_parts
from tosaic_passes.tile_search import Tiling, TilingSearch, pages
from tosaic_passes.tile_windows import whole

_LARGE = 256
"""A tensor is large if touching its pages takes more than this part of the limit."""
_PARTS_A_MESSAGE = 8
"""So small are the parts of a chain at most, so that messages can be filled with them."""
_MOST_KERNELS = 64
_GROWTH = 1.01
"""So many times the instructions a program may take in parts: some kernels are dearer for fewer rows or channels."""


@dataclass(frozen=True)
class TileChainsPass:
    """Run kernels part by part where a large tensor stands between them and `limit-instructions` hold not all."""

    name: ClassVar[str] = "tile-chains"
    limit_instructions: int
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        kernels = self.cost_model.kernels(program)
        everything = sum((kernel.charge for kernel in kernels), Charge())
        if message_instructions(self.cost_model, everything) <= self.limit_instructions:
            return
        most = everything.instructions * _GROWTH
        chains, instructions = self._tried(program)
        if instructions > most:
            chains = [chain for chain in chains if self._tried(program, [chain])[1] <= most]
        if chains:
            self._tile(program, chains)

    def _tried(self, program: Program, chosen: Sequence[int] | None = None) -> tuple[list[int], int]:
        """The chains that `_tile` tiles, and the instructions of the whole program then; it stays as it is."""
        tried = program.copy()
        chains = self._tile(tried, chosen)
        return chains, sum(kernel.charge.instructions for kernel in self.cost_model.kernels(tried))

    def _tile(self, program: Program, chosen: Sequence[int] | None = None) -> list[int]:
        """Tile the chains with these numbers, else all; returns the numbers of those that were tiled."""
        kernels = self.cost_model.kernels(program)
        with program.context, ir.Location.unknown():
            found = list(enumerate(self._tiled(program, kernels)))
            tiled = [(number, chain) for number, chain in found if chosen is None or number in chosen]
            for _, (expression, tiling) in tiled:
                put_parts(expression, tiling)
            forget_kernels(program)
        return [number for number, _ in tiled]

    def _tiled(self, program: Program, kernels: Sequence[KernelCost]) -> Iterator[tuple[Expression, Tiling]]:
        """Every chain that can be cut, and how; no kernel is in two of them."""
        order = {op: number for number, op in enumerate(_operations(program))}
        kernel_of = {op: kernel for kernel in kernels for op in kernel.ops}
        taken: set[KernelCost] = set()
        for kernel in kernels:
            chain = self._chain(kernel, kernel_of)
            if not chain or taken.intersection(chain):
                continue
            ops = sorted((op for member in chain for op in member.ops), key=order.__getitem__)
            expression = Expression.of(ops)
            if expression is None:
                continue
            charge = sum((member.charge for member in chain), Charge())
            search = TilingSearch(expression, charge, self.cost_model, computes_once=True)
            tiling = search.best(self.limit_instructions // _PARTS_A_MESSAGE)
            if tiling is not None:
                taken.update(chain)
                yield expression, tiling

    def _chain(self, first: KernelCost, kernel_of: dict[ir.Operation, KernelCost]) -> list[KernelCost]:
        """The kernels from `first` on between which a large tensor passes, up to a result half as large; else none."""
        chain = [first]
        largest = 0.0
        while len(chain) <= _MOST_KERNELS:
            given = list(_given(chain))
            if not given:
                return []
            value = max(given, key=_size)
            largest = max(largest, _size(value))
            if len(given) == 1 and _size(value) * 2 <= largest:
                return chain
            if largest * self.cost_model.page_access * _LARGE < self.limit_instructions:
                return []
            users = {kernel_of.get(use.owner.operation) for use in value.uses}
            if None in users:  # a result of the program
                return []
            chain += [user for user in users if user is not None and user not in chain]
        return []


def _given(chain: Sequence[KernelCost]) -> Iterator[ir.Value]:
    """What the kernels compute and others read."""
    ops = {op for kernel in chain for op in kernel.ops}
    for op in ops:
        for result in op.results:
            if any(use.owner.operation not in ops for use in result.uses):
                yield result


def _size(value: ir.Value) -> float:
    return pages(value, whole(value))


def _operations(program: Program) -> list[ir.Operation]:
    return [op.operation for op in find_function(program.module, "main").entry_block.operations]
