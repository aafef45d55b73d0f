"""Models that fetch shared weights from a store, or from each other: checked, resumed, predicted, end to end."""

from __future__ import annotations

import numpy as np
import pytest

from copying_program import copying_program
from proxy_canister import Proxy
from tosaic.canister import Canister, assemble
from tosaic.canister.blob import blob_argument
from tosaic.canister.client import fetch_chunks, missing_chunks, put_chunk
from tosaic.canister.fetch import fetch_argument
from tosaic.canister.store import assemble_store
from tosaic.canister.store.client import StoreClient, by_digest
from tosaic.canister.store.layout import Layout
from tosaic.errors import TosaicError
from tosaic.policy import Access, Policy, Weights
from tosaic.prices import PriceList
from tosaic.replica import InstalledCanister, Reject, Replica, Response, principal_text
from tosaic.tensors.candid import decode_values, encode
from weighted_program import ARGUMENT, COUNT, PRICES, expected, program, result

OWNER, STRANGER = b"\x07" * 29, b"\x08" * 29
STORE = assemble_store(PRICES)
MODEL, OTHER_HEAD = (assemble(program(head=head), PRICES) for head in (0, 1))
HEAD_CHUNKS = 2
"""Chunks that hold bytes of the head."""


def chunks_of(*models: Canister) -> dict[bytes, bytes | memoryview]:
    return by_digest(chunk.data for model in models for chunk in model.weights)


def rejection(response: Response) -> str:
    assert isinstance(response.result, Reject)
    return response.result.text


def install(replica: Replica, model: Canister = MODEL) -> InstalledCanister:
    return replica.install(model.wasm, controllers=[OWNER])


def network(*models: Canister) -> tuple[StoreClient, list[InstalledCanister]]:
    """A store and model canisters that may read from it."""
    replica = Replica(PRICES)
    store = StoreClient(replica.install(STORE.wasm, controllers=[OWNER]), OWNER)
    installed = [install(replica, model) for model in models]
    for canister in installed:
        store.allow(canister.id)
    return store, installed


def fetch(canister: InstalledCanister, store: StoreClient) -> Response:
    return canister.update("fetch_chunks", fetch_argument(store.canister.id), OWNER)


def test_two_models_share_what_a_store_has() -> None:
    store, (model, other) = network(MODEL, OTHER_HEAD)
    assert len(list(store.upload(chunks_of(MODEL)))) == COUNT
    assert len(list(store.upload(chunks_of(OTHER_HEAD)))) == HEAD_CHUNKS
    store.seal()
    for canister in (model, other):
        assert "weights are not all there" in rejection(canister.update("infer", ARGUMENT))
        fetch_chunks(canister, store.canister.id, OWNER)
        assert missing_chunks(canister) == []
    assert result(model) == expected()
    assert result(other) == expected(head=1)


def test_messages_take_what_was_predicted() -> None:
    store, (model,) = network(MODEL)
    list(store.upload(chunks_of(MODEL)))
    response = fetch(model, store)
    assert decode_values(response.reply) == [0]
    executed = [(m.name, m.metered, m.page_touch) for m in response.messages if m.name != "get_chunk"]
    predicted = [(m.name, m.instructions(PRICES), m.page_touch(PRICES)) for m in MODEL.fetches]
    assert executed == predicted
    given = [m.metered for m in response.messages if m.name == "get_chunk"]
    sizes = [len(chunk.data) for chunk in MODEL.weights]
    assert given == [STORE.get_chunk(size, COUNT).instructions(PRICES) for size in sizes]


def test_a_fetch_goes_on_where_an_upload_ended() -> None:
    store, (model,) = network(MODEL)
    list(store.upload(chunks_of(MODEL)))
    for number in (0, 5, 6, COUNT - 1):
        put_chunk(model, number, MODEL.weights[number].data, OWNER)
    response = fetch(model, store)
    assert [m.name for m in response.messages].count("get_chunk") == COUNT - 4
    assert result(model) == expected()
    again = fetch(model, store)
    assert decode_values(again.reply) == [0]
    assert [m.name for m in again.messages] == ["fetch_chunks"]


def test_what_the_store_lacks_is_named_and_what_arrived_stays() -> None:
    store, (model,) = network(MODEL)
    gap = 41
    store.declare(chunks_of(MODEL))
    for chunk in [*MODEL.weights[:gap], *MODEL.weights[gap + 1 :]]:
        store.put_chunk(chunk.data)
    text = rejection(fetch(model, store))
    assert (
        text
        == f"the store did not give chunk {gap}: the store waits for this chunk: it was declared and not put there yet"
    )
    assert missing_chunks(model) == list(range(gap, COUNT))
    store.put_chunk(MODEL.weights[gap].data)
    fetch_chunks(model, store.canister.id, OWNER)
    assert result(model) == expected()


