"""The store: chunks by their sha256, declared, uploaded in any order, handed out to few, kept over upgrades."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copying_program import copying_program, prices_with
from proxy_canister import Proxy
from tosaic.canister import assemble
from tosaic.canister.blob import BLOB_HEADER, blob_argument
from tosaic.canister.store import Store, assemble_store, principal_argument
from tosaic.canister.store.client import Status, StoreClient, by_digest
from tosaic.errors import TosaicError
from tosaic.policy import EVERYONE, Access
from tosaic.principals import ANONYMOUS
from tosaic.replica import Reject, Replica, Response
from tosaic.tensors.candid import encode

PRICES = prices_with(chunk_bytes=70_000)
"""Slots of two pages, so that lists of many chunks take little memory here."""
CHUNK_BYTES = PRICES.limits["chunk_bytes"]
OWNER, FRIEND, STRANGER = b"\x07" * 29, b"\x08" * 10, b"\x09" * 29
STORE = assemble_store(PRICES)
SIZES = [1, 54, 55, 56, 63, 64, 119, 120, 127, 128, 16_383, 16_384, 65_408, 65_536, CHUNK_BYTES]
"""Around the ends of blocks of SHA-256, of lengths in LEB128, of pages; the largest."""


def chunks_of(sizes: list[int], seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for size in sizes]


def install(store: Store = STORE) -> StoreClient:
    return StoreClient(Replica(PRICES).install(store.wasm, controllers=[OWNER]), OWNER)


def rejection(response: Response) -> str:
    assert isinstance(response.result, Reject)
    return response.result.text


def update(client: StoreClient, method: str, argument: bytes, caller: bytes = OWNER) -> str:
    return rejection(client.canister.update(method, argument, caller))


def test_chunks_come_back_as_they_were_put() -> None:
    client, chunks = install(), by_digest(chunks_of(SIZES))
    client.declare(chunks)
    assert client.chunks() == dict.fromkeys(sorted(chunks), 0)
    for chunk in reversed(chunks.values()):
        client.put_chunk(chunk)
    assert client.chunks() == {digest: len(chunks[digest]) for digest in sorted(chunks)}
    assert client.status() == Status(len(SIZES), 0, False)
    for digest, chunk in chunks.items():
        assert client.get_chunk(digest) == chunk


@pytest.mark.parametrize("count", [0, 1, 2, 2049])
def test_any_digests_can_be_asked_for_at_a_known_price(count: int) -> None:
    client, chunk = install(), chunks_of([100])[0]
    digests = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(count)]
    listed = [*by_digest([chunk]), *digests[1:]] if count else []
    if count:
        client.declare(listed)
        client.put_chunk(chunk)
    asked = [bytes(32), *listed[:2], *listed[:1], b"\xff" * 32]
    message = client.canister.query("have", blob_argument(b"".join(asked)), STRANGER).messages[0]
    assert message.metered == STORE.have(len(asked), count).instructions(PRICES)
    assert client.have(asked) == [digest in by_digest([chunk]) for digest in asked]


@pytest.mark.parametrize("count", [1, 20, 2049])
def test_messages_take_what_was_predicted(count: int) -> None:
    client, chunks = install(), by_digest(chunks_of([1, 64, 70_000]))
    others = [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(count - 1)]
    digests = [*list(chunks)[: min(count, 3)], *others][:count]
    (message,) = client.declare(digests)
    assert message.metered == STORE.declare(0, count, count).instructions(PRICES)
    for digest in digests[:3]:
        if digest in chunks:
            (message,) = client.put_chunk(chunks[digest])
            size = len(chunks[digest])
            assert message.metered == STORE.put_chunk(size, count).instructions(PRICES)
            (message,) = client.canister.query("get_chunk", blob_argument(digest), OWNER).messages
            assert message.metered == STORE.get_chunk(size, count).instructions(PRICES)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=5))
def test_lists_of_digests_become_one_at_a_known_price(lists: list[set[int]]) -> None:
    client, expected = install(), set()
    for numbers in lists:
        new = {hashlib.sha256(bytes([n])).digest()[:31] + bytes([n]) for n in numbers}
        (message,) = client.declare(new)
        planned = STORE.declare(len(expected), len(new), len(expected | new))
        assert message.metered == planned.instructions(PRICES)
        expected |= new
        assert list(client.chunks()) == sorted(expected)


def test_declaring_more_keeps_what_is_there() -> None:
    client, first = install(), by_digest(chunks_of([100] * 20))
    list(client.upload(first))
    second = by_digest(chunks_of([200] * 20, seed=1))
    list(client.upload({**first, **second}))
    assert client.status() == Status(40, 0, False)
    for digest, chunk in {**first, **second}.items():
        assert client.get_chunk(digest) == chunk


def test_uploads_resume_where_they_were_cut_off() -> None:
    client, chunks = install(), by_digest(chunks_of([1_000] * 9))
    for cut in (2, 3):
        upload = client.upload(chunks)
        for _ in range(cut):
            next(upload)
    assert client.status() == Status(9, 4, False)
    assert len(list(client.upload(chunks))) == 4
    assert list(client.upload(chunks)) == []


def test_two_uploaders_at_once_lose_nothing() -> None:
    client = install(assemble_store(PRICES, writers=Access(controllers=True, principals=(FRIEND,))))
    other = StoreClient(client.canister, FRIEND)
    chunks = chunks_of([1_000] * 10)
    client.declare(by_digest(chunks))
    tickets = []
    for mine, theirs in zip(chunks, reversed(chunks)):
        tickets += [
            client.canister.submit("put_chunk", blob_argument(mine), OWNER),
            client.canister.submit("put_chunk", blob_argument(theirs), FRIEND),
        ]
    while client.canister.replica.step():
        pass
    assert all(ticket.result == encode([]) for ticket in tickets)
    assert client.status() == Status(10, 0, False)
    other.put_chunk(chunks[0])


@pytest.mark.parametrize("position", [0, 499, 999])
def test_a_flipped_bit_is_found_and_what_came_is_named(position: int) -> None:
    client, (chunk,) = install(), chunks_of([1_000])
    client.declare(by_digest([chunk]))
    wrong = bytearray(chunk)
    wrong[position] ^= 1
    with pytest.raises(TosaicError, match=f"declared: {hashlib.sha256(wrong).hexdigest()}"):
        client.put_chunk(wrong)
    assert client.status().missing == 1
    client.put_chunk(chunk)
    with pytest.raises(TosaicError, match="was declared"):
        client.put_chunk(wrong)
    assert client.get_chunk(hashlib.sha256(chunk).digest()) == chunk


def test_a_sealed_store_stays_as_it_is() -> None:
    client, chunks = install(), by_digest(chunks_of([10, 20]))
    assert "nothing to seal" in update(client, "seal", encode([]))
    client.declare(chunks)
    assert "chunks are missing" in update(client, "seal", encode([]))
    list(client.upload(chunks))
    client.seal()
    assert client.status() == Status(2, 0, True)
    assert "is sealed" in update(client, "declare", blob_argument(bytes(32)))
    client.canister.upgrade(STORE.wasm)
    assert "is sealed" in update(client, "declare", blob_argument(bytes(31) + b"\1"))
    for digest, chunk in chunks.items():
        client.put_chunk(chunk)
        assert client.get_chunk(digest) == chunk


def test_upgrades_keep_chunks_and_readers() -> None:
    client, chunks = install(), by_digest(chunks_of([10, 70_000, 30]))
    digests = list(chunks)
    client.declare(chunks)
    client.put_chunk(chunks[digests[1]])
    client.allow(FRIEND)
    client.canister.upgrade(STORE.wasm)
    assert client.status() == Status(3, 2, False)
    assert StoreClient(client.canister, FRIEND).get_chunk(digests[1]) == chunks[digests[1]]
    assert len(list(client.upload(chunks))) == 2
    assert client.get_chunk(digests[0]) == chunks[digests[0]]


def test_only_a_store_s_memory_is_taken_over() -> None:
    replica = Replica(PRICES)
    bare = replica.install(assemble(copying_program(PRICES), PRICES).wasm)
    bare.upgrade(STORE.wasm)
    assert StoreClient(bare).status() == Status(0, 0, False)
    client = install()
    replica.canisters[bare.id].stable[:4] = b"else"
    with pytest.raises(TosaicError, match="stable memory is not a store's"):
        bare.upgrade(STORE.wasm)
    assert client.status().chunks == 0


def test_only_those_who_are_allowed_read() -> None:
    client, chunks = install(), by_digest(chunks_of([100]))
    list(client.upload(chunks))
    (digest,) = chunks
    friend, proxy = StoreClient(client.canister, FRIEND), Proxy(client.canister.replica)
    readers = [FRIEND, proxy.id, b"\1", b"\2" * 29]
    for reader in readers:
        assert not client.may_read(reader)
        client.allow(reader)
        client.allow(reader)
    assert friend.get_chunk(digest) == chunks[digest]
    assert proxy.call(client.canister.id, "get_chunk", blob_argument(digest)).reply
    client.disallow(FRIEND)
    client.disallow(STRANGER)
    with pytest.raises(TosaicError, match="gives chunks only to those"):
        friend.get_chunk(digest)
    assert [client.may_read(reader) for reader in readers] == [False, True, True, True]
    for caller in (FRIEND, STRANGER, ANONYMOUS, proxy.id + b"\0", proxy.id[:9]):
        assert "only to those" in rejection(client.canister.query("get_chunk", blob_argument(digest), caller))


def test_all_readers_pay_the_same() -> None:
    client, chunks = install(), by_digest(chunks_of([100]))
    list(client.upload(chunks))
    for reader in (b"\1", b"\2" * 29):
        client.allow(reader)
    calls = [
        client.canister.query("get_chunk", blob_argument(*chunks), c) for c in (OWNER, b"\1", b"\2" * 29)
    ]
    assert {call.messages[0].metered for call in calls} == {STORE.get_chunk(100, 1).instructions(PRICES)}


def test_a_public_store_gives_to_everyone() -> None:
    store = assemble_store(PRICES, readers=EVERYONE)
    client, chunks = install(store), by_digest(chunks_of([100]))
    list(client.upload(chunks))
    assert StoreClient(client.canister, STRANGER).get_chunk(*chunks) == next(iter(chunks.values()))
    (message,) = client.canister.query("get_chunk", blob_argument(*chunks), STRANGER).messages
    assert message.metered == store.get_chunk(100, 1).instructions(PRICES)


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("declare", blob_argument(bytes(31) + b"\1")), ("put_chunk", blob_argument(b"x")), ("seal", encode([])),
        ("allow", principal_argument(FRIEND)), ("disallow", principal_argument(FRIEND)),
    ],
)  # fmt: skip
def test_controllers_alone_change_a_store(method: str, argument: bytes) -> None:
    client = install()
    before = client.canister.replica.canisters[client.canister.id].snapshot()
    assert "rejected the message" in update(client, method, argument, STRANGER)
    text = rejection(Proxy(client.canister.replica).call(client.canister.id, method, argument))
    assert "only" in text
    after = client.canister.replica.canisters[client.canister.id].snapshot()
    assert before.stable == after.stable


HEADER = BLOB_HEADER
BAD_ARGUMENTS = {
    "have": [b"", encode([]), HEADER + b"\0", blob_argument(bytes(31)), blob_argument(bytes(33))],
    "declare": [b"", encode([]), HEADER + b"\0", blob_argument(bytes(31)), blob_argument(bytes(33)),
                blob_argument(bytes(31) + b"\1")[:-1], blob_argument(bytes(32)), HEADER + b"\xa0\0" + bytes(32),
                blob_argument(bytes(31) + b"\2" + bytes(31) + b"\1"), blob_argument((bytes(31) + b"\1") * 2),
                encode([np.ones(8, np.int32)])],
    "put_chunk": [b"", encode([]), HEADER + b"\0", HEADER + b"\x01", blob_argument(b"xy")[:-1],
                  blob_argument(b"xy") + b"z", HEADER + b"\x81\0x", blob_argument(bytes(CHUNK_BYTES + 1)),
                  HEADER[:-1] + b"\1\1x", HEADER + b"\xff\xff\xff\xff\x0fx", b"DIDL" + bytes(40)],
    "get_chunk": [b"", blob_argument(bytes(31)), blob_argument(bytes(33)), blob_argument(bytes(32)) + b"\0",
                  b"DIDM" + blob_argument(bytes(32))[4:]],
    "allow": [b"", principal_argument(b""), principal_argument(b"\1" * 30), principal_argument(b"\1\2")[:-1],
              principal_argument(b"\1\2") + b"\1", encode([])],
}  # fmt: skip


@pytest.mark.parametrize("method", BAD_ARGUMENTS)
def test_malformed_arguments_are_refused_and_change_nothing(method: str) -> None:
    client = install()
    stable = client.canister.replica.canisters[client.canister.id].stable
    before = bytes(stable)
    for argument in BAD_ARGUMENTS[method]:
        text = update(client, method, argument)
        assert "the argument is not one" in text or "ascending order" in text, argument[:40]
    assert bytes(stable) == before


def test_unknown_and_missing_chunks_are_told_apart() -> None:
    client, digests = install(), list(by_digest(chunks_of([5, 6])))
    client.declare(digests[:1])
    for digest, text in zip(digests, ("was declared and not put", "does not list")):
        with pytest.raises(TosaicError, match=text):
            client.get_chunk(digest)


def test_the_list_of_digests_is_bounded() -> None:
    client = install()
    digests = [bytes(28) + n.to_bytes(4, "big") for n in range(1, 16_386)]
    assert "the argument is not one" in update(client, "declare", blob_argument(b"".join(digests)))
    client.declare(digests[:1])
    assert "at most 16384" in update(client, "declare", blob_argument(b"".join(digests[1:])))
    assert list(client.chunks()) == digests[:1]
