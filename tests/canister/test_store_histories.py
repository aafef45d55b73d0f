"""Random histories of a store against a model of it in Python: every answer, every refusal, every price."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from copying_program import prices_with
from tosaic.canister.blob import blob_argument
from tosaic.canister.store import assemble_store, principal_argument
from tosaic.canister.store.client import Status, StoreClient
from tosaic.errors import TosaicError
from tosaic.replica import Reject, Replica

PRICES = prices_with(chunk_bytes=2_000)
STORE = assemble_store(PRICES)
OWNER = b"\x07"
CHUNKS = [np.random.default_rng(n).bytes(1 + 199 * n) for n in range(10)]
DIGESTS = [hashlib.sha256(chunk).digest() for chunk in CHUNKS]
READERS = [b"\1", b"\2" * 10, b"\3" * 29]
METHODS = ("declare", "put_chunk", "get_chunk", "have", "allow", "disallow", "may_read")
NUMBERS = st.integers(0, len(CHUNKS) - 1)


class Histories(RuleBasedStateMachine):
    @initialize()
    def install(self) -> None:
        self.store = StoreClient(Replica(PRICES).install(STORE.wasm, controllers=[OWNER]), OWNER)
        self.there: dict[bytes, bool] = {}
        self.readers: set[bytes] = set()
        self.sealed = False

    @rule(numbers=st.sets(NUMBERS, min_size=1))
    def declare(self, numbers: set[int]) -> None:
        digests = {DIGESTS[n] for n in numbers}
        if self.sealed:
            self.refused("is sealed", lambda: self.store.declare(digests))
            return
        before = len(self.there)
        (message,) = self.store.declare(digests)
        self.there = dict.fromkeys(digests, False) | self.there
        planned = STORE.declare(before, len(digests), len(self.there))
        assert message.metered == planned.instructions(PRICES)

    @rule(number=NUMBERS)
    def put(self, number: int) -> None:
        chunk, digest = CHUNKS[number], DIGESTS[number]
        if digest not in self.there:
            self.refused(digest.hex(), lambda: self.store.put_chunk(chunk))
            return
        (message,) = self.store.put_chunk(chunk)
        planned = STORE.put_chunk(len(chunk), len(self.there)).instructions(PRICES)
        assert message.metered < planned if self.there[digest] else message.metered == planned
        self.there[digest] = True

    @rule(number=NUMBERS, reader=st.sampled_from(READERS))
    def get(self, number: int, reader: bytes) -> None:
        client = StoreClient(self.store.canister, reader)
        if reader not in self.readers:
            self.refused("gives chunks only to those", lambda: client.get_chunk(DIGESTS[number]))
        elif self.there.get(DIGESTS[number]):
            assert client.get_chunk(DIGESTS[number]) == CHUNKS[number]
        else:
            self.refused("chunk", lambda: client.get_chunk(DIGESTS[number]))

    @rule(reader=st.sampled_from(READERS), allow=st.booleans())
    def change_readers(self, reader: bytes, allow: bool) -> None:
        (self.store.allow if allow else self.store.disallow)(reader)
        (self.readers.add if allow else self.readers.discard)(reader)

    @rule()
    def seal(self) -> None:
        if self.there and all(self.there.values()):
            self.store.seal()
            self.sealed = True
        else:
            self.refused("nothing to seal|missing", self.store.seal)

    @rule()
    def upgrade(self) -> None:
        self.store.canister.upgrade(STORE.wasm)

    @rule(method=st.sampled_from(METHODS), at=st.integers(0, 60), byte=st.integers(1, 255), cut=st.booleans())
    def send_something_malformed(self, method: str, at: int, byte: int, cut: bool) -> None:
        """A changed byte of the header or the end cut off: refused with a text, never a trap of the code."""
        valid = principal_argument(READERS[1]) if method in METHODS[4:] else blob_argument(bytes(31) + b"\1")
        header = valid[: 9 if method in METHODS[4:] else 10]
        position = at % len(header)
        changed = bytes([*valid[:position], valid[position] ^ byte, *valid[position + 1 :]])
        argument = valid[: at % len(valid)] if cut else changed
        call = (
            self.store.canister.query
            if method in ("get_chunk", "have", "may_read")
            else self.store.canister.update
        )
        result = call(method, argument, OWNER).result
        assert isinstance(result, Reject)
        assert result.code == 4, result.text

    @invariant()
    def tells_what_is_there(self) -> None:
        missing = [*self.there.values()].count(False)
        assert self.store.status() == Status(len(self.there), missing, self.sealed)
        sizes = dict(zip(DIGESTS, map(len, CHUNKS)))
        expected = {d: sizes[d] if self.there[d] else 0 for d in sorted(self.there)}
        assert self.store.chunks() == expected
        assert self.store.have(DIGESTS) == [self.there.get(digest, False) for digest in DIGESTS]
        assert [self.store.may_read(reader) for reader in READERS] == [r in self.readers for r in READERS]

    @staticmethod
    def refused(pattern: str, call: Callable[[], object]) -> None:
        with pytest.raises(TosaicError, match=pattern):
            call()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=4, stateful_step_count=15, deadline=None)
