"""The methods of a store that move digests and chunks, and what their messages take."""

from __future__ import annotations

from tosaic.canister.blob import (
    BLOB_HEADER,
    append_blob_header,
    blob_message_bytes,
    read_blob_header,
)
from tosaic.canister.digest_index import (
    CAPACITY,
    NOT_FOUND,
    ascending,
    ascending_cost,
    search,
    search_cost,
    union,
    union_cost,
)
from tosaic.canister.digits import write_hexadecimal
from tosaic.canister.entry import STABLE, Entry, Place, pages_of
from tosaic.canister.guard import Guard
from tosaic.canister.sha256 import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    block_cost,
    compression,
    message_blocks,
    push_digest,
)
from tosaic.canister.store.layout import Layout
from tosaic.canister.store.readers import Readers
from tosaic.policy import CONTROLLERS, Access
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors import candid
from tosaic.wasm.opcodes import leb128_unsigned
from tosaic_passes.cost_model import Charge

DECLARE, PUT_CHUNK, GET_CHUNK = "declare", "put_chunk", "get_chunk"
_DIGEST_HEADER = BLOB_HEADER + leb128_unsigned(DIGEST_BYTES)
_BIG_ENDIAN = bytes([3, 2, 1, 0] * 4)
_NOTHING = candid.MAGIC + bytes([0, 0])


class _Method:
    """An entry point over the layout of a store."""

    def __init__(self, name: str, layout: Layout, prices: PriceList) -> None:
        self.layout = layout
        self.prices = prices
        self.entry = Entry.new(name, prices)
        self.nothing = layout.cold.constant(_NOTHING)

    def _moving(self, call: str, size: int) -> int:
        return self.prices.system_call(call, size) - self.prices.system_call(call)

    def _copy_data(self, start: int, size: int) -> None:
        """Copy the argument's data into the buffer; its bytes are not counted."""
        f = self.entry.function
        f.i32(self.layout.data.address)
        f.get(start)
        f.get(size)
        self.entry.system("msg_arg_data_copy")

    def _find(self, key: Place) -> int:
        """A local with the position of a digest in the list, or NOT_FOUND."""
        f = self.entry.function
        position = f.local("i32")
        f.i32(key.address)
        f.call(search(self.layout.listed, self.layout.count, self.prices))
        f.set(position)
        self.entry.reads |= key.pages | self.layout.count.pages
        return position

    def _found_charge(self, count: int) -> Charge:
        """What it takes to find a digest among so many, besides what is counted already."""
        layout = self.layout
        return Charge(
            search_cost(layout.listed, layout.count, self.prices, count), pages_of(layout.listed.used(count))
        )

    def _push_size(self, position: int) -> None:
        """Push the size of a chunk; 0 where it is not there yet."""
        self._push_number(self.layout.listed.sizes, position)

    def _push_number(self, numbers: Place, position: int) -> None:
        f = self.entry.function
        f.get(position)
        f.i32(4)
        f.op("i32.mul")
        f.memory("i32.load", numbers.address)

    def _push_stable_slot(self, position: int) -> None:
        """Push the offset in stable memory where a chunk lies."""
        f, layout = self.entry.function, self.layout
        self._push_number(layout.listed.slots, position)
        f.op("i64.extend_i32_u")
        f.i64(layout.slot_pages * PAGE_BYTES)
        f.op("i64.mul")
        f.i64(layout.stable_slots)
        f.op("i64.add")

    def _push_wide(self, local: int) -> None:
        self.entry.function.get(local)
        self.entry.function.op("i64.extend_i32_u")

    def _reply_nothing(self) -> None:
        self.entry.append(self.nothing)
        self.entry.system("msg_reply")


