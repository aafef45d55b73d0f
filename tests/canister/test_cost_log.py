"""`last_cost`: what the messages of the last inference read of the network's counter is what was predicted for them."""

from __future__ import annotations

import ic.candid
import numpy as np
import pytest

from chained_program import ARGUMENT, POISON, PRICES, check, program, rejection
from copying_program import copying_program, numbers, prices_with, tensor_types
from proxy_canister import Proxy
from tosaic.canister import Canister, assemble, cost_log
from tosaic.canister.client import Cost, infer, infer_cbor, last_cost
from tosaic.canister.parts import put_argument
from tosaic.policy import Access, Policy
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS
from tosaic.replica import InstalledCanister, Replica
from tosaic.tensors.candid import encode

NOTHING = Cost(0, ())
MANY = 2_000
"""Numbers that the messages of `in_parts` carry only in parts."""
HERE, ELSEWHERE = b"\1", b"\2"


def install(segments: int) -> tuple[Canister, InstalledCanister]:
    canister = assemble(program(segments), PRICES)
    return canister, Replica(PRICES).install(canister.wasm)


def predicted(messages, prices: PriceList = PRICES) -> Cost:
    counts = tuple(message.instructions(prices) for message in messages if message.kind != "query")
    return Cost(sum(counts), counts)


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 7])
def test_the_network_counts_what_was_predicted(segments: int) -> None:
    canister, installed = install(segments)
    assert last_cost(installed) == NOTHING
    for _ in range(3):
        check(installed.update("infer", ARGUMENT), segments)
        assert last_cost(installed) == predicted(canister.messages)


def test_candid_libraries_read_it() -> None:
    """131 messages: a length of two bytes."""
    canister, installed = install(130)
    check(installed.update("infer", ARGUMENT), 130)
    types = [ic.candid.Types.Nat64, ic.candid.Types.Vec(ic.candid.Types.Nat64)]
    total, each = ic.candid.decode(installed.query("last_cost", encode([])).reply, types)
    assert Cost(total["value"], tuple(each["value"])) == predicted(canister.messages)
    assert "last_cost : () -> (instructions : nat64, messages : vec nat64) query;" in canister.did


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_infer_cbor_is_counted_as_well(segments: int) -> None:
    canister = assemble(copying_program(PRICES, segments), PRICES)
    installed = Replica(PRICES).install(canister.wasm)
    x, y = tensor_types()
    infer_cbor(installed, [x], [y], [numbers()])
    assert last_cost(installed) == predicted(canister.cbor)
    infer(installed, [x], [y], [numbers()], PRICES)
    assert last_cost(installed) == predicted(canister.messages)


def test_a_query_keeps_nothing() -> None:
    canister, installed = install(1)
    installed.query("infer_query", ARGUMENT)
    assert last_cost(installed) == NOTHING
    installed.update("infer", ARGUMENT)
    installed.query("infer_query", ARGUMENT)
    assert last_cost(installed) == predicted(canister.messages)


def test_a_running_inference_does_not_show() -> None:
    canister, installed = install(5)
    seen = []
    for _ in range(2):
        installed.submit("infer", ARGUMENT)
        while installed.replica.step():
            seen.append(last_cost(installed))
    done = predicted(canister.messages)
    assert seen == [NOTHING] * 4 + [done] * 6


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_an_inference_that_traps_does_not_show(k: int) -> None:
    canister, installed = install(4)
    x = np.ones(4, np.float32)
    x[k] = POISON
    poisoned = encode([x, np.zeros(2, np.int64)])
    installed.update("infer", poisoned)
    assert last_cost(installed) == NOTHING
    for _ in range(2):
        installed.update("infer", ARGUMENT)
        assert last_cost(installed) == predicted(canister.messages)
        installed.update("infer", poisoned)
    assert last_cost(installed) == predicted(canister.messages)


def test_a_refused_caller_does_not_show() -> None:
    canister, installed = install(3)
    installed.submit("infer", ARGUMENT)
    installed.submit("infer", ARGUMENT)
    while installed.replica.step():
        pass
    installed.update("infer", b"")
    assert last_cost(installed) == predicted(canister.messages)


def test_an_upgrade_forgets() -> None:
    canister, installed = install(3)
    installed.update("infer", ARGUMENT)
    installed.upgrade(canister.wasm)
    assert last_cost(installed) == NOTHING


@pytest.mark.parametrize("segments", [1, 3])
def test_the_sum_is_of_all_where_there_is_no_room_for_each(segments: int, monkeypatch) -> None:
    monkeypatch.setattr(cost_log, "MOST_READINGS", 2)
    canister, installed = install(segments)
    for _ in range(2):
        installed.update("infer", ARGUMENT)
        counted = predicted(canister.messages)
        assert last_cost(installed) == Cost(counted.instructions, counted.messages[:2])


def in_parts(segments: int, reply_bytes: int = 12_000) -> tuple[Canister, InstalledCanister, PriceList]:
    prices = prices_with(ingress_bytes=12_000, reply_bytes=reply_bytes, chunk_bytes=1_000)
    canister = assemble(copying_program(prices, segments, MANY), prices)
    return canister, Replica(prices).install(canister.wasm), prices


def send(installed: InstalledCanister, parts: range, caller: bytes) -> None:
    data = numbers(MANY).tobytes()
    for part in parts:
        argument = put_argument(part, data[1_000 * part : 1_000 * (part + 1)])
        assert installed.update("put", argument, caller).reply == encode([])


@pytest.mark.parametrize("segments", [1, 2])
def test_parts_of_inputs_are_messages_of_the_inference(segments: int) -> None:
    canister, installed, prices = in_parts(segments)
    x, y = tensor_types(MANY)
    for _ in range(2):
        infer(installed, [x], [y], [numbers(MANY)], prices)
        assert last_cost(installed) == predicted(canister.messages, prices)


def test_parts_that_were_sent_in_vain_do_not_count() -> None:
    canister, installed, prices = in_parts(2, reply_bytes=20_000)
    parts = sum(message.name == "put" for message in canister.messages)
    x, y = tensor_types(MANY)
    send(installed, range(3), HERE)
    send(installed, range(parts), ELSEWHERE)
    infer_cbor(installed, [x], [y], [numbers(MANY)])
    assert last_cost(installed) == predicted(canister.cbor, prices)
    send(installed, range(2), HERE)
    send(installed, range(parts), ELSEWHERE)
    installed.update("infer", encode([]), ELSEWHERE)
    assert last_cost(installed) == predicted(canister.messages, prices)


def test_it_tells_those_who_may_infer() -> None:
    replica = Replica(PRICES)
    friend, stranger = Proxy(replica), Proxy(replica)
    policy = Policy(Access(principals=(friend.id,)))
    model = replica.install(assemble(copying_program(PRICES), PRICES, policy=policy).wasm)
    assert friend.call(model.id, "last_cost", encode([])).reply
    for response in (
        stranger.call(model.id, "last_cost", encode([])),
        model.query("last_cost", encode([]), ANONYMOUS),
    ):
        assert "lets only these call it" in rejection(response)
    assert rejection(model.update("last_cost", encode([]))).endswith("rejected the message")
