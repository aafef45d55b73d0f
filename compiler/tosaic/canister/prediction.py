"""The messages of an inference as they are predicted, from the entry points that were emitted for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tosaic.canister.entry import Entry
from tosaic.canister.parts import GET, PUT, InputParts, OutputParts, put_argument_bytes
from tosaic.canister.planned_message import REPLY_CALLBACK, STEP, PlannedMessage
from tosaic.canister.wire import Wire
from tosaic_passes.cost_model import Charge


def planned_puts(put: InputParts) -> Iterator[PlannedMessage]:
    """The messages that bring the inputs in parts."""
    for index, part in enumerate(put.parts):
        received = len(PUT) + put_argument_bytes(part.size)
        yield PlannedMessage(PUT, "update", put.charge(index), True, received)


def planned_gets(get: OutputParts) -> Iterator[PlannedMessage]:
    """The messages that take the outputs in parts."""
    for index in range(len(get.parts)):
        yield PlannedMessage(GET, "query", get.charge(index), True, replied_bytes=get.reply_bytes(index))


def planned_call(wire: Wire, first: Entry, step: Entry, pieces: Sequence[Entry]) -> list[PlannedMessage]:
    """The messages of one call in this encoding: the first one, and those that run `pieces`."""
    method = wire.method
    found = [_message(method, "update", first, received=len(method) + wire.arguments.size)]
    for k, piece in enumerate(pieces, start=1):
        if k % 2:
            found.append(_message(STEP, "update", step, piece, received=len(STEP)))
        else:
            found.append(_message(f"{method}: reply callback", REPLY_CALLBACK, piece))
    return [*found[:-1], replace(found[-1], replied_bytes=wire.results.size)]


def _message(name: str, kind: str, *entries: Entry, received: int = 0) -> PlannedMessage:
    charges = [Charge(entry.function.cost, entry.reads, entry.writes) for entry in entries]
    exact = all(entry.function.exact for entry in entries)
    return PlannedMessage(name, kind, sum(charges, Charge()), exact, received)
