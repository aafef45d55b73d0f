"""A backend for tests: every op is a kernel that says itself what it costs, in attributes `t.*`."""

from __future__ import annotations

from torch_mlir import ir

from tosaic_passes.cost_model import Charge, KernelCost
from tosaic_passes.functions import find_function, int_attribute, segments
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable


def program_of(body: str, signature: str = "%x: tensor<4xf32>") -> Program:
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        text = f"func.func @main({signature}) -> tensor<4xf32> {{\n{body}\n}}"
        return Program(ir.Module.parse(text), WeightTable())


CHAIN = """
  %c = "tosa.const"() <{values = dense<2.0> : tensor<4xf32>}> : () -> tensor<4xf32>
  %0 = tosa.abs %x {t.instructions = 100 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  %1 = tosa.add %0, %c {t.instructions = 200 : i64} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = tosa.add %1, %0 {t.instructions = 300 : i64} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
"""


class CountingModel:
    """Reads `t.instructions`, `t.reads`, `t.writes`, `t.bound`; ops with the same `t.group` are one kernel."""

    page_access = 100
    page_write = 50
    first = Charge(7, reads=1, writes=1)
    inner = Charge(3, reads=1)
    last = Charge(5, reads=1)

    def kernels(self, program: Program) -> list[KernelCost]:
        groups: dict[int, list[ir.Operation]] = {}
        for function in segments(program.module) or [find_function(program.module, "main")]:
            for op in function.entry_block.operations:
                if op.operation.name not in ("tosa.const", "func.return"):
                    groups.setdefault(_read(op, "t.group", len(groups)), []).append(op.operation)
        return [self._kernel(number, ops) for number, ops in enumerate(groups.values())]

    def overhead(self, program: Program, index: int, last: bool) -> Charge:
        return (self.first if index == 0 else self.inner) + (self.last if last else Charge())

    def closing(self, program: Program, segments: int) -> Charge | None:
        return None

    def transfers(self, program: Program) -> list[tuple[str, Charge]]:
        return []

    def _kernel(self, number: int, ops: list[ir.Operation]) -> KernelCost:
        with ops[0].context:
            for op in ops:
                op.attributes["ic.kernel"] = int_attribute(number)
        shares = tuple(_read(op, "t.instructions", 1) for op in ops)
        reads = [_read(op, "t.reads", 0) for op in ops]
        writes = [_read(op, "t.writes", 0) for op in ops]
        charge = sum(map(Charge, shares, reads, writes), Charge())
        return KernelCost(tuple(ops), shares, charge, exact=all("t.bound" not in op.attributes for op in ops))


def _read(op: ir.Operation, name: str, otherwise: int) -> int:
    return op.attributes[name].value if name in op.attributes else otherwise
