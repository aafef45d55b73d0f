"""Loops by iterations: a `tosa.while_loop` becomes several, each of which runs some of its trips.

Every part counts its own trips from 0 and hands its states to the next one. Where the number of trips is known for
sure, the count alone ends a part; else the loop's own condition does so as well, and the parts behind it then make no
trip.

Where not even one trip fits, the trips are laid out behind one another, each in a branch of its own unless their number
is sure; so the ops of a trip are cut like any others.
"""

from __future__ import annotations

import math

import numpy as np
from torch_mlir import ir

from tosaic_passes.cost_model import CostModel, KernelCost, Trips, message_instructions
from tosaic_passes.regions import copy_body

_MARGIN = 1.01
_MOST_OPS = 4096
"""Of the trips of a loop that are laid out: the code grows with each."""


def trips_within(kernel: KernelCost, trips: Trips, room: int, model: CostModel) -> int:
    """How many trips of a loop take at most `room` together, page touches included; 0 if none."""
    pages, a_trip = _costs(kernel, trips, model)
    return max(0, (room - pages) // a_trip)


def least_cost(kernel: KernelCost, trips: Trips, model: CostModel) -> int:
    """What one trip takes."""
    return sum(_costs(kernel, trips, model))


def _costs(kernel: KernelCost, trips: Trips, model: CostModel) -> tuple[int, int]:
    """What the pages of a loop take, and about what a trip does."""
    pages = message_instructions(model, kernel.charge) - kernel.charge.instructions
    return pages, math.ceil(kernel.charge.instructions / max(trips.most, 1) * _MARGIN)


def can_be_laid_out(loop: ir.Operation, trips: Trips) -> bool:
    """Whether the trips behind one another are not too many ops; a loop may make none."""
    ops = sum(len(list(region.blocks[0].operations)) for region in loop.regions)
    return ops * trips.most <= _MOST_OPS


def lay_out_trips(loop: ir.Operation, trips: Trips) -> None:
    """Put the trips of a loop in its place, one behind the other. Needs a context."""
    states = list(loop.operands)
    test, body = (region.blocks[0] for region in loop.regions)
    with ir.InsertionPoint(loop), loop.location:
        for _ in range(trips.most):
            if trips.exact:
                states = copy_body(body, states)
            else:
                (goes_on,) = copy_body(test, states)
                states = _trip_if(goes_on, body, states)
    for old, new in zip(loop.results, states):
        old.replace_all_uses_with(new)
    loop.erase()


def _trip_if(goes_on: ir.Value, body: ir.Block, states: list[ir.Value]) -> list[ir.Value]:
    """A branch that makes a trip if the flag says so, and else leaves the states as they are."""
    types = [state.type for state in states]
    branch = ir.Operation.create("tosa.cond_if", types, [goes_on, *states], regions=2)
    for region, makes_trip in zip(branch.regions, (True, False)):
        block = region.blocks.append(*types, arg_locs=[branch.location] * len(types))
        with ir.InsertionPoint(block):
            arguments = list(block.arguments)
            ir.Operation.create(
                "tosa.yield", operands=copy_body(body, arguments) if makes_trip else arguments
            )
    return list(branch.results)


def cut_loop(loop: ir.Operation, trips: Trips, size: int) -> None:
    """Put loops of at most `size` trips each in the place of one. Needs a context."""
    states = list(loop.operands)
    with ir.InsertionPoint(loop):
        for start in range(0, trips.most, size):
            count = min(size, trips.most - start)
            states = _part(loop, states, count, trips.exact)
    for old, new in zip(loop.results, states):
        old.replace_all_uses_with(new)
    loop.erase()


def _part(loop: ir.Operation, states: list[ir.Value], count: int, exact: bool) -> list[ir.Value]:
    """The loop from these states on, for `count` trips; the states after it."""
    clone = loop.clone().operation
    test, body = (region.blocks[0] for region in clone.regions)
    flag = ir.RankedTensorType(_terminator(test).operands[0].type)
    counter = ir.RankedTensorType.get(flag.shape, ir.IntegerType.get_signless(32))
    _end_test(test, test.add_argument(counter, loop.location), count, exact)
    _end_body(body, body.add_argument(counter, loop.location))
    part = ir.Operation.create(
        loop.name,
        results=[*(result.type for result in loop.results), counter],
        operands=[*states, _number(0, counter)],
        attributes={name: loop.attributes[name] for name in loop.attributes if not name.startswith("ic.")},
        regions=2,
        loc=loop.location,
    )
    for block, region in zip((test, body), part.regions):
        block.append_to(region)
    clone.erase()
    return list(part.results)[:-1]


def _end_test(block: ir.Block, counter: ir.Value, count: int, exact: bool) -> None:
    """Go on while the counter is below `count`, and unless that is sure, while the loop itself would."""
    end = _terminator(block)
    goes_on = end.operands[0]
    with ir.InsertionPoint(end):
        goes_on_counting = ir.Operation.create(
            "tosa.greater", [goes_on.type], [_number(count, counter.type), counter]
        ).results[0]
        if not exact:
            goes_on_counting = ir.Operation.create(
                "tosa.logical_and", [goes_on.type], [goes_on_counting, goes_on]
            ).results[0]
        ir.Operation.create(end.name, operands=[goes_on_counting], loc=end.location)
    end.erase()
    if exact:
        _erase_unread(block)


def _end_body(block: ir.Block, counter: ir.Value) -> None:
    end = _terminator(block)
    with ir.InsertionPoint(end):
        following = ir.Operation.create(
            "tosa.add", [counter.type], [counter, _number(1, counter.type)]
        ).results[0]
        ir.Operation.create(end.name, operands=[*end.operands, following], loc=end.location)
    end.erase()


def _erase_unread(block: ir.Block) -> None:
    """What only the condition read that is there no more."""
    *before, _ = list(block.operations)
    for op in reversed(before):
        if not any(True for result in op.operation.results for _ in result.uses):
            op.operation.erase()


def _terminator(block: ir.Block) -> ir.Operation:
    return block.operations[len(block.operations) - 1].operation


def _number(value: int, type: ir.Type) -> ir.Value:
    shape = ir.RankedTensorType(type).shape
    values = ir.DenseElementsAttr.get(np.full(shape, value, np.int32), type=type)
    return ir.Operation.create("tosa.const", [type], [], {"values": values}).results[0]
