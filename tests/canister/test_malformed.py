"""Arguments that are damaged in any way: refused with a text, never by a trap, and nothing has changed after it.

What is accepted all the same is a canonical message, by the word of another Candid library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import ic
import ic.candid
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ic.candid import Types

import weighted_program
from chained_program import ARGUMENT, PRICES, program
from copying_program import copying_program, numbers, prices_with
from tosaic.canister import assemble
from tosaic.canister.blob import blob_argument
from tosaic.canister.fetch import fetch_argument
from tosaic.canister.parts import get_argument, put_argument
from tosaic.canister.store import assemble_store, principal_argument
from tosaic.policy import Policy, Weights
from tosaic.replica import InstalledCanister, Reject, Replica
from tosaic.tensors.candid import encode
from tosaic.tensors.cbor import write_cbor

BLOB = Types.Vec(Types.Nat8)
MANY = 2_000
CANISTER_REJECT = 4


@dataclass(frozen=True)
class Method:
    """A method of a canister, an argument that it takes, its types, and the calls that make it ready."""

    install: Callable[[], InstalledCanister]
    name: str
    argument: bytes
    types: tuple[Any, ...]
    query: bool = False
    before: tuple[tuple[str, bytes], ...] = ()
    traps: str | None = None
    """The text of a trap that is meant: wrong content of a chunk."""

    def call(self, canister: InstalledCanister, argument: bytes):
        for name, earlier in self.before:
            assert isinstance(canister.update(name, earlier).result, bytes)
        return (canister.query if self.query else canister.update)(self.name, argument).result


@cache
def chained() -> InstalledCanister:
    return Replica(PRICES).install(assemble(program(3), PRICES).wasm)


@cache
def small() -> InstalledCanister:
    return Replica(PRICES).install(assemble(copying_program(PRICES), PRICES).wasm)


@cache
def in_parts() -> InstalledCanister:
    prices = prices_with(ingress_bytes=12_000, reply_bytes=12_000, chunk_bytes=1_000)
    return Replica(prices).install(assemble(copying_program(prices, 2, MANY), prices).wasm)


@cache
def weighted() -> InstalledCanister:
    policy = Policy(weights=Weights.UPLOADED, weights_private=False)
    canister = assemble(weighted_program.program(), weighted_program.PRICES, policy=policy)
    return Replica(weighted_program.PRICES).install(canister.wasm)


@cache
def store() -> InstalledCanister:
    prices = prices_with(chunk_bytes=70_000)
    return Replica(prices).install(assemble_store(prices).wasm)


PART = numbers(MANY).tobytes()[:1_000]
CHUNK = weighted_program.image()[:960]
DIGEST = hashlib.sha256(CHUNK).digest()
PUT_ALL = tuple(("put", put_argument(i, numbers(MANY).tobytes()[1_000 * i :][:1_000])) for i in range(8))
METHODS = {
    "infer": Method(chained, "infer", ARGUMENT, (Types.Vec(Types.Float32), Types.Vec(Types.Int64))),
    "infer_query": Method(small, "infer_query", encode([numbers()]), (Types.Vec(Types.Float32),), query=True),
    "infer_cbor": Method(
        small, "infer_cbor", blob_argument(b"".join(write_cbor({"x": numbers()}))), (BLOB,)
    ),
    "put": Method(in_parts, "put", put_argument(0, PART), (Types.Nat32, BLOB)),
    "infer of parts": Method(in_parts, "infer", encode([]), (), before=PUT_ALL),
    "get": Method(
        in_parts, "get", get_argument(3), (Types.Nat32,), query=True, before=(*PUT_ALL, ("infer", encode([])))
    ),
    "put_chunk": Method(weighted, "put_chunk", put_argument(0, CHUNK), (Types.Nat32, BLOB), traps="sha256"),
    "get_chunk": Method(
        weighted, "get_chunk", blob_argument(DIGEST), (BLOB,), query=True,
        before=(("put_chunk", put_argument(0, CHUNK)),),
    ),
    "fetch_chunks": Method(weighted, "fetch_chunks", fetch_argument(b"\1" * 10), (Types.Principal,)),
    "declare": Method(store, "declare", blob_argument(DIGEST), (BLOB,)),
    "have": Method(store, "have", blob_argument(DIGEST), (BLOB,), query=True),
    "store's put_chunk": Method(
        store, "put_chunk", blob_argument(CHUNK), (BLOB,), before=(("declare", blob_argument(DIGEST)),)
    ),
    "allow": Method(store, "allow", principal_argument(b"\7" * 29), (Types.Principal,)),
    "may_read": Method(store, "may_read", principal_argument(b"\7" * 10), (Types.Principal,), query=True),
}  # fmt: skip


def damaged(argument: bytes) -> st.SearchStrategy[bytes]:
    """The argument with a few bytes changed, left out, put in or moved, most of them in its first ones."""
    end = len(argument)
    places = st.one_of(st.integers(0, min(end, 24)), st.integers(0, end))
    pieces = st.one_of(
        st.binary(min_size=1, max_size=9),
        st.sampled_from(
            [b"\xff" * 4, b"\xff" * 9 + b"\1", b"\x80\0", b"\x80" * 8 + b"\0", b"\x6c\x01\0\x6e", b"DIDL"]
        ),
        st.just(argument),
    )
    changes = st.lists(st.tuples(places, st.integers(0, 8), pieces), min_size=1, max_size=3)

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = argument
        for place, left_out, piece in changes:
            changed = changed[:place] + piece + changed[place + left_out :]
        return changed

    cut = st.integers(0, end).map(lambda size: argument[:size])
    flipped = st.tuples(places, st.integers(0, 7)).map(
        lambda at: (
            argument[: at[0]]
            + bytes(byte ^ 1 << at[1] for byte in argument[at[0] : at[0] + 1])
            + argument[at[0] + 1 :]
        )
    )
    return st.one_of(changes.map(apply), cut, flipped)


def canonical(argument: bytes, types: tuple[Any, ...]) -> bytes:
    """The message as another library writes it."""
    values = [value["value"] for value in ic.candid.decode(argument, list(types))] if types else []
    plain = [value.bytes if isinstance(value, ic.Principal) else value for value in values]
    return ic.candid.encode([{"type": type, "value": value} for type, value in zip(types, plain)])


@pytest.mark.parametrize("name", METHODS)
def test_damaged_arguments_are_refused(name: str) -> None:
    method = METHODS[name]
    canister = method.install()
    right = method.call(canister, method.argument)

    @given(damaged(method.argument))
    def refuses(argument: bytes) -> None:
        result = method.call(canister, argument)
        if isinstance(result, Reject) and result.code != CANISTER_REJECT:
            assert method.traps is not None
            assert method.traps in result.text
        elif isinstance(result, bytes):
            assert canonical(argument, method.types) == argument
        assert method.call(canister, method.argument) == right

    refuses()
