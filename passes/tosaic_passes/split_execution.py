"""`split-execution`: cut the program so that every message fits the limit.

Input: `@main` of TOSA ops. Output: `@segment_0`, `@segment_1`, ... which `@main` calls one after the other; each
runs in a message of its own. Kernels are never torn. The cut has the fewest messages, and among those the fewest
instructions.

    func.func @main(%x: tensor<8xf32>) -> tensor<8xf32> {
      %0 = tosa.abs %x : (tensor<8xf32>) -> tensor<8xf32>
      %1 = tosa.exp %0 : (tensor<8xf32>) -> tensor<8xf32>
      return %1 : tensor<8xf32>
    }

becomes, under a limit that holds one of the two,

    func.func private @segment_0(%x: tensor<8xf32>) -> tensor<8xf32> { ... tosa.abs ... }
    func.func private @segment_1(%0: tensor<8xf32>) -> tensor<8xf32> { ... tosa.exp ... }
    func.func @main(%x: tensor<8xf32>) -> tensor<8xf32> {
      %0 = call @segment_0(%x) : (tensor<8xf32>) -> tensor<8xf32>
      %1 = call @segment_1(%0) : (tensor<8xf32>) -> tensor<8xf32>
      return %1 : tensor<8xf32>
    }

Each segment carries `ic.instructions` (its kernels) and `ic.message_instructions` (the whole message: overhead and page
touches included, at most the limit).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.cost_model import Charge, CostModel, KernelCost, message_instructions
from tosaic_passes.count_instructions import INSTRUCTIONS, UPPER_BOUND
from tosaic_passes.errors import LimitTooSmallError, TosaicError
from tosaic_passes.functions import find_function, int_attribute, segments
from tosaic_passes.kernel_names import describe
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program
from tosaic_passes.segments import build_segments

MESSAGE_INSTRUCTIONS = "ic.message_instructions"


@dataclass(frozen=True)
class SplitExecutionPass:
    """Cut @main into segments that fit `limit-instructions` a message: the fewest messages, then the cheapest."""

    name: ClassVar[str] = "split-execution"
    limit_instructions: int
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        if segments(program.module):
            raise TosaicError(
                "the program is cut into segments already", "cut the program that @main holds whole"
            )
        kernels = self.cost_model.kernels(program)
        messages = _Messages(self.cost_model, program)
        messages.refuse_transfers_above(self.limit_instructions)
        cuts = best_cuts(kernels, self.limit_instructions, messages)
        stretches = [kernels[start:end] for start, end in zip([0, *cuts], [*cuts, len(kernels)])]
        with program.context, ir.Location.unknown():
            main = find_function(program.module, "main")
            functions = build_segments(main, [[op for k in s for op in k.ops] for s in stretches])
            for index, (function, stretch) in enumerate(zip(functions, stretches)):
                charge = _total(stretch)
                whole = messages.cost(charge + messages.overhead(index, index == len(cuts)))
                function.attributes[INSTRUCTIONS] = int_attribute(charge.instructions)
                function.attributes[MESSAGE_INSTRUCTIONS] = int_attribute(whole)
                if not all(kernel.exact for kernel in stretch):
                    function.attributes[UPPER_BOUND] = ir.UnitAttr.get()


@dataclass(frozen=True)
class _Messages:
    """The cost model's answers about messages, for one program."""

    model: CostModel
    program: Program

    def overhead(self, index: int, last: bool) -> Charge:
        return self.model.overhead(self.program, index, last)

    def closing_cost(self, segments: int) -> int:
        """Of the message that only replies after so many segments; 0 if there is none."""
        closing = self.model.closing(self.program, segments)
        return 0 if closing is None else self.cost(closing)

    def cost(self, charge: Charge) -> int:
        return message_instructions(self.model, charge)

    def refuse_transfers_above(self, limit: int) -> None:
        """Raise for a message that carries tensors and takes more: it is the same however the program is cut."""
        costs = [(self.cost(charge), name) for name, charge in self.model.transfers(self.program)]
        dearest, name = max(costs, default=(0, ""))
        if dearest > limit:
            raise LimitTooSmallError(f"the message '{name}'", dearest, limit)


@dataclass(frozen=True, order=True)
class _Cut:
    """A way to run everything; the smallest is the best."""

    messages: int
    instructions: int
    cuts: tuple[int, ...]


