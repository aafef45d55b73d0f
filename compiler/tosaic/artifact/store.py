"""The artifact of a store: its canister, its interface, and a manifest that says who may use it and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tosaic.artifact import folder
from tosaic.artifact.contents import CANDID, CANISTER, HIDDEN, PROJECT, hidden, project
from tosaic.artifact.folder import STORE, Artifact, Content
from tosaic.canister.digest_index import CAPACITY
from tosaic.canister.store import Store, assemble_store
from tosaic.canister.store.layout import READERS
from tosaic.errors import TosaicError
from tosaic.limits import FunctionSize, check_module
from tosaic.policy import Access
from tosaic.prices import PriceList
from tosaic.wasm.decode import BinaryModule

_TYPICAL_CHUNKS = 632
"""What the figures of the manifest are for: GPT-2 small has so many. Lists of up to 2,048 chunks cost the same."""


def write_store(output: str | Path, access: str = "controllers", writers: str = "controllers") -> Artifact:
    """Write a store's folder. `access` says who may read chunks besides those that a controller allows, `writers` who
    puts chunks that were declared: `controllers`, principals, both, or for `access` also `public`.

    Raises:
        TosaicError: `access` or `writers` is malformed, or the folder cannot be written.
    """
    folder.check_target(Path(output))
    files, manifest = _contents(access, writers)
    return folder.write(Path(output), files, manifest)


def check_reproduced(artifact: Artifact) -> str:
    """What was checked: that this version of tosaic makes exactly this store. Raises TosaicError if it does not."""
    files, manifest = _contents(artifact.manifest["access"], artifact.manifest["writers"])
    if folder.completed(manifest, files) != artifact.manifest:
        raise TosaicError("this version of tosaic makes another store", "use the version that made it")
    return "tosaic makes exactly this store"


def _contents(access: str, writers: str) -> tuple[dict[str, Content], dict[str, Any]]:
    """The files and the manifest."""
    prices = PriceList.load()
    reading, writing = Access.parse(access), Access.parse(writers).not_everyone("put chunks into a store")
    store = assemble_store(prices, reading, writing)
    functions = [FunctionSize(f.operators, f.complexity) for f in store.module.functions()]
    check_module(store.wasm, BinaryModule.parse(store.wasm), functions, prices)
    files: dict[str, Content] = {
        CANISTER: store.wasm,
        CANDID: store.did.encode(),
        HIDDEN: hidden(store.module, store.did).encode(),
        PROJECT: project(store.wasm, prices, STORE).encode(),
    }
    return files, _manifest(store, reading, writing, prices)


def _manifest(store: Store, access: Access, writers: Access, prices: PriceList) -> dict[str, Any]:
    messages = [
        store.declare(0, _TYPICAL_CHUNKS, _TYPICAL_CHUNKS),
        store.put_chunk(store.chunk_bytes, _TYPICAL_CHUNKS),
        store.get_chunk(store.chunk_bytes, _TYPICAL_CHUNKS),
    ]
    return {
        "kind": STORE,
        "access": str(access),
        "writers": str(writers),
        "chunk_bytes": store.chunk_bytes,
        "most_chunks": CAPACITY,
        "most_readers": READERS,
        "messages": [
            {"name": m.name, "predicted": m.instructions(prices), "cycles": m.cycles(prices)}
            for m in messages
        ],
        "messages_for": {"chunks": _TYPICAL_CHUNKS, "chunk_bytes": store.chunk_bytes},
        "price_list_sha256": prices.digest,
    }
