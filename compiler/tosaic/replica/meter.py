"""Rewrites a WebAssembly module so that it charges for what it executes, by the network's accounting rules.

Rules (`rules` of the price list, from dfinity/ic `instrumentation.rs`): a function starts with 1; its body is cut into
straight pieces by control operators, and each piece pays for all of its operators at its start; bulk operations
also pay for their length. The counter, a global appended to the module, counts down from the message's limit and is
compared with 0 at function entries, loop headers and bulk operations.

Touched pages are marked in a memory appended to the module: a byte a page that is read, a byte a page that is
written. Nothing that the module refers to by index moves, because all additions come last.

As on the network the start function becomes an export, which runs at install only, and the globals and the table are
exported, so that a canister's state can be put back and its callbacks be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tosaic.errors import TosaicError
from tosaic.limits import FunctionSize
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm import opcodes
from tosaic.wasm.decode import (
    CODE,
    EXPORT,
    FUNCTION,
    GLOBAL,
    MEMORY,
    SKIP_IMMEDIATES,
    START,
    TABLE,
    TYPE,
    BinaryModule,
    Reader,
    malformed,
    unsigned_at,
)
from tosaic.wasm.function import VALUE_TYPES
from tosaic.wasm.opcodes import ACCESS_BYTES, OPERATORS, Operator, leb128_signed, leb128_unsigned

COUNTER_EXPORT = "canister counter_instructions"
PAGES_EXPORT = "canister touched_pages"
START_EXPORT = "canister_start"
TABLE_EXPORT = "canister table"
GLOBAL_EXPORT = "canister global {}"
SLICE_EXCEEDED = -(1 << 63)
"""What the counter shows after an operation that no slice can hold."""
READ_MAP, WRITE_MAP = 0, 65536
"""Where the appended memory holds the bytes of read and of written pages (65,536 pages each: 4 GiB)."""

_FUNCTION_KIND, _TABLE_KIND, _MEMORY_KIND, _GLOBAL_KIND = b"\x00", b"\x01", b"\x02", b"\x03"
_CUTS = frozenset(
    "loop if else end br br_if br_table return unreachable return_call return_call_indirect".split()
)
_PLAIN, _LOCAL_GET, _LOCAL_CHANGE, _BULK, _ACCESS = range(5)
_WRITES = ("memory.fill", "memory.copy", "memory.init")


@dataclass(frozen=True)
class Charges:
    """What is paid for what: the static price of each operator, and the operators that also pay for their length.

    An operation whose length is more than `slice` fails: a slice of execution cannot hold it. `complexity` is what an
    operator adds to its function's complexity (1 if it is not there). Modules with `refused` operators are invalid.
    """

    operators: Mapping[str, int]
    function_entry: int
    by_length: frozenset[str]
    slice: int = 1 << 32
    complexity: Mapping[str, int] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()

    @classmethod
    def of(cls, prices: PriceList, operators: Mapping[str, Operator] = OPERATORS) -> Charges:
        rules = prices.document["rules"]
        default = rules["unlisted_operator_default"]
        listed = {name: prices.operators.get(name, default) for name in operators}
        slice = prices.limits["slice_instructions"]
        return cls(
            listed,
            prices.function_entry,
            frozenset(rules["dynamic"]),
            slice,
            prices.complexity,
            prices.refused_operators,
        )


@dataclass(frozen=True)
class MeteredModule:
    """A module that counts; `functions` are the sizes of the functions as they were."""

    wasm: bytes
    functions: tuple[FunctionSize, ...]


def meter(
    wasm: bytes, charges: Charges, pages: bool = True, operators: Mapping[str, Operator] = OPERATORS
) -> MeteredModule:
    """The module with a counter (export `COUNTER_EXPORT`, i64) and, with `pages`, marks of touched pages.

    `operators` are those that the module may use. Without `pages` it may import its memory.

    Raises:
        TosaicError: the module is malformed, or uses 64-bit or several memories, threads or unknown operators.
    """
    return _Rewriter(BinaryModule.parse(wasm), charges, pages, operators).run()


@dataclass(frozen=True)
class _Decoded:
    """What the rewriter has to know of an operator."""

    name: str
    price: int
    immediates: str
    action: int
    cuts: bool
    access_bytes: int = 0
    under_value: str = ""
    """Type of the value that lies over the address on the stack."""
    writes: bool = False
    complexity: int = 1


@dataclass
class _Group:
    """Accesses of one piece through the same local: they touch the pages of their first and last byte, no others."""

    local: int
    low: int
    high: int
    slot: int
    map: int


class _Rewriter:
    def __init__(
        self, module: BinaryModule, charges: Charges, pages: bool, operators: Mapping[str, Operator]
    ) -> None:
        self.module = module
        self.charges = charges
        self.pages = pages
        imports = module.imports()
        imported = {
            kind: sum(entry.kind == kind for entry in imports) for kind in ("function", "memory", "global")
        }
        self.counter = leb128_unsigned(imported["global"] + module.count(GLOBAL))
        self.map_memory = leb128_unsigned(imported["memory"] + module.count(MEMORY))
        functions = imported["function"] + module.count(FUNCTION)
        self.charge_length, self.mark_range = leb128_unsigned(functions), leb128_unsigned(functions + 1)
        self.one_byte, self.prefixed = _decode_tables(charges, operators)
        self._refuse_other_memories()

    def run(self) -> MeteredModule:
        parameters = self.module.parameter_counts()
        results = [
            _FunctionRewriter(self, body, parameters[type]).run()
            for body, type in zip(self.module.bodies(), self.module.function_types())
        ]
        sections = dict(self.module.sections)
        types = len(parameters)
        self._append(sections, TYPE, [b"\x60\x01\x7f\x00", b"\x60\x03\x7f\x7f\x7f\x00"])
        self._append(sections, FUNCTION, [leb128_unsigned(types), leb128_unsigned(types + 1)])
        self._append(sections, GLOBAL, [b"\x7e\x01\x42\x00\x0b"])
        self._append(sections, MEMORY, [b"\x00\x02"])
        self._append(sections, EXPORT, self._exports(sections.pop(START, None)))
        bodies = [body for body, _ in results] + [self._charge_length_body(), self._mark_range_body()]
        sections[CODE] = leb128_unsigned(len(bodies)) + b"".join(
            leb128_unsigned(len(body)) + body for body in bodies
        )
        return MeteredModule(BinaryModule(sections, ()).encode(), tuple(size for _, size in results))

    def _exports(self, start: bytes | None) -> list[bytes]:
        first_global = sum(entry.kind == "global" for entry in self.module.imports())
        found = [(COUNTER_EXPORT, _GLOBAL_KIND, self.counter), (PAGES_EXPORT, _MEMORY_KIND, self.map_memory)]
        found += [
            (GLOBAL_EXPORT.format(i), _GLOBAL_KIND, leb128_unsigned(first_global + i))
            for i in range(self.module.count(GLOBAL))
        ]
        if self.module.count(TABLE):
            found.append((TABLE_EXPORT, _TABLE_KIND, b"\0"))
        if start is not None:
            found.append((START_EXPORT, _FUNCTION_KIND, start))
        return [_name(name) + kind + index for name, kind, index in found]

    def charge(self, cost: int, check: bool) -> bytes:
        """Subtract a constant; `check`: trap when the counter is below zero."""
        counter = _op("global.get", self.counter)
        paid = (
            counter + _op("i64.const", leb128_signed(cost)) + _op("i64.sub") + _op("global.set", self.counter)
        )
        return (paid if cost else b"") + (self._check() if check else b"")

    def mark(self, local: int, offset: int, map: int) -> bytes:
        """Mark the page of the byte at `local` + `offset`."""
        address = _op("local.get", leb128_unsigned(local))
        if offset:
            address += _op("i32.const", leb128_signed(_signed32(offset))) + _op("i32.add")
        page = address + _op("i32.const", leb128_signed(16)) + _op("i32.shr_u")
        memarg = b"\x40" + self.map_memory + leb128_unsigned(map)
        return page + _op("i32.const", b"\x01") + _op("i32.store8", memarg)

    def _check(self) -> bytes:
        below = _op("global.get", self.counter) + _op("i64.const", b"\0") + _op("i64.lt_s")
        return below + _op("if", b"\x40") + _op("unreachable") + _op("end")

    def _charge_length_body(self) -> bytes:
        length = _op("local.get", b"\0") + _op("i64.extend_i32_u")
        paid = _op("global.get", self.counter) + length + _op("i64.sub") + _op("global.set", self.counter)
        too_long = length + _op("i64.const", leb128_signed(self.charges.slice)) + _op("i64.gt_s")
        flag = _op("i64.const", leb128_signed(SLICE_EXCEEDED)) + _op("global.set", self.counter)
        refuse = _op("if", b"\x40") + flag + _op("unreachable") + _op("end")
        return b"\0" + too_long + refuse + paid + self._check() + _op("end")

    def _mark_range_body(self) -> bytes:
        """(address, length, map): marks the pages of a range of bytes."""
        address, length, map = (_op("local.get", bytes([i])) for i in range(3))
        shift = _op("i32.const", leb128_signed(16)) + _op("i32.shr_u")
        first = address + shift
        last = address + length + _op("i32.add") + _op("i32.const", b"\x01") + _op("i32.sub") + shift
        count = last + first + _op("i32.sub") + _op("i32.const", b"\x01") + _op("i32.add")
        fill = map + first + _op("i32.add") + _op("i32.const", b"\x01") + count
        fill += _op("memory.fill", self.map_memory)
        return b"\0" + length + _op("if", b"\x40") + fill + _op("end") + _op("end")

    def _refuse_other_memories(self) -> None:
        imported = sum(entry.kind == "memory" for entry in self.module.imports())
        if imported + self.module.count(MEMORY) > 1 or (self.pages and imported):
            raise TosaicError("a canister has one memory of its own", "define one memory and import none")
        if self.module.count(MEMORY):
            reader = Reader(self.module.sections[MEMORY])
            reader.unsigned()
            if reader.limits() & 4:
                raise TosaicError("64-bit memories are not metered", "build the module for wasm32")

    @staticmethod
    def _append(sections: dict[int, bytes], id: int, entries: Sequence[bytes]) -> None:
        reader = Reader(sections.get(id, b"\0"))
        count = reader.unsigned()
        old = reader.data[reader.position :]
        sections[id] = leb128_unsigned(count + len(entries)) + old + b"".join(entries)


@dataclass
class _FunctionRewriter:
    """Rewrites one function; `out` collects pieces of the old body and what is put between them."""

    module: _Rewriter
    body: bytes
    parameters: int
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
        body, one_byte, prefixed = self.body, self.module.one_byte, self.module.prefixed
        pages = self.module.pages
        end = len(body)
        count, complexity = 0, 0
        cost, check = self.module.charges.function_entry, True
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
            if action == _LOCAL_GET:
                address = unsigned_at(body, first)[0]
                continue
            if action == _LOCAL_CHANGE:
                self._forget(unsigned_at(body, first)[0])
            elif action == _ACCESS and pages:
                self._access(decoded, start, first, address)
            elif action == _BULK:
                self._bulk(decoded, start, position)
            address = -1
            if decoded.cuts:
                self.out[slot] = self.module.charge(cost, check)
                slot = self._slot(position)
                cost, check = 0, decoded.name == "loop"
                self._forget_all()
        self.out[slot] = self.module.charge(cost, check) if cost else b""
        self.out.append(body[self.copied :])
        return FunctionSize(count, complexity)

    def _access(self, decoded: _Decoded, start: int, immediates: int, address: int) -> None:
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
            self._insert(start, _op("local.tee", leb128_unsigned(local)) + self._marks(local, low, high, map))
        else:
            self._group(address, low, high, map, start)

    def _access_under_value(self, decoded: _Decoded, start: int, low: int, high: int, map: int) -> None:
        """The address lies under a value: put the value aside, mark, put it back."""
        address, value = (
            self._scratch("i32", "address"),
            self._scratch(decoded.under_value, decoded.under_value),
        )
        aside = _op("local.set", leb128_unsigned(value)) + _op("local.tee", leb128_unsigned(address))
        back = _op("local.get", leb128_unsigned(value))
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
        first = self.module.mark(local, low, map)
        return first if low == high else first + self.module.mark(local, high, map)

    def _bulk(self, decoded: _Decoded, start: int, position: int) -> None:
        """Pay for the length before the operation, mark the pages after it (then they are known to exist)."""
        size = self._scratch("i32", "size")
        set_size, get_size = _op("local.set", leb128_unsigned(size)), _op("local.get", leb128_unsigned(size))
        charge = b""
        if decoded.name in self.module.charges.by_length:
            charge = get_size + _op("call", self.module.charge_length)
        if not self.module.pages or decoded.name not in _WRITES:
            self._insert(start, set_size + charge + get_size)
            return
        source, target = self._scratch("i32", "source"), self._scratch("i32", "address")
        locals = [leb128_unsigned(target), leb128_unsigned(source), leb128_unsigned(size)]
        aside = b"".join(_op("local.set", local) for local in reversed(locals))
        back = b"".join(_op("local.get", local) for local in locals)
        self._insert(start, aside + charge + back)
        marks = self._mark_range(target, get_size, WRITE_MAP)
        if decoded.name == "memory.copy":
            marks += self._mark_range(source, get_size, READ_MAP)
        self._insert(position, marks)

    def _mark_range(self, local: int, get_size: bytes, map: int) -> bytes:
        arguments = _op("local.get", leb128_unsigned(local)) + get_size + _op("i32.const", leb128_signed(map))
        return arguments + _op("call", self.module.mark_range)

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


def _decode_tables(
    charges: Charges, operators: Mapping[str, Operator]
) -> tuple[list[_Decoded | None], dict[tuple[int, int], _Decoded]]:
    """Operators by their one byte, and by prefix and number."""
    one_byte: list[_Decoded | None] = [None] * 256
    prefixed: dict[tuple[int, int], _Decoded] = {}
    for name, operator in operators.items():
        if name in charges.refused:
            continue
        decoded = _decoded(name, operator.immediates, charges)
        if len(operator.code) == 1:
            one_byte[operator.code[0]] = decoded
        else:
            prefixed[operator.code[0], unsigned_at(operator.code, 1)[0]] = decoded
    return one_byte, prefixed


def _decoded(name: str, immediates: str, charges: Charges) -> _Decoded:
    writes = name.split(".")[-1].startswith("store")
    is_lane_access = immediates == opcodes.MEMORY_LANE
    return _Decoded(
        name,
        charges.operators[name],
        immediates,
        _action(name, immediates, charges),
        name in _CUTS,
        ACCESS_BYTES.get(name, 0),
        name.split(".")[0] if writes or is_lane_access else "",
        writes,
        charges.complexity.get(name, 1),
    )


def _action(name: str, immediates: str, charges: Charges) -> int:
    if name == "local.get":
        return _LOCAL_GET
    if name in ("local.set", "local.tee"):
        return _LOCAL_CHANGE
    if name in charges.by_length or name in _WRITES:
        return _BULK
    return _ACCESS if immediates in (opcodes.MEMORY, opcodes.MEMORY_LANE) else _PLAIN


def _op(name: str, immediates: bytes = b"") -> bytes:
    return OPERATORS[name].code + immediates


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _name(text: str) -> bytes:
    return leb128_unsigned(len(text)) + text.encode()
