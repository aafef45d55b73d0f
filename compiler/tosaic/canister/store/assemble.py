"""The store as an installable canister."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tosaic.canister.assemble import CANDID_SECTION, PUBLIC
from tosaic.canister.blob import blob_message_bytes
from tosaic.canister.digest_index import CAPACITY
from tosaic.canister.entry import Entry
from tosaic.canister.guard import Guard
from tosaic.canister.planned_message import PlannedMessage
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.canister.store.declare import DECLARE, HAVE, Declare, Have
from tosaic.canister.store.layout import READERS, Layout
from tosaic.canister.store.readers import ALLOW, DISALLOW, MAY_READ, Readers
from tosaic.canister.store.state import CHUNKS, SEAL, STATUS, State
from tosaic.canister.store.transfer import GET_CHUNK, PUT_CHUNK, GetChunk, PutChunk
from tosaic.policy import CONTROLLERS, Access
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors import candid
from tosaic.wasm.module import Module


@dataclass(frozen=True)
class Store:
    """An installable store, its Candid interface, and what its messages take."""

    wasm: bytes
    did: str
    module: Module
    chunk_bytes: int
    _declare: Declare
    _put: PutChunk
    _get: GetChunk
    _have: Have

    def declare(self, before: int, given: int, after: int) -> PlannedMessage:
        """The message that declares so many digests, where some are listed before and so many are afterwards."""
        received = len(DECLARE) + blob_message_bytes(given * DIGEST_BYTES)
        return PlannedMessage(DECLARE, "update", self._declare.charge(before, given, after), True, received)

    def have(self, asked: int, count: int) -> PlannedMessage:
        """The message that asks which of so many chunks are in a store that lists `count` chunks."""
        return PlannedMessage(HAVE, "query", self._have.charge(asked, count), True)

    def put_chunk(self, size: int, count: int) -> PlannedMessage:
        """The message that puts a new chunk of so many bytes into a store that lists `count` chunks."""
        received = len(PUT_CHUNK) + blob_message_bytes(size)
        return PlannedMessage(PUT_CHUNK, "update", self._put.charge(size, count), True, received)

    def get_chunk(self, size: int, count: int) -> PlannedMessage:
        """The message that gives a chunk of so many bytes from a store that lists `count` chunks."""
        return PlannedMessage(GET_CHUNK, "query", self._get.charge(size, count), True)


def assemble_store(prices: PriceList, readers: Access = CONTROLLERS, writers: Access = CONTROLLERS) -> Store:
    """Build a store. `readers` may read besides those that a controller allows; `writers` put what is declared."""
    layout = Layout.of(prices)
    guard = Guard(layout.control)
    state = State(layout, guard, prices)
    reading = Readers(layout, guard, readers, prices)
    declare = Declare(layout, guard, prices)
    put = PutChunk(layout, guard, writers, prices)
    get = GetChunk(layout, reading, prices)
    have = Have(layout, prices)
    updates = {
        DECLARE: declare.entry, PUT_CHUNK: put.entry, SEAL: state.seal, ALLOW: reading.allow,
        DISALLOW: reading.disallow,
    }  # fmt: skip
    queries = {
        GET_CHUNK: get.entry, HAVE: have.entry, CHUNKS: state.chunks, STATUS: state.status, MAY_READ: reading.may_read,
        "info": _info(layout, prices),
    }  # fmt: skip
    rules = {**dict.fromkeys(updates, CONTROLLERS), PUT_CHUNK: writers}
    exports = {
        "canister_init": state.init.function,
        "canister_post_upgrade": state.post_upgrade.function,
        "canister_inspect_message": guard.filter(rules, layout.control, prices).function,
        **{f"canister_update {name}": entry.function for name, entry in updates.items()},
        **{f"canister_query {name}": entry.function for name, entry in queries.items()},
    }
    did = _interface_text(layout.chunk_bytes)
    module = Module(
        -(-layout.cold.position // PAGE_BYTES), exports, (), [*layout.control.data, *layout.cold.data],
        {f"{PUBLIC}{CANDID_SECTION}": did.encode()},
    )  # fmt: skip
    return Store(module.encode(), did, module, layout.chunk_bytes, declare, put, get, have)


def _info(layout: Layout, prices: PriceList) -> Entry:
    entry = Entry.new("info", prices)
    limits = {"kind": "store", "chunk_bytes": layout.chunk_bytes, "chunks": CAPACITY, "readers": READERS}
    entry.append(layout.cold.constant(candid.encode_text(json.dumps(limits, sort_keys=True))))
    entry.system("msg_reply")
    return entry


def _interface_text(chunk_bytes: int) -> str:
    return f"""\
// Keeps chunks of 1 to {chunk_bytes} bytes by their sha256. A controller declares which are to come: their digests,
// {DIGEST_BYTES} bytes each, in ascending order, each once; several lists become one. put_chunk takes what was
// declared, in any order; have tells for each digest whether its chunk is there (1); chunks tells the digests in
// ascending order with the size of each, 0 where it is missing.
// When none is missing a controller may seal the store: nothing can be declared any more. What is there can never be
// changed. get_chunk gives chunks to those that a controller allowed.
service : {{
  {DECLARE} : (digests : blob) -> ();
  {PUT_CHUNK} : (data : blob) -> ();
  {SEAL} : () -> ();
  {ALLOW} : (reader : principal) -> ();
  {DISALLOW} : (reader : principal) -> ();
  {GET_CHUNK} : (digest : blob) -> (blob) query;
  {HAVE} : (digests : blob) -> (present : blob) query;
  {CHUNKS} : () -> (digests : blob, sizes : vec nat32) query;
  {STATUS} : () -> (chunks : nat32, missing : nat32, sealed : bool) query;
  {MAY_READ} : (reader : principal) -> (bool) query;
  info : () -> (text) query;
}}
"""
