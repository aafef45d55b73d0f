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
from dataclasses import dataclass

from tosaic.errors import TosaicError
from tosaic.limits import FunctionSize
from tosaic.replica.function_meter import FunctionRewriter
from tosaic.replica.instrumentation import Instrumentation
from tosaic.replica.metered_operators import Charges, operator_tables
from tosaic.wasm.decode import (
    CODE,
    EXPORT,
    FUNCTION,
    GLOBAL,
    MEMORY,
    START,
    TABLE,
    TYPE,
    BinaryModule,
    Reader,
)
from tosaic.wasm.opcodes import OPERATORS, Operator, leb128_unsigned

COUNTER_EXPORT = "canister counter_instructions"
PAGES_EXPORT = "canister touched_pages"
START_EXPORT = "canister_start"
TABLE_EXPORT = "canister table"
GLOBAL_EXPORT = "canister global {}"

_FUNCTION_KIND, _TABLE_KIND, _MEMORY_KIND, _GLOBAL_KIND = b"\x00", b"\x01", b"\x02", b"\x03"


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
        functions = imported["function"] + module.count(FUNCTION)
        self.code = Instrumentation(
            counter=leb128_unsigned(imported["global"] + module.count(GLOBAL)),
            map_memory=leb128_unsigned(imported["memory"] + module.count(MEMORY)),
            charge_length=leb128_unsigned(functions),
            mark_range=leb128_unsigned(functions + 1),
        )
        self.tables = operator_tables(charges, operators)
        self._refuse_other_memories()

    def run(self) -> MeteredModule:
        parameters = self.module.parameter_counts()
        results = [
            FunctionRewriter(body, parameters[type], self.charges, self.tables, self.code, self.pages).run()
            for body, type in zip(self.module.bodies(), self.module.function_types())
        ]
        sections = dict(self.module.sections)
        types = len(parameters)
        self._append(sections, TYPE, [b"\x60\x01\x7f\x00", b"\x60\x03\x7f\x7f\x7f\x00"])
        self._append(sections, FUNCTION, [leb128_unsigned(types), leb128_unsigned(types + 1)])
        self._append(sections, GLOBAL, [b"\x7e\x01\x42\x00\x0b"])
        self._append(sections, MEMORY, [b"\x00\x02"])
        self._append(sections, EXPORT, self._exports(sections.pop(START, None)))
        bodies = [body for body, _ in results] + [
            self.code.charge_length_body(self.charges.slice),
            self.code.mark_range_body(),
        ]
        sections[CODE] = leb128_unsigned(len(bodies)) + b"".join(
            leb128_unsigned(len(body)) + body for body in bodies
        )
        return MeteredModule(BinaryModule(sections, ()).encode(), tuple(size for _, size in results))

    def _exports(self, start: bytes | None) -> list[bytes]:
        first_global = sum(entry.kind == "global" for entry in self.module.imports())
        found = [
            (COUNTER_EXPORT, _GLOBAL_KIND, self.code.counter),
            (PAGES_EXPORT, _MEMORY_KIND, self.code.map_memory),
        ]
        found += [
            (GLOBAL_EXPORT.format(i), _GLOBAL_KIND, leb128_unsigned(first_global + i))
            for i in range(self.module.count(GLOBAL))
        ]
        if self.module.count(TABLE):
            found.append((TABLE_EXPORT, _TABLE_KIND, b"\0"))
        if start is not None:
            found.append((START_EXPORT, _FUNCTION_KIND, start))
        return [_name(name) + kind + index for name, kind, index in found]

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


def _name(text: str) -> bytes:
    return leb128_unsigned(len(text)) + text.encode()
