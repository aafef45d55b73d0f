"""Random histories of a model whose tensors come and leave in parts, against a model of it in Python.

Two callers put, infer and get in any order, also while an inference runs; the canister is upgraded, stopped and
started. Every answer holds its own caller's numbers, every refusal its reason, and `last_cost` what was predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from copying_program import copying_program, prices_with, tensor_types
from tosaic.canister import Canister, assemble
from tosaic.canister.client import Cost, last_cost
from tosaic.canister.parts import get_argument, put_argument
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica import Reject, Replica, Ticket
from tosaic.replica.instance import CompiledModule, compile_metered
from tosaic.tensors.candid import decode, decode_values, encode
from tosaic.tensors.cbor import read_cbor, write_cbor

MANY, PART = 1_250, 2_000
COUNT = 4 * MANY // PART + 1
"""Parts of 500 numbers, the last of 250."""
CALLERS = st.sampled_from([b"\1", b"\2" * 10])
SEEDS = st.integers(0, 3)
NOTHING = encode([])
NONE = Cost(0, ())


def prices_for(reply_bytes: int) -> PriceList:
    return prices_with(ingress_bytes=12_000, reply_bytes=reply_bytes, chunk_bytes=PART)


@cache
def compiled_for(segments: int, reply_bytes: int) -> tuple[Canister, CompiledModule]:
    prices = prices_for(reply_bytes)
    canister = assemble(copying_program(prices, segments, MANY), prices)
    return canister, compile_metered(canister.wasm, prices)


def tensor(seed: int) -> np.ndarray:
    return np.arange(MANY, dtype=np.float32) + 10_000 * seed


@dataclass
class Running:
    """A call that is not answered yet, and what it must answer."""

    ticket: Ticket
    caller: bytes
    array: np.ndarray
    is_cbor: bool


@dataclass
class State:
    """What the canister must be like."""

    owner: bytes | None = None
    sent: list[np.ndarray] = field(default_factory=list)
    results: np.ndarray | None = None
    counted: Cost = NONE


class Histories(RuleBasedStateMachine):
    segments, reply_bytes = 3, 12_000

    @initialize()
    def install(self) -> None:
        self.prices = prices_for(self.reply_bytes)
        self.built, self.compiled = compiled_for(self.segments, self.reply_bytes)
        self.canister = Replica(self.prices).install(self.built.wasm, compiled=self.compiled)
        self.state, self.running, self.stopped = State(), None, False

    @property
    def gives_parts(self) -> bool:
        return self.built.cbor is None

    # The calls

    @rule(caller=CALLERS, part=st.integers(0, COUNT), seed=SEEDS)
    def put_any(self, caller: bytes, part: int, seed: int) -> None:
        self.put(caller, part, seed)

    @rule(caller=CALLERS, seed=SEEDS, count=st.integers(1, COUNT))
    def put_in_order(self, caller: bytes, seed: int, count: int) -> None:
        for part in range(count):
            self.put(caller, part, seed)

    def put(self, caller: bytes, part: int, seed: int) -> None:
        numbers = tensor(seed)[part * PART // 4 : (part + 1) * PART // 4]
        ticket = self.submit("put", put_argument(part, numbers.tobytes()), caller)
        state = self.state
        expected = caller == state.owner and part == len(state.sent)
        if self.is_closed(ticket):
            return
        if part >= COUNT:
            self.is_refused(ticket, "there are only the parts")
        elif part and not expected:
            self.is_refused(ticket, "begin with part 0")
        else:
            assert ticket.result == NOTHING
            state.sent = [*state.sent[:part], numbers] if part else [numbers]
            state.owner, state.results = caller, None

    @rule(caller=CALLERS)
    def infer(self, caller: bytes) -> None:
        ticket, state = self.submit("infer", NOTHING, caller), self.state
        if self.is_closed(ticket):
            return
        if caller != state.owner or len(state.sent) < COUNT:
            self.is_refused(ticket, "send all parts of the inputs")
            return
        self.start(Running(ticket, caller, np.concatenate(state.sent), is_cbor=False))

    @precondition(lambda self: not self.gives_parts)
    @rule(caller=CALLERS, seed=SEEDS)
    def infer_cbor(self, caller: bytes, seed: int) -> None:
        item = b"".join(write_cbor({"x": tensor(seed)}))
        argument = encode([np.frombuffer(item, np.uint8)])
        ticket = self.submit("infer_cbor", argument, caller)
        if not self.is_closed(ticket):
            self.start(Running(ticket, caller, tensor(seed), is_cbor=True))

    @precondition(lambda self: self.gives_parts and not self.stopped)
    @rule(caller=CALLERS, part=st.integers(0, COUNT - 1))
    def get(self, caller: bytes, part: int) -> None:
        result, state = self.canister.query("get", get_argument(part), caller).result, self.state
        if state.results is None or caller != state.owner:
            assert isinstance(result, Reject)
            assert "no results of a call of yours" in result.text
            return
        (blob,) = decode_values(result)
        wanted = state.results[part * PART // 4 : (part + 1) * PART // 4]
        np.testing.assert_array_equal(np.frombuffer(np.asarray(blob).tobytes(), np.float32), wanted)

    @rule()
    def step(self) -> None:
        if self.canister.replica.step():
            self.settle()

    @rule()
    def finish(self) -> None:
        while self.canister.replica.step():
            pass
        self.settle()

    # What the owner does

    @rule()
    def upgrade(self) -> None:
        replica, canister = self.canister.replica, self.canister
        if self.running:
            with pytest.raises(TosaicError, match="an inference is running"):
                replica.upgrade(canister.id, self.built.wasm, compiled=self.compiled)
        else:
            replica.upgrade(canister.id, self.built.wasm, compiled=self.compiled)
            self.state = State()

    @rule()
    def stop(self) -> None:
        self.canister.stop()
        self.stopped = True

    @rule()
    def start_again(self) -> None:
        self.canister.start()
        self.stopped = False

    @invariant()
    def tells_what_the_last_inference_took(self) -> None:
        if not self.stopped:
            assert last_cost(self.canister) == self.state.counted

    # Bookkeeping

    def submit(self, method: str, argument: bytes, caller: bytes) -> Ticket:
        """Send a call and execute its first message, after the one that a running inference waits for."""
        ticket = self.canister.submit(method, argument, caller)
        for _ in range(2 if self.running else 1):
            self.canister.replica.step()
        return ticket

    def is_closed(self, ticket: Ticket) -> bool:
        """Whether the canister takes no call: it is stopped, or an inference runs; the refusal says so."""
        self.settle()
        if self.stopped:
            self.is_refused(ticket, "is stopped")
        elif self.running:
            self.is_refused(ticket, "another inference is running")
        return self.stopped or self.running is not None

    def start(self, running: Running) -> None:
        self.state.sent, self.state.results = [], None
        self.running = running
        self.settle()

    def settle(self) -> None:
        """Check the answer of the inference if it has come."""
        running = self.running
        if running is None or running.ticket.result is None:
            return
        self.running = None
        if isinstance(running.ticket.result, Reject):
            assert "is stopped" in running.ticket.result.text
            return
        self.answered(running, running.ticket.result)

    def answered(self, running: Running, reply: bytes) -> None:
        messages = self.built.cbor if running.is_cbor else self.built.messages
        counts = tuple(m.instructions(self.prices) for m in messages if m.kind != "query")
        self.state.counted = Cost(sum(counts), counts)
        if self.gives_parts:
            assert reply == NOTHING
            self.state.results = running.array
        elif running.is_cbor:
            (blob,) = decode_values(reply)
            found = read_cbor(memoryview(np.asarray(blob).tobytes()))["y"]
            np.testing.assert_array_equal(found, running.array)
        else:
            (found,) = decode(reply, tensor_types(MANY)[1:])
            np.testing.assert_array_equal(found, running.array)

    @staticmethod
    def is_refused(ticket: Ticket, text: str) -> None:
        assert isinstance(ticket.result, Reject)
        assert text in ticket.result.text


class OneMessage(Histories):
    segments = 1


class WithCbor(Histories):
    reply_bytes = 20_000


TestHistories, TestOneMessage, TestWithCbor = Histories.TestCase, OneMessage.TestCase, WithCbor.TestCase
for machine in (TestHistories, TestOneMessage, TestWithCbor):
    machine.settings = settings(max_examples=3, stateful_step_count=25, deadline=None)
del machine
