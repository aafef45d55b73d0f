"""Branches by stretches: a `tosa.cond_if` becomes several with the same condition, each with a part of either arm.

    %0 = tosa.cond_if %c (%a = %x) : ... {           %0 = tosa.cond_if %c (%a = %x) : ... {
      %1 = tosa.exp %a                                 %1 = tosa.exp %a
      %2 = tosa.tanh %1                                tosa.yield %1
      tosa.yield %2                                  } else {
    } else {                                   ->      tosa.yield %zeros
      %3 = tosa.abs %a                               }
      tosa.yield %3                                  %2 = tosa.cond_if %c (%a = %x, %b = %0) : ... {
    }                                                  %3 = tosa.tanh %b
                                                       tosa.yield %3
                                                     } else {
                                                       %4 = tosa.abs %a
                                                       ...

What an arm computes in one of them and reads in a later one passes through a result; where it is the other arm's turn,
zeros stand for it, which nobody reads. Values of the same type of both arms share a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic_passes.cost_model import Charge, CostModel, KernelCost, message_instructions
from tosaic_passes.count_instructions import forget_kernels
from tosaic_passes.functions import find_function
from tosaic_passes.program import Program
from tosaic_passes.regions import copy_body, copy_op
from tosaic_passes.tile_expression import is_constant
from tosaic_passes.weights import WeightTable

BRANCH = "tosa.cond_if"


@dataclass(eq=False)
class Arm:
    """One arm as a program of its own, so that it can be counted and cut: `@main` takes what the arm takes."""

    program: Program
    kernels: list[KernelCost] = field(default_factory=list)

    @classmethod
    def of(cls, region: ir.Region, operands: Sequence[ir.Value], weights: WeightTable) -> Arm:
        """The arm that takes these operands, of which constants stay known. Needs a context."""
        block = region.blocks[0]
        types = [argument.type for argument in block.arguments]
        results = [value.type for value in _terminator(block).operands]
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            main = func.FuncOp("main", ir.FunctionType.get(types, results))
        inner = main.add_entry_block()
        with ir.InsertionPoint(inner):
            taken = [
                _copied_constant(value) if is_constant(value) else argument
                for value, argument in zip(operands, inner.arguments)
            ]
            func.ReturnOp(copy_body(block, taken))
        return cls(Program(module, weights))

    @property
    def block(self) -> ir.Block:
        return find_function(self.program.module, "main").entry_block

    @property
    def results(self) -> list[ir.Value]:
        """What the arm yields."""
        return list(_terminator(self.block).operands)


Stage = tuple[list[ir.Operation], list[ir.Operation]]
"""The ops of either arm that run in one message."""


def stages(arms: Sequence[Arm], room: int, model: CostModel) -> list[Stage]:
    """Stretches of both arms that take about `room` at most: the dearer arm and the pages of both.

    Either arm makes about the same progress in each, so that little of the cheaper one is paid for. There are at least
    two, unless there are not two kernels.
    """
    order = list(_interleaved(arms))
    found: list[list[tuple[int, KernelCost]]] = [order]
    while len(found) < 2 <= len(order):
        found = list(_stretches(order, room, model))
        room //= 2
    return [
        (
            [op for arm, k in stage if arm == 0 for op in k.ops],
            [op for arm, k in stage if arm == 1 for op in k.ops],
        )
        for stage in found
    ]


def _interleaved(arms: Sequence[Arm]) -> Iterator[tuple[int, KernelCost]]:
    """The kernels of both arms, each where its middle is on the way through its arm."""
    keyed = []
    for number, arm in enumerate(arms):
        total = max(1, sum(kernel.charge.instructions for kernel in arm.kernels))
        done = 0
        for kernel in arm.kernels:
            keyed.append(((2 * done + kernel.charge.instructions) / total, number, kernel))
            done += kernel.charge.instructions
    for _, number, kernel in sorted(keyed, key=lambda entry: entry[:2]):
        yield number, kernel


def _stretches(
    order: Sequence[tuple[int, KernelCost]], room: int, model: CostModel
) -> Iterator[list[tuple[int, KernelCost]]]:
    stretch: list[tuple[int, KernelCost]] = []
    charges = [Charge(), Charge()]
    for number, kernel in order:
        more = [charge + kernel.charge if arm == number else charge for arm, charge in enumerate(charges)]
        if stretch and _cost(more, model) > room:
            yield stretch
            stretch, more = [], [kernel.charge if arm == number else Charge() for arm in (0, 1)]
        stretch.append((number, kernel))
        charges = more
    yield stretch


def _cost(charges: Sequence[Charge], model: CostModel) -> int:
    """Of a branch with these arms."""
    touches = sum(message_instructions(model, charge) - charge.instructions for charge in charges)
    return max(charge.instructions for charge in charges) + touches


def put_stages(branch: ir.Operation, arms: Sequence[Arm], found: Sequence[Stage]) -> None:
    """Put a branch for each stage in the place of one. Needs a context."""
    for arm in arms:
        forget_kernels(arm.program)
    builder = _Builder(branch, arms, found)
    with ir.InsertionPoint(branch), branch.location:
        for number in range(len(found)):
            builder.build(number)
    branch.erase()


class _Builder:
    """`outside` knows the values of each arm that earlier stages gave, as values of the function."""

    def __init__(self, branch: ir.Operation, arms: Sequence[Arm], found: Sequence[Stage]) -> None:
        self.branch, self.arms, self.stages = branch, arms, found
        self.condition, *operands = branch.operands
        self.outside: list[dict[ir.Value, ir.Value]] = [
            dict(zip(arm.block.arguments, operands)) for arm in arms
        ]
        self.stage_of = {
            result: number
            for number, stage in enumerate(found)
            for ops in stage
            for op in ops
            for result in op.results
        }

    def build(self, number: int) -> None:
        """One stage: a branch, whose results take the place of what they stand for."""
        ends = [k for k in range(len(self.branch.results)) if self._end_of(k) == number]
        made = [self._read_later(arm, number) for arm in (0, 1)]
        slots = list(_paired(*made))
        yields = [
            [*(slot[arm] for slot in slots), *(self.arms[arm].results[k] for k in ends)] for arm in (0, 1)
        ]
        read = [self._read(arm, number, yields[arm]) for arm in (0, 1)]
        operands = list(dict.fromkeys(self.outside[arm][value] for arm in (0, 1) for value in read[arm]))
        types = [next(value.type for value in slot if value is not None) for slot in slots]
        types += [self.branch.results[k].type for k in ends]
        made_branch = ir.Operation.create(
            BRANCH, types, [self.condition, *operands], regions=2, loc=self.branch.location
        )
        for arm, region in enumerate(made_branch.regions):
            self._fill(region, arm, number, operands, list(zip(yields[arm], types)))
        results = list(made_branch.results)
        for slot, result in zip(slots, results):
            self.outside[0].update({slot[0]: result} if slot[0] is not None else {})
            self.outside[1].update({slot[1]: result} if slot[1] is not None else {})
        for k, result in zip(ends, results[len(slots) :]):
            self.branch.results[k].replace_all_uses_with(result)

    def _end_of(self, k: int) -> int:
        """The stage after which both arms have the result."""
        return max(self.stage_of.get(arm.results[k], 0) for arm in self.arms)

    def _read_later(self, arm: int, number: int) -> list[ir.Value]:
        """What a stage of an arm computes and later ones read, or yield."""
        later = {value for stage in self.stages[number + 1 :] for value in _operands(stage[arm])}
        later |= {value for k, value in enumerate(self.arms[arm].results) if self._end_of(k) > number}
        return [result for op in self.stages[number][arm] for result in op.results if result in later]

    def _read(self, arm: int, number: int, yields: Iterable[ir.Value | None]) -> list[ir.Value]:
        """What a stage of an arm reads from before it, constants apart."""
        wanted = [*_operands(self.stages[number][arm]), *(value for value in yields if value is not None)]
        return [value for value in dict.fromkeys(wanted) if value in self.outside[arm]]

    def _fill(
        self,
        region: ir.Region,
        arm: int,
        number: int,
        operands: Sequence[ir.Value],
        yields: Sequence[tuple[ir.Value | None, ir.Type]],
    ) -> None:
        block = region.blocks.append(
            *(value.type for value in operands), arg_locs=[self.branch.location] * len(operands)
        )
        inside = dict(zip(operands, block.arguments))
        values = {value: inside[given] for value, given in self.outside[arm].items() if given in inside}
        with ir.InsertionPoint(block):
            for op in self.stages[number][arm]:
                _copy_constants(op.operands, values)
                copy_op(op, values)
            _copy_constants([value for value, _ in yields if value is not None], values)
            ended = [_zeros(type) if value is None else values[value] for value, type in yields]
            ir.Operation.create("tosa.yield", operands=ended)


def _terminator(block: ir.Block) -> ir.Operation:
    return block.operations[len(block.operations) - 1].operation


def _operands(ops: Iterable[ir.Operation]) -> Iterator[ir.Value]:
    return (value for op in ops for value in op.operands)


def _paired(
    first: Sequence[ir.Value], second: Sequence[ir.Value]
) -> Iterator[tuple[ir.Value | None, ir.Value | None]]:
    """Values of the same type in pairs; those that are left over alone."""
    left = list(second)
    for value in first:
        partner = next((other for other in left if other.type == value.type), None)
        if partner is not None:
            left.remove(partner)
        yield value, partner
    yield from ((None, value) for value in left)


def _copied_constant(value: ir.Value) -> ir.Value:
    values: dict[ir.Value, ir.Value] = {}
    _copy_constants([value], values)
    return values[value]


def _copy_constants(wanted: Iterable[ir.Value], values: dict[ir.Value, ir.Value]) -> None:
    """Copy to the insertion point what `values` do not know: constants, and what is computed from them."""
    for value in wanted:
        if value not in values:
            assert is_constant(value)
            _copy_constants(value.owner.operands, values)
            copy_op(value.owner, values)


def _zeros(type: ir.Type) -> ir.Value:
    zero = {"f": "0.0", "b": "0.0"}.get(str(ir.RankedTensorType(type).element_type)[0], "0")
    values: Mapping[str, ir.Attribute] = {"values": ir.Attribute.parse(f"dense<{zero}> : {type}")}
    return ir.Operation.create("tosa.const", [type], attributes=dict(values)).results[0]
