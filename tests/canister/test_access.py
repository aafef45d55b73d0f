"""Who may call which method: checked by the method for every way to call it, with an exact prediction."""

from __future__ import annotations

import numpy as np
import pytest

from copying_program import copying_program, numbers, prices_with, tensor_types
from proxy_canister import Proxy
from tosaic.canister import Canister, assemble
from tosaic.canister.client import infer
from tosaic.canister.parts import get_argument, put_argument
from tosaic.errors import TosaicError
from tosaic.policy import Access, Policy
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS, principal_text
from tosaic.replica import InstalledCanister, Reject, Replica, Response
from tosaic.tensors.candid import encode
from tosaic.tensors.cbor import write_cbor

PRICES = PriceList.load()
ARGUMENT = encode([numbers()])
SMALL_MESSAGES = prices_with(ingress_bytes=12_000, reply_bytes=12_000, chunk_bytes=1_000)
MANY = 2_000
"""Numbers that SMALL_MESSAGES carries only in parts."""
OWNER, FRIEND, STRANGER = b"\x07" * 29, b"\x08" * 10, b"\x09" * 29
LISTS = {
    "controllers": [OWNER],
    principal_text(FRIEND): [FRIEND],
    f"controllers,{principal_text(FRIEND)},{principal_text(ANONYMOUS)}": [OWNER, FRIEND, ANONYMOUS],
    "public": [OWNER, FRIEND, STRANGER, ANONYMOUS],
}
"""Each list with callers that have access."""
NOBODY_ELSE = [STRANGER, FRIEND[:9], FRIEND + b"\x08", OWNER[:28], FRIEND.ljust(29, b"\0"), b"\0"]


def install(access: str, segments: int = 1) -> tuple[Canister, InstalledCanister]:
    canister = assemble(copying_program(PRICES, segments), PRICES, policy=Policy(Access.parse(access)))
    return canister, Replica(PRICES).install(canister.wasm, controllers=[OWNER])


def rejection(response: Response) -> str:
    assert isinstance(response.result, Reject)
    return response.result.text


@pytest.mark.parametrize("access", LISTS)
@pytest.mark.parametrize("segments", [1, 2])
def test_who_has_access_pays_what_was_predicted(access: str, segments: int) -> None:
    canister, installed = install(access, segments)
    for caller in LISTS[access]:
        messages = installed.update("infer", ARGUMENT, caller).messages
        assert [m.metered for m in messages] == [m.instructions(PRICES) for m in canister.messages]
        if canister.query:
            (query,) = installed.query("infer_query", ARGUMENT, caller).messages
            assert query.metered == canister.query.instructions(PRICES)


@pytest.mark.parametrize("access", [access for access in LISTS if access != "public"])
def test_others_are_refused_by_queries_and_from_outside(access: str) -> None:
    _, installed = install(access)
    for caller in NOBODY_ELSE:
        text = rejection(installed.query("infer_query", ARGUMENT, caller))
        assert text.startswith("the owner of this canister lets only these call it: ")
        assert rejection(installed.update("infer", ARGUMENT, caller)).endswith("rejected the message")
        assert rejection(installed.update("infer_query", ARGUMENT, caller)).endswith("rejected the message")


def test_infer_cbor_asks_who_calls() -> None:
    canister, installed = install("controllers")
    argument = encode([np.frombuffer(b"".join(write_cbor({"x": numbers()})), np.uint8)])
    assert rejection(installed.update("infer_cbor", argument, FRIEND)).endswith("rejected the message")
    messages = installed.update("infer_cbor", argument, OWNER).messages
    assert canister.cbor is not None
    assert [m.metered for m in messages] == [m.instructions(PRICES) for m in canister.cbor]
    replica = Replica(PRICES)
    target = replica.install(canister.wasm)
    text = rejection(Proxy(replica).call(target.id, "infer_cbor", argument))
    assert "the owner of this canister lets only these call it: controllers" in text


@pytest.mark.parametrize("method", ["infer", "infer_cbor"])
def test_every_encoding_is_checked_before_it_is_read(method: str) -> None:
    _, installed = install(principal_text(FRIEND))
    proxy = Proxy(installed.replica)
    assert "lets only these call it" in rejection(proxy.call(installed.id, method, b""))
    assert rejection(installed.update(method, b"", STRANGER)).endswith("rejected the message")
    assert "lets only" not in rejection(installed.update(method, b"", FRIEND))


@pytest.mark.parametrize("segments", [1, 3])
def test_the_method_itself_refuses_canisters(segments: int) -> None:
    replica = Replica(PRICES)
    stranger, friend = Proxy(replica), Proxy(replica)
    policy = Policy(Access(principals=(friend.id,)))
    model = replica.install(assemble(copying_program(PRICES, segments), PRICES, policy=policy).wasm)
    assert "lets only these call it" in rejection(stranger.call(model.id, "infer", ARGUMENT))
    assert friend.call(model.id, "infer", ARGUMENT).reply


def test_calls_from_outside_to_step_are_declined() -> None:
    _, installed = install("public", 3)
    for caller in (OWNER, ANONYMOUS, installed.id[:9], installed.id + b"\1"):
        assert rejection(installed.update("step", caller=caller)).endswith("rejected the message")
    assert "Canister" not in rejection(installed.update("infer", b""))


def transfers() -> tuple[Canister, InstalledCanister]:
    whole = copying_program(SMALL_MESSAGES, 2, MANY)
    canister = assemble(whole, SMALL_MESSAGES, policy=Policy(Access(principals=(FRIEND,))))
    return canister, Replica(SMALL_MESSAGES).install(canister.wasm)


def transfer(installed: InstalledCanister, caller: bytes):
    x, y = tensor_types(MANY)
    return infer(installed, [x], [y], [numbers(MANY)], SMALL_MESSAGES, caller)


def test_transfers_in_parts_are_checked_and_predicted() -> None:
    canister, installed = transfers()
    found = transfer(installed, FRIEND)
    np.testing.assert_array_equal(found.outputs[0], numbers(MANY))
    predicted = [(m.name, m.instructions(SMALL_MESSAGES)) for m in canister.messages]
    assert [(m.name, m.metered) for m in found.messages] == predicted
    with pytest.raises(TosaicError, match="rejected the message"):
        transfer(installed, STRANGER)
    assert "lets only these" in rejection(installed.query("get", get_argument(0), STRANGER))


def test_parts_from_canisters_without_access_are_refused() -> None:
    _, installed = transfers()
    argument = put_argument(0, numbers(MANY).tobytes()[:1000])
    assert "lets only these" in rejection(Proxy(installed.replica).call(installed.id, "put", argument))


def test_the_check_touches_no_other_page() -> None:
    def page_touch(access: str) -> int:
        canister = assemble(copying_program(PRICES), PRICES, policy=Policy(Access.parse(access)))
        return canister.messages[0].page_touch(PRICES)

    assert {page_touch(access) for access in LISTS} == {page_touch("public")}


def test_many_principals_cost_each_the_same() -> None:
    def cost(count: int) -> int:
        principals = tuple(bytes([i]) for i in range(count))
        policy = Policy(Access(principals=principals))
        return assemble(copying_program(PRICES), PRICES, policy=policy).messages[0].instructions(PRICES)

    assert cost(100) - cost(99) == cost(2) - cost(1) < 20
    assert PriceList.load().limits["inspect_instructions"] > cost(100)