@pytest.mark.parametrize(
    ("callee", "text"),
    [
        ("nobody", "the store did not give chunk 0: Canister .* not found"),
        ("model", "the store did not give chunk 0: Canister .* has no update method 'get_chunk'"),
        ("store", "the store did not give chunk 0: the store gives chunks only to those"),
    ],
)
def test_rejections_reach_the_caller_and_free_the_canister(callee: str, text: str) -> None:
    replica = Replica(PRICES)
    store, model = replica.install(STORE.wasm, controllers=[OWNER]), install(replica)
    ids = {"nobody": bytes(8) + b"\1\1", "model": model.id, "store": store.id}
    for _ in range(2):
        with pytest.raises(TosaicError, match=text):
            fetch_chunks(model, ids[callee], OWNER)
    assert len(missing_chunks(model)) == COUNT


def corrupt(store: StoreClient, digest: bytes) -> None:
    """Flip a bit of a chunk in the store's stable memory."""
    stable = store.canister.replica.canisters[store.canister.id].stable
    data = bytes(chunks_of(MODEL)[digest])
    stable[bytes(stable).index(data)] ^= 1


@pytest.mark.parametrize("number", [0, 12, COUNT - 1])
def test_a_chunk_that_changed_in_the_store_is_found_and_named(number: int) -> None:
    store, (model,) = network(MODEL)
    list(store.upload(chunks_of(MODEL)))
    corrupt(store, MODEL.weights[number].digest)
    text = rejection(fetch(model, store))
    assert text.endswith(f"only data with the sha256 {MODEL.weights[number].digest.hex()} is chunk {number}")
    assert missing_chunks(model) == list(range(number, COUNT))
    put_chunk(model, number, MODEL.weights[number].data, OWNER)
    fetch_chunks(model, store.canister.id, OWNER)
    assert result(model) == expected()


def test_a_reply_of_another_length_is_refused() -> None:
    replica = Replica(PRICES)
    other = assemble_store(PRICES)
    store = StoreClient(replica.install(other.wasm, controllers=[OWNER]), OWNER)
    model = install(replica)
    store.allow(model.id)
    list(store.upload(chunks_of(MODEL)))
    sizes = replica.canisters[store.canister.id].instance
    position = list(store.chunks()).index(MODEL.weights[0].digest)
    sizes.write(Layout.of(PRICES).listed.sizes.address + 4 * position, (959).to_bytes(4, "little"))
    assert "something else than the chunk" in rejection(fetch(model, store))
    assert len(missing_chunks(model)) == COUNT


def test_uploads_and_fetches_at_the_same_time_lose_nothing() -> None:
    store, (model, other) = network(MODEL, OTHER_HEAD)
    list(store.upload(chunks_of(MODEL, OTHER_HEAD)))
    replica = store.canister.replica
    tickets = [
        c.submit("fetch_chunks", fetch_argument(store.canister.id), OWNER) for c in (model, other, model)
    ]
    rng = np.random.default_rng(3)
    numbers = rng.permutation(COUNT).tolist()
    while numbers or replica.step():
        if numbers:
            number = numbers.pop()
            put_chunk(model, number, MODEL.weights[number].data, OWNER)
            replica.step()
    assert [isinstance(ticket.result, Reject) for ticket in tickets] == [False, False, True]
    assert "fetching already" in tickets[2].result.text
    assert (missing_chunks(model), missing_chunks(other)) == ([], [])
    assert (result(model), result(other)) == (expected(), expected(head=1))


@pytest.mark.parametrize("segments", [1, 2])
def test_an_upgrade_in_the_middle_ends_the_fetch_and_keeps_what_arrived(segments: int) -> None:
    store, (model,) = network(MODEL)
    list(store.upload(chunks_of(MODEL)))
    replica = store.canister.replica
    ticket = model.submit("fetch_chunks", fetch_argument(store.canister.id), OWNER)
    for _ in range(20):
        replica.step()
    before = missing_chunks(model)
    newer = assemble(program(segments), PRICES)
    model.upgrade(newer.wasm)
    assert missing_chunks(model) == before
    while replica.step():
        pass
    assert isinstance(ticket.result, bytes)
    assert decode_values(ticket.result) == [len(before) - 1]
    assert missing_chunks(model) == before[1:]
    fetch_chunks(model, store.canister.id, OWNER)
    assert result(model) == expected()


def test_an_upgrade_of_the_store_in_the_middle_changes_nothing() -> None:
    store, (model,) = network(MODEL)
    list(store.upload(chunks_of(MODEL)))
    ticket = model.submit("fetch_chunks", fetch_argument(store.canister.id), OWNER)
    for _ in range(20):
        store.canister.replica.step()
    store.canister.upgrade(STORE.wasm)
    while store.canister.replica.step():
        pass
    assert ticket.result == encode_missing(0)
    assert result(model) == expected()