class Declare(_Method):
    """`declare(digests)`: which chunks are to come, ascending; those that are listed already stay as they are."""

    def __init__(self, layout: Layout, guard: Guard, prices: PriceList) -> None:
        super().__init__(DECLARE, layout, prices)
        cold = layout.cold
        stranger = cold.constant(b"only a controller of the store may declare chunks")
        sealed = cold.constant(b"the store is sealed: nothing can be declared any more")
        malformed = cold.constant(
            b"the argument is not one blob of sha256 digests, 32 bytes each, at least one"
        )
        order = cold.constant(b"the digests must be in ascending order, each once")
        full = cold.constant(f"a store lists at most {CAPACITY} chunks".encode())
        self.no_room = cold.constant(b"there is no stable memory left for these chunks")
        entry, f = self.entry, self.entry.function
        guard.refuse_others(entry, CONTROLLERS, stranger)
        entry.load(layout.sealed)
        entry.refuse_if(sealed)
        start, size = read_blob_header(entry, layout.scratch, CAPACITY * DIGEST_BYTES, malformed)
        f.get(size)
        f.i32(DIGEST_BYTES - 1)
        f.op("i32.and")
        entry.refuse_if(malformed)
        self._refuse_too_many(size, full)
        self._copy_data(start, size)
        self._refuse_other_order(size, order)
        self._unite(size)
        self._keep()
        self._reply_nothing()

    def charge(self, before: int, given: int, after: int) -> Charge:
        """What it takes to declare so many digests where some are listed before and so many are afterwards."""
        layout, prices = self.layout, self.prices
        listed, old = layout.listed, layout.old
        received = blob_message_bytes(given * DIGEST_BYTES) - len(BLOB_HEADER)
        entry_bytes = DIGEST_BYTES + 8
        copied = [old.used(before), listed.used(after), layout.stable_used(after)]
        return Charge(
            self.entry.function.cost
            + self._moving("msg_arg_data_copy", received)
            + ascending_cost(prices, given)
            + before * entry_bytes
            + union_cost(old, layout.data, listed, prices, after)
            + self._moving("stable64_write", after * entry_bytes),
            self.entry.reads | pages_of([*listed.used(before), *old.used(max(before, 1))]),
            self.entry.writes
            | pages_of([Place(layout.data.address, given * DIGEST_BYTES)])
            | pages_of([place for places in copied for place in places]),
        )

    def _refuse_too_many(self, size: int, full: Place) -> None:
        f = self.entry.function
        self._push_given(size)
        self.entry.load(self.layout.count)
        f.op("i32.add")
        f.i32(CAPACITY)
        f.op("i32.gt_u")
        self.entry.refuse_if(full)

    def _refuse_other_order(self, size: int, order: Place) -> None:
        f, data = self.entry.function, self.layout.data
        f.i32(data.address)
        f.i32(data.address)
        f.get(size)
        f.op("i32.add")
        f.call(ascending(self.prices))
        f.op("i32.eqz")
        self.entry.reads |= self.layout.before_data.pages
        self.entry.refuse_if(order)

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
        self._push_given(size)
        f.call(union(layout.old, layout.data, layout.listed, self.prices))
        f.tee(total)
        entry.load(layout.count)
        f.op("i32.sub")
        f.op("i64.extend_i32_u")
        f.i64(layout.slot_pages)
        f.op("i64.mul")
        entry.system("stable64_grow")
        f.i64(0)
        f.op("i64.lt_s")
        entry.trap_if(self.no_room)
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

    def _push_given(self, size: int) -> None:
        self.entry.function.get(size)
        self.entry.function.i32(DIGEST_BYTES)
        self.entry.function.op("i32.div_u")


class PutChunk(_Method):
    """`put_chunk(data)`: keep a chunk that was declared; one that is there already is fine and changes nothing."""

    def __init__(self, layout: Layout, guard: Guard, writers: Access, prices: PriceList) -> None:
        super().__init__(PUT_CHUNK, layout, prices)
        cold = layout.cold
        stranger = cold.constant(f"only these may put chunks into the store: {writers}".encode())
        malformed = cold.constant(f"the argument is not one blob of 1 to {layout.chunk_bytes} bytes".encode())
        self.undeclared = cold.constant(b"no chunk with this sha256 was declared: " + b"0" * 64)
        start, size = self._open(guard, writers, stranger, malformed)
        self._copy_data(start, size)
        self._hash(size)
        position = self._find(layout.key)
        self._refuse_undeclared(position)
        self._return_if_there(position)
        self._keep(position, size)
        self._reply_nothing()

    def charge(self, size: int, count: int) -> Charge:
        """What it takes to put a chunk of so many bytes into a store that lists so many and has not got it yet."""
        layout = self.layout
        received = blob_message_bytes(size) - len(BLOB_HEADER)
        found = self._found_charge(count)
        return Charge(
            self.entry.function.cost
            + self._moving("msg_arg_data_copy", received)
            + (message_blocks(size) - 1) * block_cost(self.prices)
            + self._moving("stable64_write", size + 4)
            + found.instructions,
            self.entry.reads | found.reads,
            self.entry.writes
            | layout.padded(size).pages
            | layout.listed.sizes.pages
            | layout.stable_slot(0, size).pages
            | Place(STABLE + layout.stable_offset(layout.listed.sizes), PAGE_BYTES).pages,
        )

    def _open(self, guard: Guard, writers: Access, stranger: Place, malformed: Place) -> tuple[int, int]:
        guard.refuse_others(self.entry, writers, stranger)
        return read_blob_header(self.entry, self.layout.scratch, self.layout.chunk_bytes, malformed)

    def _hash(self, size: int) -> None:
        """Put the digest of the data in the buffer into `key`."""
        entry, f, layout = self.entry, self.entry.function, self.layout
        data, end, last = layout.data.address, f.local("i32"), f.local("i32")
        f.i32(data)
        f.get(size)
        f.op("i32.add")
        f.set(end)
        for offset in range(0, 2 * BLOCK_BYTES, 16):
            f.get(end)
            f.v128(b"\x80".ljust(16, b"\0") if offset == 0 else bytes(16))
            f.memory("v128.store", offset)
        f.get(size)
        f.i32(9 + BLOCK_BYTES - 1)
        f.op("i32.add")
        f.i32(-BLOCK_BYTES)
        f.op("i32.and")
        f.i32(data)
        f.op("i32.add")
        f.set(last)
        self._write_bits(size, last)
        entry.copy(layout.initial, layout.state)
        f.i32(layout.state.address)
        f.i32(data)
        f.get(last)
        f.call(compression(self.prices))
        for half in (0, 16):
            f.i32(layout.key.address)
            push_digest(f, layout.state.address, half)
            f.memory("v128.store", half)
        entry.writes |= layout.key.pages
        f.release(end, last)

    def _write_bits(self, size: int, last: int) -> None:
        """The number of bits, big-endian, at the end of the last block."""
        f = self.entry.function
        f.get(last)
        f.i32(4)
        f.op("i32.sub")
        f.get(size)
        f.i32(3)
        f.op("i32.shl")
        f.op("i32x4.splat")
        f.v128(_BIG_ENDIAN)
        f.op("i8x16.swizzle")
        f.lane("i32x4.extract_lane", 0)
        f.memory("i32.store")

    def _refuse_undeclared(self, position: int) -> None:
        entry, f, text = self.entry, self.entry.function, self.undeclared
        key = f.local("i32")
        f.get(position)
        f.i32(NOT_FOUND)
        f.op("i32.eq")
        with f.if_(taken=False):
            f.i32(self.layout.key.address)
            f.set(key)
            write_hexadecimal(f, key, text.address + text.size - 2 * DIGEST_BYTES, DIGEST_BYTES)
        f.get(position)
        f.i32(NOT_FOUND)
        f.op("i32.eq")
        entry.refuse_if(text)
        f.release(key)

    def _return_if_there(self, position: int) -> None:
        f = self.entry.function
        self._push_size(position)
        with f.if_(taken=False):
            self._reply_nothing()
            f.op("return")

    def _keep(self, position: int, size: int) -> None:
        """Write the chunk to its slot, and its size to the list, which says that it is there."""
        entry, f, layout = self.entry, self.entry.function, self.layout
        sizes = layout.listed.sizes
        self._push_stable_slot(position)
        f.i64(layout.data.address)
        self._push_wide(size)
        entry.system("stable64_write")
        place = f.local("i32")
        f.get(position)
        f.i32(4)
        f.op("i32.mul")
        f.tee(place)
        f.get(size)
        f.memory("i32.store", sizes.address)
        self._push_wide(place)
        f.i64(layout.stable_offset(sizes))
        f.op("i64.add")
        self._push_wide(place)
        f.i64(sizes.address)
        f.op("i64.add")
        f.i64(4)
        entry.system("stable64_write")
        f.release(place)


