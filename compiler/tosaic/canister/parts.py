"""Tensors that no message carries whole arrive and leave in parts.

The parts are numbered through all tensors: each tensor, as callers see it, is cut into parts of a fixed size, of which
the last may be shorter. `put(part, data)` sends the parts of the inputs in order; the caller who sends part 0 owns the
transfer from then on, and only that caller may go on with it and call `infer`. `get(part)` fetches the parts of the
outputs; only the caller of the last inference may do so, until the next transfer or inference begins. So tensors of
different callers never mix.

A table in memory holds for each part what the code needs of it, so all parts take the same path.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tosaic.canister.blob import BLOB_HEADER, NOTHING
from tosaic.canister.cost_log import CostLog
from tosaic.canister.entry import Entry, Place, Region
from tosaic.prices import PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.opcodes import leb128_unsigned
from tosaic.wasm.program import BorderTensor
from tosaic_passes.cost_model import Charge

PUT, GET = "put", "get"
ROW_BYTES = 32
ADDRESS, SIZE, LENGTH_SIZE, LENGTH_MASK, LENGTH_WORD, _PREFIX = 0, 4, 8, 12, 16, 16
PUT_HEADER = candid.MAGIC + bytes([1, candid.VEC, 0x7B, 2, 0x79, 0])  # (nat32, blob)
_GET_HEADER = candid.MAGIC + bytes([0, 1, 0x79])  # (nat32)
_PUT_DATA = len(PUT_HEADER) + 4  # where the length of the data stands


_HEADER_ROOM = 8192  # what a message may hold besides the tensors


def needs_parts(sizes: Sequence[int], message_bytes: int) -> bool:
    """Whether tensors of these sizes in bytes are more than a message of `message_bytes` carries."""
    return sum(sizes) > message_bytes - _HEADER_ROOM


@dataclass(frozen=True)
class Part:
    """Bytes of a tensor at the border: which tensor, from where, how many."""

    tensor: int
    offset: int
    size: int


def parts_of(sizes: Sequence[int], part_bytes: int) -> list[Part]:
    """The parts of tensors of these sizes in bytes, in order."""
    return [
        Part(tensor, offset, min(part_bytes, size - offset))
        for tensor, size in enumerate(sizes)
        for offset in range(0, size, part_bytes)
    ]


def put_argument(part: int, data: bytes) -> bytes:
    """The argument of `put`."""
    return PUT_HEADER + struct.pack("<I", part) + leb128_unsigned(len(data)) + data


def put_argument_bytes(size: int) -> int:
    """How long the argument of `put` is for a part of so many bytes."""
    return _PUT_DATA + len(leb128_unsigned(size)) + size


def get_argument(part: int) -> bytes:
    """The argument of `get`."""
    return _GET_HEADER + struct.pack("<I", part)


@dataclass(frozen=True)
class Transfer:
    """The state of transfers: who owns it, who calls, the next part of the inputs, are there results?"""

    owner: Place
    caller: Place
    next_part: Place
    results: Place
    scratch: Place

    @classmethod
    def place(cls, control: Region) -> Transfer:
        return cls(
            control.room(32, 16), control.room(32, 16), control.room(4), control.room(4), control.room(16)
        )

    def refuse_strangers(self, entry: Entry, text: Place) -> None:
        """Refuse who is not the owner."""
        entry.store_caller(self.caller)
        entry.differ(self.caller, self.owner)
        entry.refuse_if(text)

    def refuse_unless_complete(self, entry: Entry, parts: int, text: Place) -> None:
        """Refuse who has not sent all parts of the inputs; they can be used once."""
        self.refuse_strangers(entry, text)
        entry.load(self.next_part)
        entry.function.i32(parts)
        entry.function.op("i32.ne")
        entry.refuse_if(text)
        entry.store(self.next_part, 0)

    def own(self, entry: Entry) -> None:
        """The caller becomes the owner."""
        entry.store_caller(self.caller)
        entry.copy(self.caller, self.owner)


def push_column(f: Function, row: int, column: int) -> None:
    """Push a number of the table, from the row whose address is in a local."""
    f.get(row)
    f.memory("i32.load", column)


class _Parts:
    """The tensors of one side of the border in parts, and the entry point that moves them."""

    def __init__(
        self, name: str, tensors: Sequence[BorderTensor], transfer: Transfer, cold: Region, prices: PriceList
    ) -> None:
        self.tensors = tensors
        self.transfer = transfer
        self.prices = prices
        self.part_bytes = prices.limits["chunk_bytes"]
        self.parts = parts_of([t.border_bytes for t in tensors], self.part_bytes)
        rows = b"".join(self._row(part).ljust(ROW_BYTES, b"\0") for part in self.parts)
        self.table = cold.constant(rows, alignment=ROW_BYTES)
        self.malformed = cold.constant(b"the argument is not of the type that the interface names")
        self.unknown = cold.constant(f"there are only the parts 0 to {len(self.parts) - 1}".encode())
        self.entry = Entry.new(name, prices)

    def charge(self, index: int) -> Charge:
        """What the message of this part takes."""
        raise NotImplementedError

    def _row(self, part: Part) -> bytes:
        """What the table holds of a part, from the column `ADDRESS` on."""
        raise NotImplementedError

    def place(self, part: Part) -> Place:
        return Place(self.tensors[part.tensor].address + part.offset, part.size)

    def row_place(self, index: int) -> Place:
        return Place(self.table.address + index * ROW_BYTES, ROW_BYTES)

    def moving(self, call: str, size: int) -> int:
        """The price of the bytes that one or several of these system calls move."""
        return self.prices.system_call(call, size) - self.prices.system_call(call)

    def _read_part_number(self, header: bytes, part: int) -> None:
        entry, f = self.entry, self.entry.function
        scratch = Place(self.transfer.scratch.address, len(header) + 4)
        entry.system(
            "msg_arg_data_copy", scratch.address, 0, scratch.size, size=scratch.size, writes=[scratch]
        )
        entry.differs(Place(scratch.address, len(header)), header)
        entry.refuse_if(self.malformed)
        f.i32(scratch.address)
        f.memory("i32.load", len(header))
        f.tee(part)
        f.i32(len(self.parts))
        f.op("i32.ge_u")
        entry.refuse_if(self.unknown)

    def row_of(self, f: Function, part: int) -> int:
        """A local with the address of the part's row in the table."""
        row = f.local("i32")
        f.get(part)
        f.i32(ROW_BYTES)
        f.op("i32.mul")
        f.i32(self.table.address)
        f.op("i32.add")
        f.set(row)
        return row

    def _load(self, row: int, column: int) -> None:
        push_column(self.entry.function, row, column)


