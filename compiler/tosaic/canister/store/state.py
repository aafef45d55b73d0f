"""A store's state as a whole: installation and upgrade, sealing, and the queries that tell what is there."""

from __future__ import annotations

from tosaic.canister.blob import NOTHING, append_length
from tosaic.canister.digest_index import CAPACITY
from tosaic.canister.entry import Entry, Place
from tosaic.canister.guard import Guard
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.canister.store.layout import MAGIC, Layout
from tosaic.policy import CONTROLLERS
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.module import DataSegment

SEAL, STATUS, CHUNKS = "seal", "status", "chunks"
_STATUS_HEADER = candid.MAGIC + bytes([0, 3, 0x79, 0x79, 0x7E])  # (nat32, nat32, bool)
_CHUNKS_HEADER = candid.MAGIC + bytes([2, candid.VEC, 0x7B, candid.VEC, 0x79, 2, 0, 1])  # (blob, vec nat32)


class State:
    """`canister_init`, `canister_post_upgrade`, `seal`, `status` and `chunks`."""

    def __init__(self, layout: Layout, guard: Guard, prices: PriceList) -> None:
        self.layout = layout
        self.prices = prices
        self.nothing = layout.cold.constant(NOTHING)
        layout.control.data.append(DataSegment(layout.magic.address, MAGIC))
        self._missing = self._count_missing()
        self.init = self._init()
        self.post_upgrade = self._post_upgrade()
        self.seal = self._seal(guard)
        self.status = self._status()
        self.chunks = self._chunks()

    def _init(self) -> Entry:
        """Take the stable memory of the list and write the state of an empty store."""
        entry = Entry.new("canister_init", self.prices)
        entry.function.i64(self.layout.stable_slots // PAGE_BYTES)
        entry.grow_stable(self.layout.cold.constant(b"there is no stable memory left for the store"))
        entry.write_stable(self.layout.kept, 0)
        return entry

    def _post_upgrade(self) -> Entry:
        """Bring back the state; a canister without stable memory begins as a new store."""
        entry, layout = Entry.new("canister_post_upgrade", self.prices), self.layout
        entry.end_if_new(self.init)
        seen = Place(layout.scratch.address, layout.magic.size)
        entry.read_stable(seen, 0)
        entry.differ(seen, layout.magic)
        entry.trap_if(
            layout.cold.constant(b"stable memory is not a store's: install the store anew (mode reinstall)")
        )
        entry.read_stable(layout.kept, 0)
        for place in (layout.listed.digests, layout.listed.slots, layout.listed.sizes):
            entry.read_stable(place, layout.stable_offset(place))
        return entry

    def _seal(self, guard: Guard) -> Entry:
        """From now on nothing can be declared; refused while chunks are missing."""
        entry, layout = Entry.new(SEAL, self.prices), self.layout
        f = entry.function
        cold = layout.cold
        guard.refuse_others(entry, CONTROLLERS, cold.constant(b"only a controller of the store may seal it"))
        entry.load(layout.count)
        f.op("i32.eqz")
        entry.refuse_if(cold.constant(b"no chunks were declared: there is nothing to seal"))
        f.call(self._missing)
        entry.refuse_if(cold.constant(b"chunks are missing: the query chunks tells which"))
        entry.store(layout.sealed, 1)
        entry.write_stable(layout.kept, 0)
        entry.append(self.nothing)
        entry.system("msg_reply")
        return entry

    def _status(self) -> Entry:
        """Replies how many chunks are declared, how many of these are missing, and whether the store is sealed."""
        entry, layout = Entry.new(STATUS, self.prices), self.layout
        f = entry.function
        missing = Place(layout.scratch.address, 4)
        f.i32(missing.address)
        f.call(self._missing)
        f.memory("i32.store")
        entry.append(layout.cold.constant(_STATUS_HEADER))
        for place in (layout.count, missing, Place(layout.sealed.address, 1)):
            entry.append(place)
        entry.system("msg_reply")
        return entry

    def _chunks(self) -> Entry:
        """Replies the digests in ascending order and the size of each chunk, 0 where it is missing."""
        entry, layout = Entry.new(CHUNKS, self.prices), self.layout
        entry.append(layout.cold.constant(_CHUNKS_HEADER))
        self._append_vector(entry, layout.listed.digests, DIGEST_BYTES, DIGEST_BYTES)
        self._append_vector(entry, layout.listed.sizes, 1, 4)
        entry.system("msg_reply")
        return entry

    def _append_vector(self, entry: Entry, place: Place, elements: int, width: int) -> None:
        """Append a vector of as many times `elements` as digests are listed; `width` bytes a digest."""
        f = entry.function
        size = f.local("i32")
        entry.load(self.layout.count)
        f.i32(elements)
        f.op("i32.mul")
        f.set(size)
        append_length(entry, size, self.layout.scratch)
        f.i32(place.address)
        entry.load(self.layout.count)
        f.i32(width)
        f.op("i32.mul")
        entry.system("msg_reply_data_append")
        f.release(size)

    def _count_missing(self) -> Function:
        """The function () -> i32: how many chunks are declared and not there. It looks at the whole table."""
        f, layout = Function("count_missing", self.prices, (), ("i32",)), self.layout
        missing = f.local("i32")
        f.i32(0)
        f.set(missing)
        with f.counted(CAPACITY) as index:
            f.get(missing)
            f.get(index)
            f.i32(4)
            f.op("i32.mul")
            f.memory("i32.load", layout.listed.sizes.address)
            f.op("i32.eqz")
            f.get(index)
            f.i32(layout.count.address)
            f.memory("i32.load")
            f.op("i32.lt_u")
            f.op("i32.and")
            f.op("i32.add")
            f.set(missing)
        f.get(missing)
        return f
