"""Rewrites one function so that it charges for what it executes and marks the pages that it touches."""

from __future__ import annotations

from dataclasses import dataclass, field

from tosaic.limits import FunctionSize
from tosaic.prices import PAGE_BYTES
from tosaic.replica.instrumentation import READ_MAP, WRITE_MAP, Instrumentation, op
from tosaic.replica.metered_operators import (
    ACCESS,
    BULK,
    BULK_WRITES,
    LOCAL_CHANGE,
    LOCAL_GET,
    Charges,
    MeteredOperator,
    OperatorTables,
)
from tosaic.wasm.decode import SKIP_IMMEDIATES, Reader, malformed, unsigned_at
from tosaic.wasm.function import VALUE_TYPES
from tosaic.wasm.opcodes import leb128_signed, leb128_unsigned


@dataclass
class _Group:
    """Accesses of one piece through the same local: they touch the pages of their first and last byte, no others."""

    local: int
    low: int
    high: int
    slot: int
    map: int


@dataclass
class FunctionRewriter:
    """Rewrites one function; `out` collects pieces of the old body and what is put between them."""

    body: bytes
    parameters: int
    charges: Charges
    tables: OperatorTables
    code: Instrumentation
    pages: bool
    out: list[bytes] = field(default_factory=list)
    copied: int = 0
    added: list[str] = field(default_factory=list)
    scratch: dict[str, int] = field(default_factory=dict)
    groups: dict[tuple[int, int], _Group] = field(default_factory=dict)
    finished: list[_Group] = field(default_factory=list)

    def run(self) -> tuple[bytes, FunctionSize]:
        """The new body and the size of the old one."""
        reader = Reader(self.body)
        declarations = [(reader.unsigned(), reader.byte()) for _ in range(reader.unsigned())]
        self.locals = self.parameters + sum(count for count, _ in declarations)
        self.copied = reader.position
        size = self._operators(reader.position)
        for group in self.finished:
            self.out[group.slot] = self._mark_group(group)
        declarations += [(1, VALUE_TYPES[type]) for type in self.added]
        declared = b"".join(leb128_unsigned(count) + bytes([type]) for count, type in declarations)
        return leb128_unsigned(len(declarations)) + declared + b"".join(self.out), size

    def _operators(self, position: int) -> FunctionSize:
        """Walk over all operators; one flat loop, as it runs for every operator of a program."""
        body, (one_byte, prefixed) = self.body, self.tables
        end = len(body)
        count, complexity = 0, 0
        cost, check = self.charges.function_entry, True
        slot = self._slot(position)
        address = -1  # the local that the operator before pushed
        while position < end:
            start = position
            code = body[position]
            position += 1
            decoded = one_byte[code]
            if decoded is None:
                sub, position = unsigned_at(body, position)
                decoded = prefixed.get((code, sub))
                if decoded is None:
                    raise malformed(f"operator {code:#x} {sub:#x} is not one that canisters may use")
            first = position
            position = SKIP_IMMEDIATES[decoded.immediates](body, position)
            count += 1
            complexity += decoded.complexity
            cost += decoded.price
            action = decoded.action
            if action == LOCAL_GET:
                address = unsigned_at(body, first)[0]
                continue
            if action == LOCAL_CHANGE:
                self._forget(unsigned_at(body, first)[0])
            elif action == ACCESS and self.pages:
                self._access(decoded, start, first, address)
            elif action == BULK:
                self._bulk(decoded, start, position)
            address = -1
            if decoded.cuts:
                self.out[slot] = self.code.charge(cost, check)
                slot = self._slot(position)
                cost, check = 0, decoded.name == "loop"
                self._forget_all()
        self.out[slot] = self.code.charge(cost, check) if cost else b""
        self.out.append(body[self.copied :])
        return FunctionSize(count, complexity)

    def _access(self, decoded: MeteredOperator, start: int, immediates: int, address: int) -> None:
        flags, position = unsigned_at(self.body, immediates)
        if flags & 0x40:
            raise malformed("a canister has one memory only")
        low, _ = unsigned_at(self.body, position)
        high = low + decoded.access_bytes - 1
        map = WRITE_MAP if decoded.writes else READ_MAP
        if decoded.under_value:
            self._access_under_value(decoded, start, low, high, map)
        elif address < 0:
            local = self._scratch("i32", "address")
            self._insert(start, op("local.tee", leb128_unsigned(local)) + self._marks(local, low, high, map))
        else:
            self._group(address, low, high, map, start)

    def _access_under_value(
        self, decoded: MeteredOperator, start: int, low: int, high: int, map: int
    ) -> None:
        """The address lies under a value: put the value aside, mark, put it back."""
        address, value = (
            self._scratch("i32", "address"),
            self._scratch(decoded.under_value, decoded.under_value),
        )
        aside = op("local.set", leb128_unsigned(value)) + op("local.tee", leb128_unsigned(address))
        back = op("local.get", leb128_unsigned(value))
        self._insert(start, aside + self._marks(address, low, high, map) + back)

    def _group(self, local: int, low: int, high: int, map: int, start: int) -> None:
        group = self.groups.get((local, map))
        if group is not None and max(high, group.high) - min(low, group.low) < PAGE_BYTES:
            group.low, group.high = min(low, group.low), max(high, group.high)
            return
        if group is not None:
            self.finished.append(group)
        self.groups[local, map] = _Group(local, low, high, self._slot(start), map)

    def _mark_group(self, group: _Group) -> bytes:
        return self._marks(group.local, group.low, group.high, group.map)

    def _marks(self, local: int, low: int, high: int, map: int) -> bytes:
        first = self.code.mark(local, low, map)
        return first if low == high else first + self.code.mark(local, high, map)

    def _bulk(self, decoded: MeteredOperator, start: int, position: int) -> None:
        """Pay for the length before the operation, mark the pages after it (then they are known to exist)."""
        size = self._scratch("i32", "size")
        set_size, get_size = op("local.set", leb128_unsigned(size)), op("local.get", leb128_unsigned(size))
        charge = b""
        if decoded.name in self.charges.by_length:
            charge = get_size + op("call", self.code.charge_length)
        if not self.pages or decoded.name not in BULK_WRITES:
            self._insert(start, set_size + charge + get_size)
            return
        source, target = self._scratch("i32", "source"), self._scratch("i32", "address")
        locals = [leb128_unsigned(target), leb128_unsigned(source), leb128_unsigned(size)]
        aside = b"".join(op("local.set", local) for local in reversed(locals))
        back = b"".join(op("local.get", local) for local in locals)
        self._insert(start, aside + charge + back)
        marks = self._mark_range(target, get_size, WRITE_MAP)
        if decoded.name == "memory.copy":
            marks += self._mark_range(source, get_size, READ_MAP)
        self._insert(position, marks)

    def _mark_range(self, local: int, get_size: bytes, map: int) -> bytes:
        arguments = op("local.get", leb128_unsigned(local)) + get_size + op("i32.const", leb128_signed(map))
        return arguments + op("call", self.code.mark_range)

    def _forget(self, local: int) -> None:
        """The local changes: later accesses through it are another group."""
        for map in (READ_MAP, WRITE_MAP):
            if group := self.groups.pop((local, map), None):
                self.finished.append(group)

    def _forget_all(self) -> None:
        self.finished += self.groups.values()
        self.groups.clear()

    def _scratch(self, type: str, role: str) -> int:
        """An appended local, one a role."""
        if role not in self.scratch:
            self.scratch[role] = self.locals + len(self.added)
            self.added.append(type)
        return self.scratch[role]

    def _slot(self, position: int) -> int:
        """A place in the output, to be filled later, after all of the body before `position`."""
        self._insert(position, b"")
        return len(self.out) - 1

    def _insert(self, position: int, code: bytes) -> None:
        self.out += (self.body[self.copied : position], code)
        self.copied = position