class ReceivedParts(_Parts):
    """Parts that a call brings as (part, data), copied to their places."""

    def __init__(
        self, name: str, tensors: Sequence[BorderTensor], transfer: Transfer, cold: Region, prices: PriceList
    ) -> None:
        super().__init__(name, tensors, transfer, cold, prices)
        self.wrong_size = cold.constant(
            f"the part has a wrong size: parts have {self.part_bytes} bytes, the last of a tensor what is left".encode()
        )
        self.nothing = cold.constant(NOTHING)

    def _row(self, part: Part) -> bytes:
        length = leb128_unsigned(part.size)
        mask, word = (1 << 8 * len(length)) - 1, int.from_bytes(length, "little")
        return struct.pack("<IIIII", self.place(part).address, part.size, len(length), mask, word)

    def _received_bytes(self, part: Part) -> int:
        """Bytes of the argument that are copied besides the header."""
        return len(leb128_unsigned(part.size)) + part.size

    def _read_header(self) -> tuple[int, int]:
        """Two locals with the number of the part and the size of the argument."""
        entry, f = self.entry, self.entry.function
        part, size = f.local("i32"), f.local("i32")
        entry.system("msg_arg_data_size")
        f.tee(size)
        f.i32(_PUT_DATA)
        f.op("i32.lt_u")
        entry.refuse_if(self.malformed)
        self._read_part_number(PUT_HEADER, part)
        return part, size

    def _refuse_wrong_size(self, row: int, size: int) -> None:
        """The argument's size, and the length that it states, are those of the part."""
        entry, f, scratch = self.entry, self.entry.function, self.transfer.scratch
        f.get(size)
        self._load(row, SIZE)
        self._load(row, LENGTH_SIZE)
        f.op("i32.add")
        f.i32(_PUT_DATA)
        f.op("i32.add")
        f.op("i32.ne")
        entry.refuse_if(self.wrong_size)
        f.i32(scratch.address)
        f.i32(_PUT_DATA)
        self._load(row, LENGTH_SIZE)
        entry.system("msg_arg_data_copy", writes=[scratch])
        f.i32(scratch.address)
        f.memory("i32.load")
        self._load(row, LENGTH_MASK)
        f.op("i32.and")
        self._load(row, LENGTH_WORD)
        f.op("i32.ne")
        entry.refuse_if(self.wrong_size)

    def _copy(self, row: int) -> None:
        f = self.entry.function
        self._load(row, ADDRESS)
        f.i32(_PUT_DATA)
        self._load(row, LENGTH_SIZE)
        f.op("i32.add")
        self._load(row, SIZE)
        self.entry.system("msg_arg_data_copy")


