"""What the methods of a store have in common: data from an argument, digests that are looked for."""

from __future__ import annotations

from tosaic.canister.blob import NOTHING, read_blob_header
from tosaic.canister.digest_index import CAPACITY, search, search_cost
from tosaic.canister.entry import Entry, Place, pages_of
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.canister.store.layout import Layout
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic_passes.cost_model import Charge


class Method:
    """An entry point over the layout of a store."""

    def __init__(self, name: str, layout: Layout, prices: PriceList) -> None:
        self.layout = layout
        self.prices = prices
        self.entry = Entry.new(name, prices)
        self.nothing = layout.cold.constant(NOTHING)

    def text(self, text: str) -> Place:
        """A text that refuses a call."""
        return self.layout.cold.constant(text.encode())

    def moving(self, call: str, size: int) -> int:
        return self.prices.system_call(call, size) - self.prices.system_call(call)

    def copy_data(self, start: int, size: int) -> None:
        """Copy the argument's data into the buffer; its bytes are not counted."""
        f = self.entry.function
        f.i32(self.layout.data.address)
        f.get(start)
        f.get(size)
        self.entry.system("msg_arg_data_copy")

    def find(self, key: Place) -> int:
        """A local with the position of a digest in the list, or NOT_FOUND."""
        f = self.entry.function
        position = f.local("i32")
        f.i32(key.address)
        f.call(search(self.layout.listed, self.layout.count, self.prices))
        f.set(position)
        self.entry.reads |= key.pages | self.layout.count.pages
        return position

    def found_charge(self, count: int) -> Charge:
        """What it takes to find a digest among so many, besides what is counted already."""
        layout = self.layout
        return Charge(
            search_cost(layout.listed, layout.count, self.prices, count), pages_of(layout.listed.used(count))
        )

    def push_size(self, position: int) -> None:
        """Push the size of a chunk; 0 where it is not there yet."""
        self._push_number(self.layout.listed.sizes, position)

    def _push_number(self, numbers: Place, position: int) -> None:
        f = self.entry.function
        f.get(position)
        f.i32(4)
        f.op("i32.mul")
        f.memory("i32.load", numbers.address)

    def push_stable_slot(self, position: int) -> None:
        """Push the offset in stable memory where a chunk lies."""
        f, layout = self.entry.function, self.layout
        self._push_number(layout.listed.slots, position)
        f.op("i64.extend_i32_u")
        f.i64(layout.slot_pages * PAGE_BYTES)
        f.op("i64.mul")
        f.i64(layout.stable_slots)
        f.op("i64.add")

    def push_wide(self, local: int) -> None:
        self.entry.function.get(local)
        self.entry.function.op("i64.extend_i32_u")

    def reply_nothing(self) -> None:
        self.entry.append(self.nothing)
        self.entry.system("msg_reply")

    def read_digests(self) -> tuple[int, int]:
        """Check that the argument is one blob of digests; two locals with where they start and their bytes."""
        f = self.entry.function
        malformed = self.text("the argument is not one blob of sha256 digests, 32 bytes each, at least one")
        start, size = read_blob_header(self.entry, self.layout.scratch, CAPACITY * DIGEST_BYTES, malformed)
        f.get(size)
        f.i32(DIGEST_BYTES - 1)
        f.op("i32.and")
        self.entry.refuse_if(malformed)
        return start, size

    def push_count(self, size: int) -> None:
        """Push how many digests so many bytes are."""
        self.entry.function.get(size)
        self.entry.function.i32(DIGEST_BYTES)
        self.entry.function.op("i32.div_u")
