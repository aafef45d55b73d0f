"""Weights that no module holds: uploaded after the installation in chunks, each checked by the canister itself.

`put_chunk(chunk, data)` takes a chunk from a controller, in any order and again at will. It is copied to its place in
the heap, where the kernels read it; unless its SHA-256 is the one that the module knows, the message traps, which
undoes the copy. A good chunk goes to stable memory as well, from where `canister_post_upgrade` brings it back.
`chunks` tells which are there.

Stable memory: page 0 holds the identity of the weights (32 bytes) and a byte for each chunk, 1 when it is there; the
chunks lie one after the other from page 1 on.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tosaic.canister.digits import write_decimal, write_hexadecimal
from tosaic.canister.entry import STABLE, Entry, Place, Region, pages_of
from tosaic.canister.guard import Guard
from tosaic.canister.parts import ADDRESS, PUT_HEADER, SIZE, Part, ReceivedParts, Transfer, push_column
from tosaic.canister.sha256 import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    block_cost,
    compression,
    initial_state,
    last_block,
    push_digest,
)
from tosaic.policy import CONTROLLERS
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.ic0 import IC0
from tosaic.wasm.module import DataSegment
from tosaic.wasm.opcodes import leb128_unsigned
from tosaic.wasm.program import BorderTensor, WasmProgram
from tosaic_passes.cost_model import Charge

PUT_CHUNK, CHUNKS = "put_chunk", "chunks"
_BITS = 24  # column of a row: the number of bits of the chunk, big-endian
_WRONG = b"nothing was changed: only data with the sha256 "
_WRONG_CHUNK = b" is chunk "
_DECIMALS = 5


@dataclass(frozen=True)
class WeightChunk:
    """Bytes of the weights as they lie in memory, `offset` from their start; `charge` is what their upload takes."""

    offset: int
    data: bytes | memoryview
    digest: bytes
    charge: Charge


class WeightChunks(ReceivedParts):
    """`put_chunk`, `chunks`, and the entry points of installation and upgrade."""

    def __init__(
        self, program: WasmProgram, control: Region, cold: Region, prices: PriceList, guard: Guard
    ) -> None:
        self.segments = program.data
        size = -(-program.weight_bytes // BLOCK_BYTES) * BLOCK_BYTES
        weights = BorderTensor("weights", "uint8", "i8", (size,), self.segments[0].address)
        super().__init__(PUT_CHUNK, [weights], Transfer.place(cold), cold, prices)
        self._place_state(control, cold)
        self._place_texts(cold)
        self.accept = self._accept()
        self._emit(guard)
        self.init = self._init()
        self.post_upgrade = self._post_upgrade()
        self.progress = self._progress(cold)

    def refuse_unless_complete(self, entry: Entry) -> None:
        """Refuse a call while chunks are missing."""
        entry.load(self.missing)
        entry.refuse_if(self.incomplete)

    def call_accept(self, entry: Entry, part: int) -> None:
        """Check the chunk that lies in its place, keep it, and note that it is there; trap if it is another one."""
        entry.function.get(part)
        entry.function.call(self.accept.function)
        entry.reads |= self.accept.reads
        entry.writes |= self.accept.writes

    def charge(self, index: int) -> Charge:
        """What `put_chunk` takes."""
        received = Charge(self.moving("msg_arg_data_copy", self._received_bytes(self.parts[index])))
        own = Charge(self.entry.function.cost, self.entry.reads, self.entry.writes)
        return own + received + self.accepting(index)

    def accepting(self, index: int) -> Charge:
        """What the size and the places of a chunk make its check and its keeping take."""
        part = self.parts[index]
        reads = [self.row_place(index), Place(self.digests.address + index * DIGEST_BYTES, DIGEST_BYTES)]
        writes = [
            self.place(part), Place(self.present.address + index, 1),
            Place(STABLE + self._stable_offset(index), part.size), Place(STABLE + DIGEST_BYTES + index, 1),
        ]  # fmt: skip
        return Charge(
            self.moving("stable64_write", part.size + 1)
            + (part.size // BLOCK_BYTES - 1) * block_cost(self.prices),
            pages_of(reads),
            pages_of(writes),
        )

    @cached_property
    def uploads(self) -> tuple[WeightChunk, ...]:
        """The chunks in order."""
        pieces = [_bytes_at(self.segments, self.place(part)) for part in self.parts]
        return tuple(
            WeightChunk(part.offset, piece, hashlib.sha256(piece).digest(), self.charge(index))
            for index, (part, piece) in enumerate(zip(self.parts, pieces))
        )

    @property
    def data(self) -> list[DataSegment]:
        """What the module holds of the weights: the digests of the chunks, and the digest of these."""
        digests = b"".join(chunk.digest for chunk in self.uploads)
        identity = hashlib.sha256(digests).digest()
        return [DataSegment(self.digests.address, digests), DataSegment(self.identity.address, identity)]

    # Places

    def _place_state(self, control: Region, cold: Region) -> None:
        count = len(self.parts)
        self.missing = control.constant(struct.pack("<I", count))
        self.present = cold.room(count)
        self.identity = cold.room(DIGEST_BYTES, 16)
        self.digests = cold.room(count * DIGEST_BYTES, 16)
        self.state = cold.room(DIGEST_BYTES, 16)
        self.initial = cold.constant(initial_state(), 16)
        self.padding = cold.constant(last_block(0), 16)

    def _place_texts(self, cold: Region) -> None:
        self.stranger = cold.constant(b"only a controller of the canister may upload weights")
        digest = b"0" * (2 * DIGEST_BYTES)
        self.wrong = cold.constant(_WRONG + digest + _WRONG_CHUNK + b"0" * _DECIMALS)
        self.full = cold.constant(b"there is no stable memory left for the weights")
        self.others = cold.constant(
            b"stable memory holds other weights than those of this module: install it anew (mode reinstall) to replace "
            b"them"
        )
        self.incomplete = cold.constant(
            b"the weights are not all there yet: a controller uploads them with put_chunk, or lets the canister fetch "
            b"them with fetch_chunks; the query chunks tells which are missing"
        )

    def _row(self, part: Part) -> bytes:
        return super()._row(part).ljust(_BITS, b"\0") + last_block(part.size)[-8:]

    def _stable_offset(self, index: int) -> int:
        return PAGE_BYTES + index * self.part_bytes

    @property
    def _stable_pages(self) -> int:
        end = self._stable_offset(len(self.parts) - 1) + self.parts[-1].size
        return -(-end // PAGE_BYTES)

    # put_chunk

    def _emit(self, guard: Guard) -> None:
        guard.refuse_others(self.entry, CONTROLLERS, self.stranger)
        part, size = self._read_header()
        row = self.row_of(self.entry.function, part)
        self._refuse_wrong_size(row, size)
        self._copy(row)
        self.call_accept(self.entry, part)
        self.entry.append(self.nothing)
        self.entry.system("msg_reply")

    # A chunk in its place

    def _accept(self) -> Entry:
        entry = Entry.new("accept_chunk", self.prices, ("i32",))
        part = 0
        row = self.row_of(entry.function, part)
        self._hash(entry, row)
        self._push_is_other(entry.function, part)
        with entry.function.if_(taken=False):
            self._trap_naming(entry.function, part)
        self._keep(entry, part, row)
        self._mark(entry, part)
        return entry

    def _hash(self, entry: Entry, row: int) -> None:
        """The state after the chunk's blocks, of which one is counted here, and the block of padding."""
        f, compress = entry.function, compression(self.prices)
        entry.copy(self.initial, self.state)
        f.i32(self.state.address)
        for column in (ADDRESS, ADDRESS, SIZE):
            push_column(f, row, column)
        f.op("i32.add")
        f.call(compress)
        f.i32(self.padding.address)
        f.get(row)
        f.memory("i64.load", _BITS)
        f.memory("i64.store", BLOCK_BYTES - 8)
        for address in (self.state.address, self.padding.address, self.padding.address + BLOCK_BYTES):
            f.i32(address)
        f.call(compress)
        entry.writes |= self.padding.pages

    def _push_is_other(self, f: Function, part: int) -> None:
        for half in (0, 16):
            push_digest(f, self.state.address, half)
            self.push_digest_address(f, part)
            f.memory("v128.load", half)
            f.op("v128.xor")
        f.op("v128.or")
        f.op("v128.any_true")

    def _trap_naming(self, f: Function, part: int) -> None:
        """Trap with the number of the chunk and the digest that it must have."""
        digest, start = f.local("i32"), self.wrong.address
        self.push_digest_address(f, part)
        f.set(digest)
        write_hexadecimal(f, digest, start + len(_WRONG), DIGEST_BYTES)
        count = write_decimal(f, part, start + self.wrong.size - _DECIMALS)
        f.i32(start)
        f.get(count)
        f.i32(self.wrong.size - _DECIMALS)
        f.op("i32.add")
        f.call_system(IC0["trap"])
        f.release(digest, count)

    def _keep(self, entry: Entry, part: int, row: int) -> None:
        """Write the chunk to stable memory."""
        self._push_stable_offset(entry, part)
        self._push_wide(entry, row, ADDRESS)
        self._push_wide(entry, row, SIZE)
        entry.system("stable64_write")

    def _mark(self, entry: Entry, part: int) -> None:
        """Note that the chunk is there; one that was there before does not count again."""
        f = entry.function
        f.i32(self.missing.address)
        entry.load(self.missing)
        f.get(part)
        f.memory("i32.load8_u", self.present.address)
        f.op("i32.add")
        f.i32(1)
        f.op("i32.sub")
        f.memory("i32.store")
        f.get(part)
        f.i32(1)
        f.memory("i32.store8", self.present.address)
        for start in (DIGEST_BYTES, self.present.address):
            f.get(part)
            f.i32(start)
            f.op("i32.add")
            f.op("i64.extend_i32_u")
        f.i64(1)
        entry.system("stable64_write")
        entry.writes |= self.missing.pages

    # Installation and upgrade

    def _init(self) -> Entry:
        """Take the stable memory that the weights need and write their identity."""
        entry = Entry.new("canister_init", self.prices)
        entry.function.i64(self._stable_pages)
        entry.grow_stable(self.full)
        entry.write_stable(self.identity, 0)
        return entry

    def _post_upgrade(self) -> Entry:
        """Bring back the chunks that are in stable memory; a canister that had none begins as a new one."""
        entry = Entry.new("canister_post_upgrade", self.prices)
        f = entry.function
        entry.end_if_new(self.init)
        entry.read_stable(self.state, 0)
        entry.differ(self.state, self.identity)
        entry.trap_if(self.others)
        entry.read_stable(self.present, DIGEST_BYTES)
        with f.counted(len(self.parts)) as part:
            f.get(part)
            f.memory("i32.load8_u", self.present.address)
            with f.if_():
                self._restore(entry, part)
        return entry

    def _restore(self, entry: Entry, part: int) -> None:
        f = entry.function
        row = self.row_of(f, part)
        self._push_wide(entry, row, ADDRESS)
        self._push_stable_offset(entry, part)
        self._push_wide(entry, row, SIZE)
        entry.system("stable64_read", size=self.part_bytes)
        f.i32(self.missing.address)
        entry.load(self.missing)
        f.i32(1)
        f.op("i32.sub")
        f.memory("i32.store")

    # Which are there

    def _progress(self, cold: Region) -> Entry:
        """Replies the number of chunks that are missing and a byte for each chunk."""
        entry = Entry.new(CHUNKS, self.prices)
        entry.append(cold.constant(PUT_HEADER))
        entry.append(self.missing)
        entry.append(cold.constant(leb128_unsigned(len(self.parts))))
        entry.append(self.present)
        entry.system("msg_reply")
        return entry

    # Operands

    def push_digest_address(self, f: Function, part: int) -> None:
        f.get(part)
        f.i32(DIGEST_BYTES)
        f.op("i32.mul")
        f.i32(self.digests.address)
        f.op("i32.add")

    def _push_wide(self, entry: Entry, row: int, column: int) -> None:
        """A number of the table as an i64."""
        push_column(entry.function, row, column)
        entry.function.op("i64.extend_i32_u")

    def _push_stable_offset(self, entry: Entry, part: int) -> None:
        f = entry.function
        f.get(part)
        f.op("i64.extend_i32_u")
        f.i64(self.part_bytes)
        f.op("i64.mul")
        f.i64(PAGE_BYTES)
        f.op("i64.add")


def _bytes_at(segments: Sequence[DataSegment], place: Place) -> bytes | memoryview:
    """What a memory with these segments, sorted by address, holds at a place; a view where one segment covers it."""
    end = place.address + place.size
    found = [s for s in segments if s.address < end and place.address < s.address + len(s.data)]
    if len(found) == 1 and found[0].address <= place.address and end <= found[0].address + len(found[0].data):
        start = place.address - found[0].address
        return memoryview(found[0].data)[start : start + place.size]
    joined = bytearray(place.size)
    for segment in found:
        first, last = max(segment.address, place.address), min(segment.address + len(segment.data), end)
        joined[first - place.address : last - place.address] = segment.data[
            first - segment.address : last - segment.address
        ]
    return bytes(joined)
