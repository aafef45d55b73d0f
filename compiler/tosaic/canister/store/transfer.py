"""The methods of a store that take chunks and give them."""

from __future__ import annotations

from tosaic.canister.blob import (
    BLOB_HEADER,
    DIGEST_HEADER,
    append_blob_header,
    blob_message_bytes,
    read_blob_header,
    read_fixed_argument,
)
from tosaic.canister.digest_index import NOT_FOUND
from tosaic.canister.digits import write_hexadecimal
from tosaic.canister.entry import STABLE, Place
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
from tosaic.canister.store.method import Method
from tosaic.canister.store.readers import Readers
from tosaic.policy import Access
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic_passes.cost_model import Charge

PUT_CHUNK, GET_CHUNK = "put_chunk", "get_chunk"
_BIG_ENDIAN = bytes([3, 2, 1, 0] * 4)


class PutChunk(Method):
    """`put_chunk(data)`: keep a chunk that was declared; one that is there already is fine and changes nothing."""

    def __init__(self, layout: Layout, guard: Guard, writers: Access, prices: PriceList) -> None:
        super().__init__(PUT_CHUNK, layout, prices)
        stranger = self.text(f"only these may put chunks into the store: {writers}")
        malformed = self.text(f"the argument is not one blob of 1 to {layout.chunk_bytes} bytes")
        guard.refuse_others(self.entry, writers, stranger)
        start, size = read_blob_header(self.entry, layout.scratch, layout.chunk_bytes, malformed)
        self.copy_data(start, size)
        self._hash(size)
        position = self.find(layout.key)
        self._refuse_undeclared(position)
        self._return_if_there(position)
        self._keep(position, size)
        self.reply_nothing()

    def charge(self, size: int, count: int) -> Charge:
        """What it takes to put a chunk of so many bytes into a store that lists so many and has not got it yet."""
        layout = self.layout
        received = blob_message_bytes(size) - len(BLOB_HEADER)
        found = self.found_charge(count)
        return Charge(
            self.entry.function.cost
            + self.moving("msg_arg_data_copy", received)
            + (message_blocks(size) - 1) * block_cost(self.prices)
            + self.moving("stable64_write", size + 4)
            + found.instructions,
            self.entry.reads | found.reads,
            self.entry.writes
            | layout.padded(size).pages
            | layout.listed.sizes.pages
            | layout.stable_slot(0, size).pages
            | Place(STABLE + layout.stable_offset(layout.listed.sizes), PAGE_BYTES).pages,
        )

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
        entry, f = self.entry, self.entry.function
        text = self.text("no chunk with this sha256 was declared: " + "0" * (2 * DIGEST_BYTES))
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
        self.push_size(position)
        with f.if_(taken=False):
            self.reply_nothing()
            f.op("return")

    def _keep(self, position: int, size: int) -> None:
        """Write the chunk to its slot, and its size to the list, which says that it is there."""
        entry, f, layout = self.entry, self.entry.function, self.layout
        sizes = layout.listed.sizes
        self.push_stable_slot(position)
        f.i64(layout.data.address)
        self.push_wide(size)
        entry.system("stable64_write")
        place = f.local("i32")
        f.get(position)
        f.i32(4)
        f.op("i32.mul")
        f.tee(place)
        f.get(size)
        f.memory("i32.store", sizes.address)
        self.push_wide(place)
        f.i64(layout.stable_offset(sizes))
        f.op("i64.add")
        self.push_wide(place)
        f.i64(sizes.address)
        f.op("i64.add")
        f.i64(4)
        entry.system("stable64_write")
        f.release(place)


class GetChunk(Method):
    """`get_chunk(digest)`: a chunk that is there, to who may read it."""

    def __init__(self, layout: Layout, readers: Readers, prices: PriceList) -> None:
        super().__init__(GET_CHUNK, layout, prices)
        header = layout.control.constant(BLOB_HEADER)
        entry, f = self.entry, self.entry.function
        readers.refuse_others(entry)
        malformed = self.text("the argument is not one blob of 32 bytes, the sha256 of a chunk")
        read_fixed_argument(entry, DIGEST_HEADER, layout.key, layout.scratch, malformed)
        position = self.find(layout.key)
        f.get(position)
        f.i32(NOT_FOUND)
        f.op("i32.eq")
        entry.refuse_if(self.text("the store does not list a chunk with this sha256"))
        size = f.local("i32")
        self.push_size(position)
        f.tee(size)
        f.op("i32.eqz")
        entry.refuse_if(self.text("the store waits for this chunk: it was declared and not put there yet"))
        f.i64(layout.data.address)
        self.push_stable_slot(position)
        self.push_wide(size)
        entry.system("stable64_read")
        append_blob_header(entry, size, header, layout.scratch)
        f.i32(layout.data.address)
        f.get(size)
        entry.system("msg_reply_data_append")
        entry.system("msg_reply")

    def charge(self, size: int, count: int) -> Charge:
        """What it takes to give a chunk of so many bytes from a store that lists so many chunks."""
        layout = self.layout
        found = self.found_charge(count)
        replied = blob_message_bytes(size) - len(BLOB_HEADER)
        return Charge(
            self.entry.function.cost
            + self.moving("stable64_read", size)
            + self.moving("msg_reply_data_append", replied)
            + found.instructions,
            self.entry.reads | found.reads | layout.listed.sizes.pages | layout.stable_slot(0, size).pages,
            self.entry.writes | Place(layout.data.address, size).pages,
        )