class GetChunk(_Method):
    """`get_chunk(digest)`: a chunk that is there, to who may read it."""

    def __init__(self, layout: Layout, readers: Readers, prices: PriceList) -> None:
        super().__init__(GET_CHUNK, layout, prices)
        cold = layout.cold
        malformed = cold.constant(b"the argument is not one blob of 32 bytes, the sha256 of a chunk")
        unknown = cold.constant(b"the store does not list a chunk with this sha256")
        absent = cold.constant(b"the store waits for this chunk: it was declared and not put there yet")
        header = layout.control.constant(BLOB_HEADER)
        entry, f = self.entry, self.entry.function
        readers.refuse_others(entry)
        self._read_digest(malformed)
        position = self._find(layout.key)
        f.get(position)
        f.i32(NOT_FOUND)
        f.op("i32.eq")
        entry.refuse_if(unknown)
        size = f.local("i32")
        self._push_size(position)
        f.tee(size)
        f.op("i32.eqz")
        entry.refuse_if(absent)
        f.i64(layout.data.address)
        self._push_stable_slot(position)
        self._push_wide(size)
        entry.system("stable64_read")
        append_blob_header(entry, size, header, layout.scratch)
        f.i32(layout.data.address)
        f.get(size)
        entry.system("msg_reply_data_append")
        entry.system("msg_reply")

    def charge(self, size: int, count: int) -> Charge:
        """What it takes to give a chunk of so many bytes from a store that lists so many chunks."""
        layout = self.layout
        found = self._found_charge(count)
        replied = blob_message_bytes(size) - len(BLOB_HEADER)
        return Charge(
            self.entry.function.cost
            + self._moving("stable64_read", size)
            + self._moving("msg_reply_data_append", replied)
            + found.instructions,
            self.entry.reads | found.reads | layout.listed.sizes.pages | layout.stable_slot(0, size).pages,
            self.entry.writes | Place(layout.data.address, size).pages,
        )

    def _read_digest(self, malformed: Place) -> None:
        """Put the argument into `key`."""
        entry, f, layout = self.entry, self.entry.function, self.layout
        header = Place(layout.scratch.address, len(_DIGEST_HEADER))
        entry.system("msg_arg_data_size")
        f.i32(header.size + DIGEST_BYTES)
        f.op("i32.ne")
        entry.refuse_if(malformed)
        for place, offset in ((header, 0), (layout.key, header.size)):
            entry.system(
                "msg_arg_data_copy", place.address, offset, place.size, size=place.size, writes=[place]
            )
        entry.differs(header, _DIGEST_HEADER)
        entry.refuse_if(malformed)
