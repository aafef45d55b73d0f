"""Where a store keeps what, in the heap and in stable memory."""

from __future__ import annotations

from dataclasses import dataclass

from tosaic.canister.digest_index import CAPACITY, DigestList
from tosaic.canister.entry import STABLE, Place, Region
from tosaic.canister.sha256 import DIGEST_BYTES, initial_state
from tosaic.prices import PAGE_BYTES, PriceList

MAGIC = b"tosaic store 1\0\0"
READERS = 512
"""Principals that a controller can allow to read."""
ROW_BYTES = 32

_FRONT_BYTES = 64  # zeros before the data in the buffer: the first digest of a list has one before it
_BEHIND_BYTES = 128  # room for the padding of SHA-256
_STABLE_INDEX = PAGE_BYTES


@dataclass(frozen=True, eq=False)
class Layout:
    """Places in the heap; `stable_*` are offsets in stable memory.

    Stable memory holds `kept` on page 0, then the digests, their slots and their sizes as they lie in the heap, then
    the chunks, each in a slot of its own that begins a page.
    """

    chunk_bytes: int
    control: Region
    cold: Region
    kept: Place
    listed: DigestList
    old: DigestList
    buffer: Place
    state: Place
    """Of SHA-256."""
    initial: Place
    key: Place
    """The digest that is looked for."""
    scratch: Place

    @classmethod
    def of(cls, prices: PriceList) -> Layout:
        control, heap = Region(0, PAGE_BYTES), Region(PAGE_BYTES)
        chunk_bytes = prices.limits["chunk_bytes"]
        kept = control.room(len(MAGIC) + 16 + READERS * ROW_BYTES, 16)
        listed, old = _digest_list(heap), _digest_list(heap)
        data = max(chunk_bytes, CAPACITY * DIGEST_BYTES)
        buffer = heap.room(_FRONT_BYTES + data + _BEHIND_BYTES, PAGE_BYTES)
        cold = Region(-(-heap.position // PAGE_BYTES) * PAGE_BYTES)
        state, key, scratch = (control.room(size, 16) for size in (DIGEST_BYTES, DIGEST_BYTES, 64))
        initial = control.constant(initial_state(), 16)
        return cls(chunk_bytes, control, cold, kept, listed, old, buffer, state, initial, key, scratch)

    # The numbers in `kept`

    @property
    def magic(self) -> Place:
        return Place(self.kept.address, len(MAGIC))

    @property
    def count(self) -> Place:
        """How many digests are declared."""
        return Place(self.kept.address + len(MAGIC), 4)

    @property
    def sealed(self) -> Place:
        return Place(self.count.address + 4, 4)

    @property
    def readers(self) -> Place:
        """How many readers a controller has allowed."""
        return Place(self.count.address + 8, 4)

    @property
    def rows(self) -> Place:
        """A row for each reader: its principal, zeros, and its length at the end."""
        return Place(self.count.address + 16, READERS * ROW_BYTES)

    # The buffer

    @property
    def data(self) -> Place:
        """What a message brings or takes: a chunk, or a list of digests."""
        start = self.buffer.address + _FRONT_BYTES
        return Place(start, self.buffer.address + self.buffer.size - _BEHIND_BYTES - start)

    @property
    def before_data(self) -> Place:
        return Place(self.buffer.address, _FRONT_BYTES)

    def padded(self, size: int) -> Place:
        """Data of so many bytes and what is written behind it before it is hashed."""
        return Place(self.data.address, size + _BEHIND_BYTES)

    # Stable memory

    @property
    def slot_pages(self) -> int:
        return -(-self.chunk_bytes // PAGE_BYTES)

    @property
    def stable_slots(self) -> int:
        """Where the chunks begin."""
        return self.stable_offset(self.listed.sizes) + self.listed.sizes.size

    def stable_offset(self, place: Place) -> int:
        """Where a part of the list stands; its parts follow each other as in the heap."""
        return _STABLE_INDEX + place.address - self.listed.digests.address

    def stable_slot(self, slot: int, size: int) -> Place:
        """A chunk in stable memory, for page masks."""
        return Place(STABLE + self.stable_slots + slot * self.slot_pages * PAGE_BYTES, size)

    def stable_used(self, count: int) -> list[Place]:
        """The parts of so many entries in stable memory, for page masks."""
        return [Place(STABLE + self.stable_offset(p), p.size) for p in self.listed.used(count)]


def _digest_list(heap: Region) -> DigestList:
    digests = heap.room(CAPACITY * DIGEST_BYTES, PAGE_BYTES)
    return DigestList(digests, heap.room(4 * CAPACITY, PAGE_BYTES), heap.room(4 * CAPACITY, PAGE_BYTES))
