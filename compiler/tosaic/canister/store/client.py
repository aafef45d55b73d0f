"""What the owner of a store does: declare chunks, upload those that are missing, say who may read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tosaic.canister.blob import blob_argument
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.canister.store.declare import DECLARE, HAVE
from tosaic.canister.store.readers import ALLOW, DISALLOW, MAY_READ, principal_argument
from tosaic.canister.store.state import CHUNKS, SEAL, STATUS
from tosaic.canister.store.transfer import GET_CHUNK, PUT_CHUNK
from tosaic.principals import ANONYMOUS
from tosaic.replica.message import Message
from tosaic.replica.replica import InstalledCanister
from tosaic.tensors import candid


@dataclass(frozen=True)
class Status:
    """How many chunks are declared, how many of these are missing, and whether the store is sealed."""

    chunks: int
    missing: int
    sealed: bool


@dataclass(frozen=True)
class StoreClient:
    """A store and who calls it. All methods raise TosaicError when the store refuses."""

    canister: InstalledCanister
    caller: bytes = ANONYMOUS

    def status(self) -> Status:
        values = candid.decode_values(self._query(STATUS, candid.encode([])))
        chunks, missing, sealed = (np.asarray(value).item() for value in values)
        return Status(chunks, missing, sealed)

    def chunks(self) -> dict[bytes, int]:
        """The declared digests in ascending order with the size of each chunk, 0 where it is missing."""
        digests, sizes = candid.decode_values(self._query(CHUNKS, candid.encode([])))
        data = np.asarray(digests).tobytes()
        found = (data[i : i + DIGEST_BYTES] for i in range(0, len(data), DIGEST_BYTES))
        return dict(zip(found, np.asarray(sizes).tolist()))

    def have(self, digests: Iterable[bytes]) -> list[bool]:
        """Whether the chunk of each digest is there."""
        (present,) = candid.decode_values(self._query(HAVE, blob_argument(b"".join(digests))))
        return np.asarray(present).astype(bool).tolist()

    def declare(self, digests: Iterable[bytes]) -> tuple[Message, ...]:
        return self._update(DECLARE, blob_argument(b"".join(sorted(set(digests)))))

    def put_chunk(self, data: bytes | memoryview) -> tuple[Message, ...]:
        return self._update(PUT_CHUNK, blob_argument(data))

    def get_chunk(self, digest: bytes) -> bytes:
        (data,) = candid.decode_values(self._query(GET_CHUNK, blob_argument(digest)))
        return np.asarray(data).tobytes()

    def upload(self, chunks: Mapping[bytes, bytes | memoryview]) -> Iterator[bytes]:
        """Declare what is not listed, then put what is missing; yields the digest of each chunk that is put.

        So an upload that was cut off goes on where it ended.
        """
        listed = self.chunks()
        if new := chunks.keys() - listed.keys():
            self.declare(new)
        for digest, data in chunks.items():
            if not listed.get(digest):
                self.put_chunk(data)
                yield digest

    def seal(self) -> None:
        self._update(SEAL, candid.encode([]))

    def allow(self, reader: bytes) -> None:
        self._update(ALLOW, principal_argument(reader))

    def disallow(self, reader: bytes) -> None:
        self._update(DISALLOW, principal_argument(reader))

    def may_read(self, reader: bytes) -> bool:
        (answer,) = candid.decode_values(self._query(MAY_READ, principal_argument(reader)))
        return bool(answer)

    def _update(self, method: str, argument: bytes) -> tuple[Message, ...]:
        response = self.canister.update(method, argument, self.caller)
        _ = response.reply
        return response.messages

    def _query(self, method: str, argument: bytes) -> bytes:
        return self.canister.query(method, argument, self.caller).reply


def by_digest(chunks: Iterable[bytes | memoryview]) -> dict[bytes, bytes | memoryview]:
    """Chunks by their sha256."""
    return {hashlib.sha256(chunk).digest(): chunk for chunk in chunks}