def test_a_store_that_is_stopped_in_the_middle_is_told_and_what_arrived_stays() -> None:
    store, (model,) = network(MODEL)
    list(store.upload(chunks_of(MODEL)))
    replica = store.canister.replica
    ticket = model.submit("fetch_chunks", fetch_argument(store.canister.id), OWNER)
    for _ in range(20):
        replica.step()
    replica.stop(store.canister.id)
    while replica.step():
        pass
    missing = missing_chunks(model)
    assert isinstance(ticket.result, Reject)
    assert ticket.result.text.startswith(f"the store did not give chunk {missing[0]}: ")
    assert 0 < len(missing) < COUNT
    replica.start(store.canister.id)
    fetch_chunks(model, store.canister.id, OWNER)
    assert result(model) == expected()


def encode_missing(count: int) -> bytes:
    return b"DIDL\0\1\x79" + count.to_bytes(4, "little")


def test_only_controllers_let_a_canister_fetch() -> None:
    store, (model,) = network(MODEL)
    argument = fetch_argument(store.canister.id)
    assert "rejected the message" in rejection(model.update("fetch_chunks", argument, STRANGER))
    proxy = Proxy(store.canister.replica)
    assert "only a controller" in rejection(proxy.call(model.id, "fetch_chunks", argument))


@pytest.mark.parametrize(
    "argument",
    [b"", encode([]), fetch_argument(bytes(9)), fetch_argument(bytes(11)), fetch_argument(bytes(10)) + b"\0"],
    ids=range(5),
)
def test_refuses_what_is_no_canister(argument: bytes) -> None:
    _, (model,) = network(MODEL)
    assert "not one principal of a canister" in rejection(model.update("fetch_chunks", argument, OWNER))


def readable(access: str = "public") -> Canister:
    policy = Policy(Access.parse(access), weights=Weights.UPLOADED, weights_private=False)
    return assemble(program(), PRICES, policy=policy)


def test_a_model_whose_weights_are_not_private_is_a_store_for_others() -> None:
    replica = Replica(PRICES)
    source, target = install(replica, readable()), install(replica)
    assert "missing here as well" in rejection(
        target.update("fetch_chunks", fetch_argument(source.id), OWNER)
    )
    for number, chunk in enumerate(MODEL.weights):
        put_chunk(source, number, chunk.data, OWNER)
    fetch_chunks(target, source.id, OWNER)
    assert result(target) == expected()
    unknown = source.query("get_chunk", blob_argument(bytes(32)))
    assert "no chunk of these weights" in rejection(unknown)
    assert "not one blob of 32 bytes" in rejection(source.query("get_chunk", blob_argument(bytes(31))))


def test_giving_weights_takes_what_was_predicted() -> None:
    model = readable()
    source = install(Replica(PRICES), model)
    for number, chunk in enumerate(model.weights):
        put_chunk(source, number, chunk.data, OWNER)
    for chunk, planned in zip(model.weights, model.gives, strict=True):
        (message,) = source.query("get_chunk", blob_argument(chunk.digest)).messages
        assert message.metered == planned.instructions(PRICES)


def test_weights_that_are_not_private_go_to_those_who_may_infer() -> None:
    replica = Replica(PRICES)
    target = install(replica)
    source = install(replica, readable(principal_text(target.id)))
    for number, chunk in enumerate(MODEL.weights):
        put_chunk(source, number, chunk.data, OWNER)
    fetch_chunks(target, source.id, OWNER)
    argument = blob_argument(MODEL.weights[0].digest)
    assert "lets only these call it" in rejection(source.query("get_chunk", argument, STRANGER))
    assert "rejected the message" in rejection(source.update("get_chunk", argument, STRANGER))


def test_private_weights_have_no_method_that_gives_them() -> None:
    _, (model,) = network(MODEL)
    assert "get_chunk" not in MODEL.did
    assert "no query method" in rejection(model.query("get_chunk", blob_argument(MODEL.weights[0].digest)))


def test_the_owner_decides_where_weights_are() -> None:
    prices = PriceList.load()
    uploaded = assemble(program(), prices, policy=Policy(weights=Weights.UPLOADED))
    assert len(uploaded.weights) == 1
    assert assemble(program(), prices).weights == ()
    assert assemble(program(), PRICES, policy=Policy(weights=Weights.MODULE)).weights == ()
    assert assemble(copying_program(prices), prices, policy=Policy(weights=Weights.UPLOADED)).weights == ()
    with pytest.raises(TosaicError, match="the module holds the weights"):
        assemble(program(), prices, policy=Policy(weights_private=False))
