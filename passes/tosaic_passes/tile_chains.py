"""`tile-chains`: kernels that hand tensors on to each other run part by part.

Input: `@main` of TOSA ops that one message cannot hold. Output: the same, where chains of kernels compute some rows of
what they give to others, all of them one part after the other, and a concatenation. A message that runs some of the
parts touches some rows of the chain's operands and results, and of what is between them no more than a part needs;
kernel by kernel it would pay for each page of every tensor. Nothing is computed twice, and no bit changes.

    %1 = tosa.matmul %q, %k ... -> tensor<6x1500x1500xf32>
    %2 = tosa.exp %1 ... -> tensor<6x1500x1500xf32>
    %3 = tosa.matmul %2, %v ... -> tensor<6x1500x64xf32>

becomes a slice of %q and these three ops on it for some rows, the same for the next rows, and so on. Where ops read
neighbouring rows (convolutions), they read those that were computed by the part before from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.chain_parts import about_so_many_parts, run_in_parts
from tosaic_passes.chain_search import ChainPlan, best_chains
from tosaic_passes.cost_model import Charge, CostModel, KernelCost, message_instructions
from tosaic_passes.count_instructions import forget_kernels
from tosaic_passes.functions import find_function
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program


@dataclass(frozen=True)
class TileChainsPass:
    """Run kernels part by part where that saves pages in the messages that `limit-instructions` allow."""

    name: ClassVar[str] = "tile-chains"
    limit_instructions: int
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        kernels = self.cost_model.kernels(program)
        everything = sum((kernel.charge for kernel in kernels), Charge())
        if message_instructions(self.cost_model, everything) <= self.limit_instructions:
            return
        with program.context, ir.Location.unknown():
            plans = best_chains(kernels, self.limit_instructions, self.cost_model)
            plans = self._worth_their_instructions(program, plans)
            broken = self._broken_limits(program) if plans else set()
            while plans and self._broken_limits(program, plans) - broken:
                plans = _better_half(plans)
            if plans:
                self._tile(program, kernels, plans)

    def _broken_limits(self, program: Program, plans: Sequence[ChainPlan] = ()) -> set[str]:
        """The limits that a canister breaks which runs these chains in parts: it may not hold the code of all."""
        tried = program.copy()
        if plans:
            self._tile(tried, self.cost_model.kernels(tried), plans)
        usage = self.cost_model.limit_usage(tried, self.limit_instructions)
        return {entry.what for entry in usage if entry.used > entry.limit}

    def _worth_their_instructions(self, program: Program, plans: Sequence[ChainPlan]) -> list[ChainPlan]:
        """The chains whose parts take fewer instructions more than the pages cost that they save."""
        tried = program.copy()
        kernels = self.cost_model.kernels(tried)
        before = [_instructions(kernels, plan) for plan in plans]
        chain_of = self._tile(tried, kernels, plans)
        after: Counter[int] = Counter()
        for kernel in self.cost_model.kernels(tried):
            chains = [chain_of[r] for op in kernel.ops for r in op.results if r in chain_of]
            after[chains[0] if chains else -1] += kernel.charge.instructions
        return [
            plan
            for number, plan in enumerate(plans)
            if number in after and after[number] - before[number] < plan.saved_instructions
        ]

    def _tile(
        self, program: Program, kernels: Sequence[KernelCost], plans: Sequence[ChainPlan]
    ) -> dict[ir.Value, int]:
        """Tile the chains that can be; returns what their parts compute with the numbers of the plans."""
        _bring_into_order(program, kernels)
        chains = [plan.chain(kernels) for plan in plans]
        found = {
            value: number
            for number, (plan, chain) in enumerate(zip(plans, chains))
            if chain and (parts := about_so_many_parts(chain, plan.count))
            for value in run_in_parts(chain, parts)
        }
        forget_kernels(program)
        return found


def _better_half(plans: Sequence[ChainPlan]) -> list[ChainPlan]:
    """Those of the plans that save more, in their order."""
    best = sorted(plans, key=lambda plan: -plan.gain)[: len(plans) // 2]
    return [plan for plan in plans if plan in best]


def _instructions(kernels: Sequence[KernelCost], plan: ChainPlan) -> int:
    """Of the kernels of a chain, without those between that run before it."""
    chain = plan.chain(kernels)
    own = chain.axis if chain else {}
    stretch = kernels[plan.first : plan.end]
    return sum(k.charge.instructions for k in stretch if any(r in own for op in k.ops for r in op.results))


def _bring_into_order(program: Program, kernels: Sequence[KernelCost]) -> None:
    """Let the ops stand as the kernels run, each kernel's behind one another."""
    block = find_function(program.module, "main").entry_block
    terminator = block.operations[len(block.operations) - 1].operation
    for kernel in kernels:
        for op in kernel.ops:
            op.move_before(terminator)
