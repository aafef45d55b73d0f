"""`get_chunk(digest)` of a model whose weights are not private: others fetch from it as from a store."""

from __future__ import annotations

from collections.abc import Callable

from tosaic.canister.blob import BLOB_HEADER, DIGEST_HEADER, read_fixed_argument
from tosaic.canister.chunks import WeightChunks
from tosaic.canister.entry import Entry, Place, Region, pages_of, push_differ
from tosaic.canister.fetch import GET_CHUNK
from tosaic.canister.parts import ADDRESS, LENGTH_SIZE, LENGTH_WORD, SIZE, push_column
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.prices import PriceList
from tosaic.wasm.opcodes import leb128_unsigned
from tosaic_passes.cost_model import Charge


class ReadChunk:
    """The method. `admit` emits the check of the caller."""

    def __init__(
        self, chunks: WeightChunks, cold: Region, prices: PriceList, admit: Callable[[Entry], None]
    ) -> None:
        self.chunks = chunks
        self.count = len(chunks.parts)
        scratch = cold.room(16, 16)
        self.key = cold.room(DIGEST_BYTES, 16)
        malformed = cold.constant(b"the argument is not one blob of 32 bytes, the sha256 of a chunk")
        unknown = cold.constant(b"no chunk of these weights has this sha256")
        absent = cold.constant(b"this chunk is missing here as well")
        self.entry = Entry.new(GET_CHUNK, prices)
        entry, f = self.entry, self.entry.function
        admit(entry)
        read_fixed_argument(entry, DIGEST_HEADER, self.key, scratch, malformed)
        part = self._find()
        f.get(part)
        f.i32(self.count)
        f.op("i32.eq")
        entry.refuse_if(unknown)
        f.get(part)
        f.memory("i32.load8_u", chunks.present.address)
        f.op("i32.eqz")
        entry.refuse_if(absent)
        self._reply(part, cold.constant(BLOB_HEADER))

    def charge(self, index: int) -> Charge:
        """What it takes to give a chunk."""
        part, chunks = self.chunks.parts[index], self.chunks
        replied = len(leb128_unsigned(part.size)) + part.size
        reads = [
            chunks.digests,
            chunks.row_place(index),
            Place(chunks.present.address + index, 1),
            chunks.place(part),
        ]
        return Charge(
            self.entry.function.cost + chunks.moving("msg_reply_data_append", replied),
            self.entry.reads | pages_of(reads),
            self.entry.writes,
        )

    def _find(self) -> int:
        """A local with the chunk of this digest, or the number of chunks; all are looked at."""
        f = self.entry.function
        found = f.local("i32")
        f.i32(self.count)
        f.set(found)
        with f.counted(self.count) as index:
            f.get(found)
            f.get(index)
            push_differ(f, lambda: self.chunks.push_digest_address(f, index), lambda: f.i32(self.key.address))
            f.op("select")
            f.set(found)
        return found

    def _reply(self, part: int, header: Place) -> None:
        entry, f = self.entry, self.entry.function
        row = self.chunks.row_of(f, part)
        entry.append(header)
        f.get(row)
        f.i32(LENGTH_WORD)
        f.op("i32.add")
        push_column(f, row, LENGTH_SIZE)
        entry.system("msg_reply_data_append")
        push_column(f, row, ADDRESS)
        push_column(f, row, SIZE)
        entry.system("msg_reply_data_append")
        entry.system("msg_reply")
