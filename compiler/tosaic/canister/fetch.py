"""Weights that the canister fetches itself from another one that has them, such as a store.

`fetch_chunks(store)` calls the method `get_chunk` of the store for the first chunk that is missing. The callback puts
the chunk in its place, checks and keeps it as `put_chunk` does, and calls again for the next one; the last answers the
caller. So each chunk has a message of its own, and all that has arrived stays: after a refusal, a trap or an upgrade
another `fetch_chunks` goes on with what is missing. Meanwhile chunks may be put as well.

The callbacks stand first in the table, so that a callback that is under way finds its function after an upgrade, too.
"""

from __future__ import annotations

from tosaic.canister.blob import BLOB_HEADER, DIGEST_HEADER, read_fixed_argument
from tosaic.canister.chunks import WeightChunks
from tosaic.canister.digits import write_decimal
from tosaic.canister.entry import Entry, Place, Region
from tosaic.canister.guard import Guard
from tosaic.canister.parts import ADDRESS, LENGTH_MASK, LENGTH_SIZE, LENGTH_WORD, SIZE, push_column
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.policy import CONTROLLERS
from tosaic.prices import PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.opcodes import leb128_unsigned
from tosaic_passes.cost_model import Charge

FETCH_CHUNKS, GET_CHUNK = "fetch_chunks", "get_chunk"
CANISTER_BYTES = 10
"""Bytes of a canister's principal."""
MOST_REASON = 1024
"""Bytes of a rejection that are passed on."""

_PRINCIPAL_HEADER = candid.MAGIC + bytes([0, 1, 0x68, 1, CANISTER_BYTES])
_MISSING_HEADER = candid.MAGIC + bytes([0, 1, 0x79])  # (nat32)
_REFUSED = b"the store did not give chunk "
_DECIMALS = 5
_ON_REPLY, _ON_REJECT, _ON_CLEANUP = 0, 1, 2  # places in the table


def fetch_argument(store: bytes) -> bytes:
    """The argument of `fetch_chunks`."""
    return _PRINCIPAL_HEADER + store


