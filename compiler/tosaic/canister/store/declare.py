"""The methods of a store about digests: which chunks are to come, and which are there."""

from __future__ import annotations

from tosaic.canister.blob import BLOB_HEADER, append_blob_header, blob_message_bytes
from tosaic.canister.digest_index import (
    CAPACITY,
    ascending,
    ascending_cost,
    presence,
    presence_cost,
    union,
    union_cost,
)
from tosaic.canister.entry import Place, pages_of
from tosaic.canister.guard import Guard
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.canister.store.layout import Layout
from tosaic.canister.store.method import Method
from tosaic.policy import CONTROLLERS
from tosaic.prices import PriceList
from tosaic_passes.cost_model import Charge

DECLARE, HAVE = "declare", "have"


class Declare(Method):
    """`declare(digests)`: which chunks are to come, ascending; those that are listed already stay as they are."""

    def __init__(self, layout: Layout, guard: Guard, prices: PriceList) -> None:
        super().__init__(DECLARE, layout, prices)
        entry = self.entry
        stranger = self.text("only a controller of the store may declare chunks")
        guard.refuse_others(entry, CONTROLLERS, stranger)
        entry.load(layout.sealed)
        entry.refuse_if(self.text("the store is sealed: nothing can be declared any more"))
        start, size = self.read_digests()
        self._refuse_too_many(size)
        self.copy_data(start, size)
        self._refuse_other_order(size)
        self._unite(size)
        self._keep()
        self.reply_nothing()

    def charge(self, before: int, given: int, after: int) -> Charge:
        """What it takes to declare so many digests where some are listed before and so many are afterwards."""
        layout, prices = self.layout, self.prices
        listed, old = layout.listed, layout.old
        received = blob_message_bytes(given * DIGEST_BYTES) - len(BLOB_HEADER)
        entry_bytes = DIGEST_BYTES + 8
        copied = [old.used(before), listed.used(after), layout.stable_used(after)]
        return Charge(
            self.entry.function.cost
            + self.moving("msg_arg_data_copy", received)
            + ascending_cost(prices, given)
            + before * entry_bytes
            + union_cost(old, layout.data, listed, prices, after)
            + self.moving("stable64_write", after * entry_bytes),
            self.entry.reads | pages_of([*listed.used(before), *old.used(max(before, 1))]),
            self.entry.writes
            | pages_of([Place(layout.data.address, given * DIGEST_BYTES)])
            | pages_of([place for places in copied for place in places]),
        )

    def _refuse_too_many(self, size: int) -> None:
        f = self.entry.function
        self.push_count(size)
        self.entry.load(self.layout.count)
        f.op("i32.add")
        f.i32(CAPACITY)
        f.op("i32.gt_u")
        self.entry.refuse_if(self.text(f"a store lists at most {CAPACITY} chunks"))

    def _refuse_other_order(self, size: int) -> None:
        f, data = self.entry.function, self.layout.data
        f.i32(data.address)
        f.i32(data.address)
        f.get(size)
        f.op("i32.add")
        f.call(ascending(self.prices))
        f.op("i32.eqz")
        self.entry.reads |= self.layout.before_data.pages
        self.entry.refuse_if(self.text("the digests must be in ascending order, each once"))

    def _unite(self, size: int) -> None:
        """Put the old list aside, write the union, and take stable memory for the chunks that are new."""
        entry, f, layout = self.entry, self.entry.function, self.layout
        for source, target, width in self._parts():
            f.i32(target.address)
            f.i32(source.address)
            entry.load(layout.count)
            f.i32(width)
            f.op("i32.mul")
            f.memory_copy(0)
        total = f.local("i32")
        entry.load(layout.count)
        self.push_count(size)
        f.call(union(layout.old, layout.data, layout.listed, self.prices))
        f.tee(total)
        entry.load(layout.count)
        f.op("i32.sub")
        f.op("i64.extend_i32_u")
        f.i64(layout.slot_pages)
        f.op("i64.mul")
        entry.grow_stable(self.text("there is no stable memory left for these chunks"))
        f.i32(layout.count.address)
        f.get(total)
        f.memory("i32.store")
        entry.writes |= layout.count.pages
        f.release(total)

    def _keep(self) -> None:
        """Write the list to stable memory."""
        entry, f, layout = self.entry, self.entry.function, self.layout
        entry.write_stable(layout.kept, 0)
        for place, _, width in self._parts():
            f.i64(layout.stable_offset(place))
            f.i64(place.address)
            entry.load(layout.count)
            f.i32(width)
            f.op("i32.mul")
            f.op("i64.extend_i32_u")
            entry.system("stable64_write")

    def _parts(self) -> list[tuple[Place, Place, int]]:
        """The parts of the list, where the old ones are put aside, and the bytes of an entry in each."""
        listed, old = self.layout.listed, self.layout.old
        return [
            (listed.digests, old.digests, DIGEST_BYTES),
            (listed.slots, old.slots, 4),
            (listed.sizes, old.sizes, 4),
        ]


class Have(Method):
    """`have(digests)`: for each digest a byte that is 1 where the chunk is there. Any order; anyone may ask."""

    def __init__(self, layout: Layout, prices: PriceList) -> None:
        super().__init__(HAVE, layout, prices)
        entry, f = self.entry, self.entry.function
        start, size = self.read_digests()
        self.copy_data(start, size)
        asked = f.local("i32")
        self.push_count(size)
        f.set(asked)
        f.i32(layout.data.address)
        f.get(asked)
        f.call(presence(layout.listed, layout.count, prices))
        entry.reads |= layout.count.pages
        append_blob_header(entry, asked, layout.control.constant(BLOB_HEADER), layout.scratch)
        f.i32(layout.data.address)
        f.get(asked)
        entry.system("msg_reply_data_append")
        entry.system("msg_reply")

    def charge(self, asked: int, count: int) -> Charge:
        """What it takes to ask for so many digests where so many are listed."""
        layout = self.layout
        received = blob_message_bytes(asked * DIGEST_BYTES) - len(BLOB_HEADER)
        replied = blob_message_bytes(asked) - len(BLOB_HEADER)
        digests, _, sizes = layout.listed.used(max(count, 1))
        return Charge(
            self.entry.function.cost
            + self.moving("msg_arg_data_copy", received)
            + presence_cost(layout.listed, layout.count, self.prices, asked, count)
            + self.moving("msg_reply_data_append", replied),
            self.entry.reads | pages_of([digests, sizes]),
            self.entry.writes | Place(layout.data.address, asked * DIGEST_BYTES).pages,
        )
