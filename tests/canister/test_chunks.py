"""Weights that are uploaded in chunks: checked, resumed, kept over upgrades, never read out; predicted exactly."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from proxy_canister import Proxy
from tosaic.canister import Canister, assemble
from tosaic.canister.client import missing_chunks, put_chunk
from tosaic.canister.parts import put_argument
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica import InstalledCanister, Reject, Replica, Response
from tosaic.tensors.candid import encode
from weighted_program import ARGUMENT, COUNT, PRICES, expected, image, program, result, weights

OWNER, STRANGER = b"\x07", b"\x08"


def install(segments: int = 1, seed: int = 0) -> tuple[Canister, InstalledCanister]:
    canister = assemble(program(segments, seed), PRICES)
    return canister, Replica(PRICES).install(canister.wasm, controllers=[OWNER])


def upload(canister: Canister, installed: InstalledCanister, numbers: list[int] | None = None) -> None:
    for number in missing_chunks(installed) if numbers is None else numbers:
        put_chunk(installed, number, canister.weights[number].data, OWNER)


def rejection(response: Response) -> str:
    assert isinstance(response.result, Reject)
    return response.result.text


def test_chunks_are_the_memory_in_pieces() -> None:
    chunks = assemble(program(1), PRICES).weights
    whole = image().ljust(-(-len(image()) // 64) * 64, b"\0")
    assert b"".join(bytes(chunk.data) for chunk in chunks) == whole
    assert [chunk.offset for chunk in chunks] == list(range(0, len(whole), 960))
    assert all(hashlib.sha256(chunk.data).digest() == chunk.digest for chunk in chunks)


def test_the_module_holds_no_weights() -> None:
    canister = assemble(program(1), PRICES)
    assert weights()[0][:64] not in canister.wasm
    assert len(canister.wasm) < len(image()) // 2 < len(assemble(program(1), PriceList.load()).wasm)


@pytest.mark.parametrize("segments", [1, 3])
def test_messages_take_what_was_predicted(segments: int) -> None:
    canister, installed = install(segments)
    upload(canister, installed, list(range(COUNT)))
    response = installed.update("infer", ARGUMENT)
    executed = [m for m in installed.replica.messages if m.name == "put_chunk"] + list(response.messages)
    assert [(m.name, m.metered, m.page_touch) for m in executed] == [
        (m.name, m.instructions(PRICES), m.page_touch(PRICES))
        for m in (*canister.uploads, *canister.messages)
    ]
    assert result(installed) == expected()


def test_chunks_come_in_any_order_and_again() -> None:
    canister, installed = install()
    order = np.random.default_rng(1).permutation(COUNT).tolist()
    upload(canister, installed, order[:40] + order[:3])
    assert missing_chunks(installed) == sorted(order[40:])
    assert "weights are not all there" in rejection(installed.update("infer", ARGUMENT))
    assert "weights are not all there" in rejection(installed.query("infer_query", ARGUMENT))
    upload(canister, installed, order[38:-1])
    assert missing_chunks(installed) == [order[-1]]
    assert "weights are not all there" in rejection(installed.update("infer", ARGUMENT))
    upload(canister, installed)
    assert result(installed) == expected()


@pytest.mark.parametrize("number", [0, 68, COUNT - 1])
@pytest.mark.parametrize("uploaded", [False, True])
def test_any_flipped_bit_is_refused_and_changes_nothing(number: int, uploaded: bool) -> None:
    canister, installed = install()
    upload(canister, installed, list(range(COUNT)) if uploaded else [])
    data = bytearray(canister.weights[number].data)
    for position in (0, len(data) // 2, len(data) - 1):
        data[position] ^= 4
        named = f"only data with the sha256 {canister.weights[number].digest.hex()} is chunk {number}$"
        with pytest.raises(TosaicError, match=named):
            put_chunk(installed, number, data, OWNER)
        data[position] ^= 4
    assert (number in missing_chunks(installed)) != uploaded
    upload(canister, installed)
    assert result(installed) == expected()


def test_a_chunk_in_the_place_of_another_is_refused() -> None:
    canister, installed = install()
    with pytest.raises(TosaicError, match=r"is chunk 1$"):
        put_chunk(installed, 1, canister.weights[0].data, OWNER)
    assert len(missing_chunks(installed)) == COUNT


def test_only_controllers_upload() -> None:
    canister, installed = install()
    for caller in (STRANGER, b"\x04", OWNER + OWNER):
        with pytest.raises(TosaicError, match="rejected the message"):
            put_chunk(installed, 0, canister.weights[0].data, caller)
    argument = put_argument(0, bytes(canister.weights[0].data))
    assert "only a controller" in rejection(
        Proxy(installed.replica).call(installed.id, "put_chunk", argument)
    )
    assert len(missing_chunks(installed)) == COUNT


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (b"", "not of the type"),
        (encode([np.zeros(4, np.float32)]), "not of the type"),
        (put_argument(COUNT, bytes(960)), f"only the parts 0 to {COUNT - 1}"),
        (put_argument(1 << 31, bytes(960)), f"only the parts 0 to {COUNT - 1}"),
        (put_argument(0, bytes(959)), "wrong size"),
        (put_argument(0, bytes(961)), "wrong size"),
        (put_argument(COUNT - 1, bytes(960)), "wrong size"),
    ],
    ids=range(7),
)
def test_refuses_malformed_arguments(argument: bytes, text: str) -> None:
    _, installed = install()
    assert text in rejection(installed.update("put_chunk", argument, OWNER))
    assert len(missing_chunks(installed)) == COUNT


def test_upgrades_keep_what_was_uploaded() -> None:
    canister, installed = install()
    upload(canister, installed, list(range(0, COUNT, 2)))
    newer = assemble(program(3), PRICES)
    installed.upgrade(newer.wasm)
    assert missing_chunks(installed) == list(range(1, COUNT, 2))
    upload(newer, installed)
    assert result(installed) == expected()
    installed.upgrade(canister.wasm)
    assert result(installed) == expected()


def test_upgrades_refuse_a_module_for_other_weights() -> None:
    canister, installed = install()
    upload(canister, installed)
    with pytest.raises(TosaicError, match="other weights"):
        installed.upgrade(assemble(program(1, seed=1), PRICES).wasm)
    assert result(installed) == expected()


def test_an_upgrade_of_a_canister_without_stable_memory_begins_anew() -> None:
    canister = assemble(program(1), PRICES)
    bare = assemble(program(1), PriceList.load())
    installed = Replica(PriceList.load()).install(bare.wasm, controllers=[OWNER])
    installed.upgrade(canister.wasm)
    upload(canister, installed)
    assert result(installed) == expected()


def test_the_interface_tells_how() -> None:
    did = assemble(program(1), PRICES).did
    assert "  put_chunk : (chunk : nat32, data : blob) -> ();\n" in did
    assert "  chunks : () -> (missing : nat32, present : blob) query;\n" in did
    assert "put_chunk" not in assemble(program(1), PriceList.load()).did


def test_two_uploaders_at_once_lose_nothing() -> None:
    canister = assemble(program(1), PRICES)
    other = b"\x09"
    installed = Replica(PRICES).install(canister.wasm, controllers=[OWNER, other])
    numbers = list(range(COUNT))
    tickets = [
        installed.submit("put_chunk", put_argument(number, bytes(canister.weights[number].data)), caller)
        for mine, theirs in zip(numbers, reversed(numbers))
        for number, caller in ((mine, OWNER), (theirs, other))
    ]
    while installed.replica.step():
        pass
    assert all(isinstance(ticket.result, bytes) for ticket in tickets)
    assert missing_chunks(installed) == []
    assert result(installed) == expected()
