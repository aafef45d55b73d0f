"""`count-instructions`: what each op costs, written on it.

Input: `@main` of TOSA ops, whole or in segments. Output: the same, with `ic.kernel` (ops with the same number are
emitted together) and `ic.instructions` on every op that a kernel covers, and the total on `@main`, marked
`ic.upper_bound` where control flow depends on data. Page touches are not in these figures: they are paid once a
message, whoever touches first.

    %0 = tosa.abs %x : (tensor<8xf32>) -> tensor<8xf32>

becomes

    %0 = tosa.abs %x {ic.instructions = 41 : i64, ic.kernel = 0 : i64} : (tensor<8xf32>) -> tensor<8xf32>
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.cost_model import CostModel
from tosaic_passes.functions import find_function, int_attribute
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program

INSTRUCTIONS = "ic.instructions"
KERNEL = "ic.kernel"
UPPER_BOUND = "ic.upper_bound"


@dataclass(frozen=True)
class CountInstructionsPass:
    """Write the instructions of every op on it; the shares of the ops add up to the total on @main."""

    name: ClassVar[str] = "count-instructions"
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        main = find_function(program.module, "main")
        kernels = self.cost_model.kernels(program)
        for kernel in kernels:
            for operation, share in zip(kernel.ops, kernel.shares):
                operation.attributes[INSTRUCTIONS] = int_attribute(share)
        main.attributes[INSTRUCTIONS] = int_attribute(sum(k.charge.instructions for k in kernels))
        if not all(kernel.exact for kernel in kernels):
            main.attributes[UPPER_BOUND] = ir.UnitAttr.get()


def forget_kernels(program: Program) -> None:
    """Take the figures and the kernels off the ops of @main: they are to be grouped anew."""
    for op in find_function(program.module, "main").entry_block.operations:
        for name in (KERNEL, INSTRUCTIONS):
            if name in op.operation.attributes:
                del op.operation.attributes[name]
