"""The code that a metered module has besides its own: it pays, checks, and marks touched pages."""

from __future__ import annotations

from dataclasses import dataclass

from tosaic.wasm.opcodes import OPERATORS, leb128_signed, leb128_unsigned

SLICE_EXCEEDED = -(1 << 63)
"""What the counter shows after an operation that no slice can hold."""
READ_MAP, WRITE_MAP = 0, 65536
"""Where the appended memory holds the bytes of read and of written pages (65,536 pages each: 4 GiB)."""


@dataclass(frozen=True)
class Instrumentation:
    """Code around the additions to a module, each known by its encoded index.

    `counter` is a global, `map_memory` the memory of marks, `charge_length` and `mark_range` are functions.
    """

    counter: bytes
    map_memory: bytes
    charge_length: bytes
    mark_range: bytes

    def charge(self, cost: int, check: bool) -> bytes:
        """Subtract a constant; `check`: trap when the counter is below zero."""
        counter = op("global.get", self.counter)
        paid = counter + op("i64.const", leb128_signed(cost)) + op("i64.sub") + op("global.set", self.counter)
        return (paid if cost else b"") + (self._check() if check else b"")

    def mark(self, local: int, offset: int, map: int) -> bytes:
        """Mark the page of the byte at `local` + `offset`."""
        address = op("local.get", leb128_unsigned(local))
        if offset:
            address += op("i32.const", leb128_signed(_signed32(offset))) + op("i32.add")
        page = address + op("i32.const", leb128_signed(16)) + op("i32.shr_u")
        memarg = b"\x40" + self.map_memory + leb128_unsigned(map)
        return page + op("i32.const", b"\x01") + op("i32.store8", memarg)

    def charge_length_body(self, slice: int) -> bytes:
        """Of a function of a length: it pays for it. An operation longer than a `slice` of execution fails."""
        length = op("local.get", b"\0") + op("i64.extend_i32_u")
        paid = op("global.get", self.counter) + length + op("i64.sub") + op("global.set", self.counter)
        too_long = length + op("i64.const", leb128_signed(slice)) + op("i64.gt_s")
        flag = op("i64.const", leb128_signed(SLICE_EXCEEDED)) + op("global.set", self.counter)
        refuse = op("if", b"\x40") + flag + op("unreachable") + op("end")
        return b"\0" + too_long + refuse + paid + self._check() + op("end")

    def mark_range_body(self) -> bytes:
        """Of a function of an address, a length and a map: it marks the pages of a range of bytes."""
        address, length, map = (op("local.get", bytes([i])) for i in range(3))
        shift = op("i32.const", leb128_signed(16)) + op("i32.shr_u")
        first = address + shift
        last = address + length + op("i32.add") + op("i32.const", b"\x01") + op("i32.sub") + shift
        count = last + first + op("i32.sub") + op("i32.const", b"\x01") + op("i32.add")
        fill = map + first + op("i32.add") + op("i32.const", b"\x01") + count
        fill += op("memory.fill", self.map_memory)
        return b"\0" + length + op("if", b"\x40") + fill + op("end") + op("end")

    def _check(self) -> bytes:
        below = op("global.get", self.counter) + op("i64.const", b"\0") + op("i64.lt_s")
        return below + op("if", b"\x40") + op("unreachable") + op("end")


def op(name: str, immediates: bytes = b"") -> bytes:
    """The code of an operator."""
    return OPERATORS[name].code + immediates


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