class InputParts(ReceivedParts):
    """`put(part, data)`. `admit` emits the check of the caller, and of an inference that runs."""

    def __init__(
        self, tensors: Sequence[BorderTensor], transfer: Transfer, cold: Region, prices: PriceList,
        admit: Callable[[Entry], None], log: CostLog,
    ) -> None:  # fmt: skip
        super().__init__(PUT, tensors, transfer, cold, prices)
        self.log = log
        admit(self.entry)
        self.out_of_order = cold.constant(
            f"the parts 0 to {len(self.parts) - 1} of the inputs are sent in order by one caller; this is another "
            "one, or another caller has begun to send: begin with part 0".encode()
        )
        self._emit()

    def charge(self, index: int) -> Charge:
        part = self.parts[index]
        moved = self._received_bytes(part)
        return Charge(
            self.entry.function.cost + self.moving("msg_arg_data_copy", moved),
            self.entry.reads | self.row_place(index).pages,
            self.entry.writes | self.place(part).pages,
        )

    def _emit(self) -> None:
        entry, transfer = self.entry, self.transfer
        part, size = self._read_header()
        self._refuse_out_of_order(part)
        row = self.row_of(self.entry.function, part)
        self._refuse_wrong_size(row, size)
        self._copy(row)
        entry.copy(transfer.caller, transfer.owner)
        self._expect_next(part)
        entry.store(transfer.results, 0)
        entry.append(self.nothing)
        entry.system("msg_reply")
        self.log.begin_at_part(entry, part)
        self.log.add(entry)

    def _refuse_out_of_order(self, part: int) -> None:
        """Any caller may send part 0; others follow the one before, from the same caller."""
        entry, f, transfer = self.entry, self.entry.function, self.transfer
        entry.store_caller(transfer.caller)
        f.get(part)
        f.i32(0)
        f.op("i32.ne")
        entry.differ(transfer.caller, transfer.owner)
        f.get(part)
        entry.load(transfer.next_part)
        f.op("i32.ne")
        f.op("i32.or")
        f.op("i32.and")
        entry.refuse_if(self.out_of_order)

    def _expect_next(self, part: int) -> None:
        f, place = self.entry.function, self.transfer.next_part
        f.i32(place.address)
        f.get(part)
        f.i32(1)
        f.op("i32.add")
        f.memory("i32.store")
        self.entry.writes |= place.pages


class OutputParts(_Parts):
    """`get(part)`; `admit` emits the check of the caller."""

    def __init__(
        self, tensors: Sequence[BorderTensor], transfer: Transfer, cold: Region, prices: PriceList,
        admit: Callable[[Entry], None],
    ) -> None:  # fmt: skip
        super().__init__(GET, tensors, transfer, cold, prices)
        admit(self.entry)
        self.no_results = cold.constant(b"there are no results of a call of yours: call infer first")
        self._emit()

    def charge(self, index: int) -> Charge:
        part = self.parts[index]
        return Charge(
            self.entry.function.cost + self.moving("msg_reply_data_append", self.reply_bytes(index)),
            self.entry.reads | self.row_place(index).pages | self.place(part).pages,
            self.entry.writes,
        )

    def reply_bytes(self, index: int) -> int:
        """How long the reply with this part is."""
        part = self.parts[index]
        return len(_reply_prefix(part)) + part.size

    def _row(self, part: Part) -> bytes:
        prefix = _reply_prefix(part)
        return struct.pack("<III4x", self.place(part).address, part.size, len(prefix)) + prefix

    def _emit(self) -> None:
        entry, f, transfer = self.entry, self.entry.function, self.transfer
        part = f.local("i32")
        transfer.refuse_strangers(entry, self.no_results)
        entry.load(transfer.results)
        f.op("i32.eqz")
        entry.refuse_if(self.no_results)
        entry.system("msg_arg_data_size")
        f.i32(len(_GET_HEADER) + 4)
        f.op("i32.ne")
        entry.refuse_if(self.malformed)
        self._read_part_number(_GET_HEADER, part)
        row = self.row_of(self.entry.function, part)
        f.get(row)
        f.i32(_PREFIX)
        f.op("i32.add")
        self._load(row, LENGTH_SIZE)
        entry.system("msg_reply_data_append")
        self._load(row, ADDRESS)
        self._load(row, SIZE)
        entry.system("msg_reply_data_append")
        entry.system("msg_reply")


def _reply_prefix(part: Part) -> bytes:
    return BLOB_HEADER + leb128_unsigned(part.size)