class FetchChunks:
    """`fetch_chunks` and its callbacks (`table`)."""

    def __init__(
        self, chunks: WeightChunks, control: Region, cold: Region, prices: PriceList, guard: Guard
    ) -> None:
        self.chunks = chunks
        self.prices = prices
        self.count = len(chunks.parts)
        self._place(control, cold)
        self._call = self._call_for()
        self._answer = self._reply_missing()
        self.entry = self._fetch(guard)
        self.on_reply = self._on_reply()
        self.table = [self.on_reply.function, self._on_reject(), self._on_cleanup()]

    def charge(self, following: int) -> Charge:
        """What `fetch_chunks` takes where this chunk is the first that is missing."""
        own = Charge(self.entry.function.cost, self.entry.reads, self.entry.writes)
        return own + self._call_charge(following)

    def callback_charge(self, index: int, following: int | None) -> Charge:
        """What the callback takes that gets a chunk and calls for the following one; without one it answers."""
        part, chunks = self.chunks.parts[index], self.chunks
        received = len(leb128_unsigned(part.size)) + part.size
        received_cost = chunks.moving("msg_arg_data_copy", received)
        own = Charge(
            self.on_reply.function.cost + received_cost, self.on_reply.reads, self.on_reply.writes
        ) + chunks.accepting(index)
        if following is not None:
            return own + self._call_charge(following)
        other = self._answer.function.cost - self._call.function.cost
        return own + Charge(other, self._answer.reads, self._answer.writes)

    def _call_charge(self, following: int) -> Charge:
        """The pages that a call for this chunk touches; its instructions are counted already."""
        digest = Place(self.chunks.digests.address + following * DIGEST_BYTES, DIGEST_BYTES)
        return Charge(0, self._call.reads | digest.pages, self._call.writes)

    def _place(self, control: Region, cold: Region) -> None:
        """`fetching` is 1 while a fetch is under way, and 0 again after an upgrade."""
        self.fetching = control.room(4)
        self.store = cold.room(CANISTER_BYTES)
        self.method = cold.constant(GET_CHUNK.encode())
        self.header = cold.constant(DIGEST_HEADER)
        self.scratch = cold.room(32, 16)
        self.missing_header = cold.constant(_MISSING_HEADER)
        self.reason = cold.constant(_REFUSED + bytes(_DECIMALS + 2 + MOST_REASON))
        self.stranger = cold.constant(b"only a controller of the canister may let it fetch weights")
        self.busy = cold.constant(
            b"the canister is fetching already; the query chunks tells which are missing"
        )
        self.malformed = cold.constant(b"the argument is not one principal of a canister")
        self.full = cold.constant(
            b"the canister cannot call the store now: the queue is full or it lacks cycles"
        )
        self.other = cold.constant(b"the store replied something else than the chunk: nothing was changed")

    # Entry points

    def _fetch(self, guard: Guard) -> Entry:
        entry = Entry.new(FETCH_CHUNKS, self.prices)
        f = entry.function
        guard.refuse_others(entry, CONTROLLERS, self.stranger)
        entry.load(self.fetching)
        entry.refuse_if(self.busy)
        read_fixed_argument(entry, _PRINCIPAL_HEADER, self.store, self.scratch, self.malformed)
        entry.store(self.fetching, 1)
        following = self._first_missing(entry)
        f.get(following)
        f.i32(self.count)
        f.op("i32.lt_u")
        self._go_on(entry, following)
        return entry

    def _on_reply(self) -> Entry:
        entry = Entry.new("on_chunk", self.prices, ("i32",))
        f, part = entry.function, 0
        row = self.chunks.row_of(f, part)
        self._trap_unless_chunk(entry, row)
        push_column(f, row, ADDRESS)
        self._push_header_size(f, row)
        push_column(f, row, SIZE)
        entry.system("msg_arg_data_copy")
        self.chunks.call_accept(entry, part)
        following = self._first_missing(entry)
        f.get(following)
        f.i32(self.count)
        f.op("i32.lt_u")
        entry.load(self.fetching)
        f.op("i32.and")
        self._go_on(entry, following)
        return entry

    def _on_reject(self) -> Function:
        """Ends the fetch and passes on why the store refused, and which chunk."""
        entry = Entry.new("on_no_chunk", self.prices, ("i32",))
        f, number = entry.function, 0
        entry.store(self.fetching, 0)
        start = self.reason.address
        end, size = f.local("i32"), f.local("i32")
        digits = write_decimal(f, number, start + len(_REFUSED))
        f.get(digits)
        f.i32(start + len(_REFUSED))
        f.op("i32.add")
        f.tee(end)
        f.i32(int.from_bytes(b": ", "little"))
        f.memory("i32.store16")
        f.get(end)
        f.i32(2)
        f.op("i32.add")
        f.i32(0)
        entry.push_at_most("msg_reject_msg_size", MOST_REASON, size)
        entry.system("msg_reject_msg_copy", size=MOST_REASON)
        f.i32(start)
        f.get(end)
        f.i32(start - 2)
        f.op("i32.sub")
        f.get(size)
        f.op("i32.add")
        entry.system("msg_reject", size=self.reason.size)
        return f

    def _on_cleanup(self) -> Function:
        entry = Entry.new("on_chunk_cleanup", self.prices, ("i32",))
        entry.store(self.fetching, 0)
        return entry.function

    # Their parts

    def _go_on(self, entry: Entry, following: int) -> None:
        """Call for the chunk if the i32 on the stack is not 0, else answer; the first is counted."""
        f = entry.function
        with f.if_(taken=True):
            f.get(following)
            f.call(self._call.function)
            f.else_()
            f.get(following)
            f.call(self._answer.function)
        f.release(following)

    def _call_for(self) -> Entry:
        """The function (chunk): calls the store for it."""
        entry = Entry.new("call_for_chunk", self.prices, ("i32",))
        f, number = entry.function, 0
        for value in (self.store.address, self.store.size, self.method.address, self.method.size):
            f.i32(value)
        for callback in (_ON_REPLY, _ON_REJECT):
            f.i32(callback)
            f.get(number)
        entry.system("call_new", size=self.store.size + self.method.size, reads=[self.store, self.method])
        f.i32(self.header.address)
        f.i32(self.header.size)
        entry.system("call_data_append", size=self.header.size, reads=[self.header])
        self.chunks.push_digest_address(f, number)
        f.i32(DIGEST_BYTES)
        entry.system("call_data_append", size=DIGEST_BYTES)
        entry.system("call_on_cleanup", _ON_CLEANUP, 0)
        entry.system("call_perform")
        entry.trap_if(self.full)
        return entry

    def _reply_missing(self) -> Entry:
        """The function (chunk): ends the fetch and replies how many chunks are missing."""
        entry = Entry.new("end_of_fetch", self.prices, ("i32",))
        entry.store(self.fetching, 0)
        entry.append(self.missing_header)
        entry.append(self.chunks.missing)
        entry.system("msg_reply")
        return entry

    def _first_missing(self, entry: Entry) -> int:
        """A local with the first chunk that is missing, or their number; all are looked at, so it costs the same."""
        f, present = entry.function, self.chunks.present
        found = f.local("i32")
        f.i32(self.count)
        f.set(found)
        with f.counted(self.count) as passed:
            index = f.local("i32")
            f.get(found)
            f.i32(self.count - 1)
            f.get(passed)
            f.op("i32.sub")
            f.tee(index)
            f.get(index)
            f.memory("i32.load8_u", present.address)
            f.op("select")
            f.set(found)
            f.release(index)
        entry.reads |= present.pages
        return found

    def _trap_unless_chunk(self, entry: Entry, row: int) -> None:
        """The reply is one blob of the chunk's size; what is in it is checked later."""
        f = entry.function
        entry.system("msg_arg_data_size")
        self._push_header_size(f, row)
        push_column(f, row, SIZE)
        f.op("i32.add")
        f.op("i32.ne")
        entry.trap_if(self.other)
        f.i32(self.scratch.address)
        f.i32(0)
        self._push_header_size(f, row)
        entry.system("msg_arg_data_copy", size=len(BLOB_HEADER), writes=[self.scratch])
        entry.differs(Place(self.scratch.address, len(BLOB_HEADER)), BLOB_HEADER)
        f.i32(self.scratch.address)
        f.memory("i32.load", len(BLOB_HEADER))
        push_column(f, row, LENGTH_MASK)
        f.op("i32.and")
        push_column(f, row, LENGTH_WORD)
        f.op("i32.ne")
        f.op("i32.or")
        entry.trap_if(self.other)

    def _push_header_size(self, f: Function, row: int) -> None:
        """Push how many bytes stand before the chunk's data in the reply."""
        push_column(f, row, LENGTH_SIZE)
        f.i32(len(BLOB_HEADER))
        f.op("i32.add")
