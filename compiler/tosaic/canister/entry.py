"""One entry point of a canister under construction: operators and the pages that they touch, noted in the same act."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.principals import MOST_BYTES
from tosaic.wasm.function import Function
from tosaic.wasm.ic0 import IC0
from tosaic.wasm.module import DataSegment
from tosaic.wasm.program import SegmentCode

_COMPARED = ((8, "i64.load"), (4, "i64.load32_u"), (2, "i64.load16_u"), (1, "i64.load8_u"))


STABLE = 1 << 32
"""In page masks the pages of stable memory follow those of the heap: its byte 0 has this address."""


@dataclass(frozen=True)
class Place:
    """Bytes in memory at a constant address."""

    address: int
    size: int

    @property
    def pages(self) -> int:
        """The touched pages as a bit mask."""
        if not self.size:
            return 0
        first, last = self.address // PAGE_BYTES, (self.address + self.size - 1) // PAGE_BYTES
        return (1 << (last + 1)) - (1 << first)


@dataclass
class Region:
    """A stretch of memory that is handed out from its start; `data` collects what it holds from the start."""

    position: int
    end: int | None = None
    data: list[DataSegment] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Bytes that are left, in a region that has an end."""
        return 0 if self.end is None else self.end - self.position

    def room(self, size: int, alignment: int = 8) -> Place:
        """Room that holds zeros at first."""
        address = -(-self.position // alignment) * alignment
        self.position = address + size
        if self.end is not None and self.position > self.end:
            raise ValueError(f"the control region ends at {self.end} and {self.position} bytes are needed")
        return Place(address, size)

    def constant(self, content: bytes, alignment: int = 8) -> Place:
        """Room that holds these bytes."""
        place = self.room(len(content), alignment)
        if content:
            self.data.append(DataSegment(place.address, content))
        return place


@dataclass
class Entry:
    """A function of the canister and the pages it touches on the path that is not a refusal.

    A text is a place in memory that holds an error message; refusals touch its page, too, but are not predicted.
    """

    function: Function
    reads: int = 0
    writes: int = 0

    @classmethod
    def new(cls, name: str, prices: PriceList, params: tuple[str, ...] = ()) -> Entry:
        return cls(Function(name, prices, params))

    def system(
        self,
        name: str,
        *arguments: int,
        size: int = 0,
        reads: Sequence[Place] = (),
        writes: Sequence[Place] = (),
    ) -> None:
        """Call ic0.`name` with constant arguments; `size` bytes are paid for."""
        for argument in arguments:
            self.function.i32(argument)
        self.function.call_system(IC0[name], size)
        for place in reads:
            self.reads |= place.pages
        for place in writes:
            self.writes |= place.pages

    def push_at_most(self, call: str, most: int, local: int) -> None:
        """Push the i32 that a system call gives, but at most so much; it is in the local as well."""
        f = self.function
        f.i32(most)
        self.system(call)
        f.tee(local)
        f.get(local)
        f.i32(most)
        f.op("i32.gt_u")
        f.op("select")
        f.tee(local)

    def append(self, place: Place) -> None:
        """Append bytes to the reply."""
        self.system("msg_reply_data_append", place.address, place.size, size=place.size, reads=[place])

    def read_stable(self, place: Place, offset: int) -> None:
        """Fill a place from stable memory."""
        for value in (place.address, offset, place.size):
            self.function.i64(value)
        self.system("stable64_read", size=place.size, writes=[place])
        self.reads |= Place(STABLE + offset, place.size).pages

    def write_stable(self, place: Place, offset: int) -> None:
        """Put a place into stable memory."""
        for value in (offset, place.address, place.size):
            self.function.i64(value)
        self.system("stable64_write", size=place.size, reads=[place])
        self.writes |= Place(STABLE + offset, place.size).pages

    def grow_stable(self, text: Place) -> None:
        """Grow stable memory by the pages (i64) on the stack; trap with this text where there are not so many."""
        self.system("stable64_grow")
        self.function.i64(0)
        self.function.op("i64.lt_s")
        self.trap_if(text)

    def end_if_new(self, init: Entry) -> None:
        """After an upgrade: a canister without stable memory begins as a new one, and that is all."""
        f = self.function
        self.system("stable64_size")
        f.op("i64.eqz")
        with f.if_():
            f.call(init.function)
            f.op("return")

    def load(self, place: Place) -> None:
        """Push an i32 of the canister's state."""
        self.function.i32(place.address)
        self.function.memory("i32.load")
        self.reads |= place.pages

    def store(self, place: Place, value: int) -> None:
        """Set an i32 of the canister's state."""
        self.function.i32(place.address)
        self.function.i32(value)
        self.function.memory("i32.store")
        self.writes |= place.pages

    def differs(self, place: Place, content: bytes) -> None:
        """Push whether the bytes at a place are others than these."""
        f = self.function
        f.i64(0)
        for offset, size, load in _pieces(len(content)):
            f.i32(place.address)
            f.memory(load, offset)
            f.i64(int.from_bytes(content[offset : offset + size], "little"))
            f.op("i64.xor")
            f.op("i64.or")
        f.i64(0)
        f.op("i64.ne")
        self.reads |= place.pages

    def differ(self, first: Place, second: Place) -> None:
        """Push whether the bytes of two places of the same size differ."""
        f = self.function
        f.i64(0)
        for offset, _, load in _pieces(first.size):
            for place in (first, second):
                f.i32(place.address)
                f.memory(load, offset)
            f.op("i64.xor")
            f.op("i64.or")
        f.i64(0)
        f.op("i64.ne")
        self.reads |= first.pages | second.pages

    def copy(self, source: Place, target: Place) -> None:
        """Copy a place whose size is a multiple of 16."""
        for offset in range(0, source.size, 16):
            self.function.i32(target.address)
            self.function.i32(source.address)
            self.function.memory("v128.load", offset)
            self.function.memory("v128.store", offset)
        self.reads |= source.pages
        self.writes |= target.pages

    def store_caller(self, place: Place) -> None:
        """Put the caller's principal into 32 bytes: its bytes, zeros, and its length at the end.

        The bytes that are copied and those that are cleared are paid alike, so all callers cost the same.
        """
        f = self.function
        length = f.local("i32")
        self.system("msg_caller_size")
        f.set(length)
        f.i32(place.address)
        f.get(length)
        f.memory("i32.store8", place.size - 1)
        self.clear_rest(place, place)
        f.i32(place.address)
        f.i32(0)
        f.get(length)
        self.system("msg_caller_copy", size=MOST_BYTES, writes=[place])
        f.release(length)

    def clear_rest(self, place: Place, caller: Place) -> None:
        """Clear the bytes of a place that a copy of this caller's principal leaves; what is paid is all 29 bytes."""
        f = self.function
        f.i32(place.address)
        self.push_caller_size(caller)
        f.op("i32.add")
        f.i32(0)
        f.i32(MOST_BYTES)
        self.push_caller_size(caller)
        f.op("i32.sub")
        f.memory_fill(0)
        self.writes |= place.pages

    def push_caller_size(self, caller: Place) -> None:
        """Push the length of a stored principal."""
        self.function.i32(caller.address)
        self.function.memory("i32.load8_u", caller.size - 1)

    def refuse_if(self, text: Place) -> None:
        """Reject the call with this text if the i32 on the stack is not 0."""
        self._end_if("msg_reject", text)

    def trap_if(self, text: Place) -> None:
        """Trap with this text if the i32 on the stack is not 0."""
        self._end_if("trap", text)

    def run(self, segment: SegmentCode) -> None:
        """Call a segment."""
        self.function.call(segment.function)
        self.function.exact &= segment.exact
        self.reads |= segment.reads
        self.writes |= segment.writes

    def _end_if(self, how: str, text: Place) -> None:
        with self.function.if_(taken=False):
            self.function.i32(text.address)
            self.function.i32(text.size)
            self.function.call_system(IC0[how], text.size if how == "msg_reject" else 0)
            self.function.op("return")


def push_differ(f: Function, push_first: Callable[[], None], push_second: Callable[[], None]) -> None:
    """Push whether the 32 bytes at two addresses differ."""
    for half in (0, 16):
        for push_address in (push_first, push_second):
            push_address()
            f.memory("v128.load", half)
        f.op("v128.xor")
    f.op("v128.or")
    f.op("v128.any_true")


def pages_of(places: Sequence[Place]) -> int:
    """The touched pages of several places as a bit mask."""
    return functools.reduce(operator.or_, (place.pages for place in places), 0)


def _pieces(size: int) -> list[tuple[int, int, str]]:
    """Loads that cover `size` bytes: (offset, bytes, operator)."""
    found, offset = [], 0
    while offset < size:
        width, load = next(piece for piece in _COMPARED if piece[0] <= size - offset)
        found.append((offset, width, load))
        offset += width
    return found