def best_cuts(kernels: Sequence[KernelCost], limit: int, messages: _Messages) -> tuple[int, ...]:
    """The kernels before which to cut: fewest messages, then fewest instructions, then the earliest cuts.

    Dynamic programming over the number of segments: `layers[n]` gives, for every j, the cheapest way to run the
    first j kernels in n segments, as its cost and where the last of these segments starts. A number of segments
    after which a closing message replies is compared with the next number, which may need no more messages. What leaves
    more to do than the messages can hold of a cut that is known is not pursued.
    Raises LimitTooSmallError when no cut fits the limit, naming one that works.
    """
    count = len(kernels)
    endings = _endings(kernels)

    @functools.cache
    def costs(start: int, extra: Charge) -> list[int]:
        return list(_message_costs(kernels, start, limit, messages, extra))

    left = _fewest_left(kernels, limit, messages, endings)
    most = _messages_when_filled(count, limit, messages, endings, costs)
    best: _Cut | None = None
    layers: list[dict[int, tuple[int, int]]] = [{0: (0, 0)}]
    for index in range(max(count, 1)):
        if best is not None and index >= best.messages:
            break
        inner, last = messages.overhead(index, False), messages.overhead(index, True)
        closing = messages.closing_cost(index + 1)
        following: dict[int, tuple[int, int]] = {}
        for start, (paid, _) in sorted(layers[index].items()):
            if index + left[start] > most:
                continue
            ending = messages.cost(endings[start] + last)
            if max(ending, closing) <= limit:
                found = _Cut(index + 1 + (closing > 0), paid + ending + closing, _trace_back(layers, start))
                best = found if best is None else min(best, found)
                most = min(most, best.messages)
            for stop, cost in enumerate(costs(start, inner), start + 1):
                if stop not in following or paid + cost < following[stop][0]:
                    following[stop] = (paid + cost, start)
        layers.append(following)
    if best is None:
        enough, what = least_limit(kernels, messages)
        raise LimitTooSmallError(what, enough, limit, f"a limit of {enough} or more works")
    return best.cuts


def _message_costs(
    kernels: Sequence[KernelCost], start: int, limit: int, messages: _Messages, extra: Charge
) -> Iterator[int]:
    """The cost of the messages that run kernels[start:end], for end = start + 1 and up while the limit holds.

    The message with the last kernel is left out: it has another overhead.
    """
    charge = extra
    for kernel in kernels[start:-1]:
        charge += kernel.charge
        cost = messages.cost(charge)
        if cost > limit:
            return
        yield cost


def _fewest_left(
    kernels: Sequence[KernelCost], limit: int, messages: _Messages, endings: Sequence[Charge]
) -> list[int]:
    """How many messages kernels[start:] need at least, for each start: as many as if they paid for kernels alone."""
    count = len(kernels)
    left = [1] * (count + 1)
    for start in reversed(range(count)):
        if messages.cost(endings[start]) > limit:
            reached = sum(1 for _ in _message_costs(kernels, start, limit, messages, Charge()))
            left[start] = 1 + left[start + reached] if reached else count + 1
    return left


def _messages_when_filled(
    count: int,
    limit: int,
    messages: _Messages,
    endings: Sequence[Charge],
    costs: Callable[[int, Charge], list[int]],
) -> int:
    """How many messages run everything if each runs as many kernels as it can; too many if one can run none."""
    start = 0
    for index in range(count):
        closing = messages.closing_cost(index + 1)
        if max(messages.cost(endings[start] + messages.overhead(index, True)), closing) <= limit:
            return index + 1 + (closing > 0)
        reached = len(costs(start, messages.overhead(index, False)))
        if not reached:
            break
        start += reached
    return count + 1


def _endings(kernels: Sequence[KernelCost]) -> list[Charge]:
    """The charge of kernels[start:], for each start."""
    endings = [Charge()]
    for kernel in reversed(kernels):
        endings.append(endings[-1] + kernel.charge)
    return endings[::-1]


def _trace_back(layers: Sequence[dict[int, tuple[int, int]]], start: int) -> tuple[int, ...]:
    cuts = []
    for layer in reversed(layers[1:]):
        cuts.append(start)
        start = layer[start][1]
    return tuple(cuts[::-1])


def least_limit(kernels: Sequence[KernelCost], messages: _Messages) -> tuple[int, str]:
    """The smallest limit that these kernels can be cut for, and what needs so much.

    Of all ways to cut them, the one whose dearest message takes least. What a message pays besides its kernels depends
    on whether a callee or a callback runs it, so `best` gives for every kernel and both kinds the least that the
    messages before it need.
    """
    if not kernels:
        return messages.cost(messages.overhead(0, True)), "the message"
    alone = max(messages.cost(kernel.charge) for kernel in kernels)
    bound = _every_kernel_alone(kernels, messages)
    best: dict[tuple[int, int], int] = {(0, 0): alone}
    endings = _endings(kernels)
    for start in range(len(kernels)):
        for place in range(3):
            if (paid := best.get((start, place), bound + 1)) > bound:
                continue
            ending = messages.cost(endings[start] + messages.overhead(place, True))
            bound = min(bound, max(paid, ending, messages.closing_cost(place + 1)))
            inner, following = messages.overhead(place, False), 2 if place == 1 else 1
            for end, cost in enumerate(_message_costs(kernels, start, bound, messages, inner), start + 1):
                reached = max(paid, cost)
                if reached < best.get((end, following), bound + 1):
                    best[end, following] = reached
    if bound == messages.closing_cost(2):
        return bound, "the reply"
    return bound, describe(max(kernels, key=lambda kernel: messages.cost(kernel.charge)))


def _every_kernel_alone(kernels: Sequence[KernelCost], messages: _Messages) -> int:
    """What the dearest message takes with one for every kernel."""
    last = len(kernels) - 1
    costs = [
        messages.cost(kernel.charge + messages.overhead(index, index == last))
        for index, kernel in enumerate(kernels)
    ]
    return max(*costs, messages.closing_cost(len(kernels)))


def _total(kernels: Sequence[KernelCost]) -> Charge:
    return sum((kernel.charge for kernel in kernels), Charge())
