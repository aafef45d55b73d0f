"""Where the weights of a canister are: in its module, or brought after the installation; and who may have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from tosaic.canister.blob import blob_message_bytes
from tosaic.canister.chunks import CHUNKS, PUT_CHUNK, WeightChunk, WeightChunks
from tosaic.canister.entry import Entry, Region
from tosaic.canister.fetch import CANISTER_BYTES, FETCH_CHUNKS, GET_CHUNK, FetchChunks, fetch_argument
from tosaic.canister.guard import Guard
from tosaic.canister.planned_message import REPLY_CALLBACK, PlannedMessage
from tosaic.canister.read_chunk import ReadChunk
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.errors import TosaicError
from tosaic.policy import CONTROLLERS, Access, Policy, Weights
from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.module import DataSegment
from tosaic.wasm.program import WasmProgram


def needs_upload(program: WasmProgram, prices: PriceList, policy: Policy) -> bool:
    """Whether the weights come after the installation: as the owner wants it, else where they do not fit the module.

    There they leave room for the largest code that there may be, and for what is around it: the custom sections (at
    most a chunk) and the padding to a whole chunk.
    """
    if policy.weights is Weights.MODULE or not program.weight_bytes:
        return False
    limits = prices.limits
    around = limits["code_section_bytes"] + limits["custom_section_bytes"] + limits["chunk_bytes"]
    return policy.weights is Weights.UPLOADED or program.weight_bytes > limits["module_bytes"] - around


def check_readable(program: WasmProgram, prices: PriceList, policy: Policy) -> None:
    """Raise TosaicError where the weights are to be readable and the module holds them."""
    if not policy.weights_private and not needs_upload(program, prices, policy):
        raise TosaicError(
            "the module holds the weights, and gives none of them to other canisters",
            "leave --no-weights-private out, or give --weights=uploaded",
        )


class UploadedWeights:
    """The methods around weights that are brought after the installation."""

    def __init__(
        self, program: WasmProgram, control: Region, cold: Region, prices: PriceList, guard: Guard,
        policy: Policy, admit: Callable[[Entry], None],
    ) -> None:  # fmt: skip
        self._access = policy.access
        self._chunks = WeightChunks(program, control, cold, prices, guard)
        self._fetch = FetchChunks(self._chunks, control, cold, prices, guard)
        self._reading = None if policy.weights_private else ReadChunk(self._chunks, cold, prices, admit)

    def refuse_unless_complete(self, entry: Entry) -> None:
        """Refuse a call while chunks are missing."""
        self._chunks.refuse_unless_complete(entry)

    @property
    def data(self) -> Sequence[DataSegment]:
        """What the module holds of the weights."""
        return self._chunks.data

    @property
    def uploads(self) -> tuple[WeightChunk, ...]:
        """The chunks in order."""
        return self._chunks.uploads

    @property
    def callbacks(self) -> list[Function]:
        """What stands first in the table."""
        return self._fetch.table

    @cached_property
    def fetches(self) -> tuple[PlannedMessage, ...]:
        """The messages of a `fetch_chunks` that gets all chunks."""
        following = [*range(1, len(self.uploads)), None]
        received = len(FETCH_CHUNKS) + len(fetch_argument(bytes(CANISTER_BYTES)))
        return (
            PlannedMessage(FETCH_CHUNKS, "update", self._fetch.charge(0), True, received),
            *(self._fetched(index, then) for index, then in enumerate(following)),
        )

    def _fetched(self, index: int, following: int | None) -> PlannedMessage:
        """The callback that gets a chunk."""
        called = len(GET_CHUNK) + blob_message_bytes(DIGEST_BYTES)
        carried = called + blob_message_bytes(len(self.uploads[index].data))
        charge = self._fetch.callback_charge(index, following)
        return PlannedMessage(f"{FETCH_CHUNKS}: {REPLY_CALLBACK}", REPLY_CALLBACK, charge, True, carried)

    @cached_property
    def gives(self) -> tuple[PlannedMessage, ...]:
        """The messages of `get_chunk`, one for each chunk, where there is the method."""
        if not self._reading:
            return ()
        received = len(GET_CHUNK) + blob_message_bytes(DIGEST_BYTES)
        charges = map(self._reading.charge, range(len(self.uploads)))
        return tuple(PlannedMessage(GET_CHUNK, "query", charge, True, received) for charge in charges)

    @property
    def exports(self) -> Mapping[str, Function]:
        found = {
            "canister_init": self._chunks.init.function,
            "canister_post_upgrade": self._chunks.post_upgrade.function,
            f"canister_update {PUT_CHUNK}": self._chunks.entry.function,
            f"canister_update {FETCH_CHUNKS}": self._fetch.entry.function,
            f"canister_query {CHUNKS}": self._chunks.progress.function,
        }
        if self._reading:
            found[f"canister_query {GET_CHUNK}"] = self._reading.entry.function
        return found

    @property
    def rules(self) -> Mapping[str, Access]:
        """Who may call what from outside."""
        reading = {GET_CHUNK: self._access} if self._reading else {}
        return {PUT_CHUNK: CONTROLLERS, FETCH_CHUNKS: CONTROLLERS, **reading}
