"""What the messages of an inference take besides kernels, for a program that is not cut yet.

The canister is built around segments without bodies; what its messages take is the overhead.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from tosaic.canister.messages import Messages
from tosaic.canister.parts import PUT
from tosaic.policy import DEFAULT_POLICY, Policy
from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.program import SegmentCode, WasmProgram
from tosaic_passes.cost_model import Charge


def message_overhead(
    program: WasmProgram, prices: PriceList, index: int, last: bool, policy: Policy = DEFAULT_POLICY
) -> Charge:
    """What the message that runs the segment `index` takes besides the body of the segment's function.

    Included is the call of the segment's function and its entry. `last` says whether it is the program's last
    segment; `program` gives the tensors of the border, its segments do not matter.
    """
    index = index if index < 3 else 1 + (index - 1) % 2
    return _charges(program, prices, index + (1 if last else 2), policy)[index]


def closing_message(
    program: WasmProgram, prices: PriceList, segments: int, policy: Policy = DEFAULT_POLICY
) -> Charge | None:
    """What the further message takes that replies after an even number of segments; None where there is none.

    It takes less than any message that replies after a segment.
    """
    return None if segments % 2 else _charges(program, prices, 2, policy)[2]


def transfer_messages(
    program: WasmProgram, prices: PriceList, policy: Policy = DEFAULT_POLICY
) -> list[tuple[str, Charge]]:
    """The messages that bring parts of the inputs, each with its method."""
    messages = _without_bodies(program, prices, 2, policy)
    return [(PUT, messages.put.charge(i)) for i in range(len(messages.put.parts))] if messages.put else []


@functools.lru_cache(maxsize=8)
def _charges(program: WasmProgram, prices: PriceList, segments: int, policy: Policy) -> tuple[Charge, ...]:
    """The messages of a call that runs so many segments without bodies."""
    messages = _without_bodies(program, prices, segments, policy)
    return tuple(message.charge for message in messages.planned_call())


def _without_bodies(program: WasmProgram, prices: PriceList, segments: int, policy: Policy) -> Messages:
    nothing = SegmentCode("nothing", Function("nothing", prices), 0, 0, True, 0)
    return Messages(replace(program, segments=(nothing,) * segments), prices, policy)
