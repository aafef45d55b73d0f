"""Reading a binary WebAssembly module as far as metering, checking and installing it need.

Format: https://webassembly.github.io/spec/core/binary/modules.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tosaic.errors import TosaicError
from tosaic.wasm import opcodes
from tosaic.wasm.opcodes import leb128_unsigned

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT, TAG = (
    range(14)
)
SECTION_ORDER = (
    TYPE,
    IMPORT,
    FUNCTION,
    TABLE,
    MEMORY,
    TAG,
    GLOBAL,
    EXPORT,
    START,
    ELEMENT,
    DATA_COUNT,
    CODE,
    DATA,
)
"""The order that the format demands; custom sections may stand anywhere."""

_HEADER = b"\0asm\x01\0\0\0"
_FUNCTION_IMPORT, _TABLE_IMPORT, _MEMORY_IMPORT, _GLOBAL_IMPORT, _TAG_IMPORT = range(5)
_KINDS = ("function", "table", "memory", "global", "tag")


def malformed(detail: str) -> TosaicError:
    return TosaicError(f"this is not a WebAssembly module that can run: {detail}", "rebuild the module")


class Reader:
    """A position in bytes."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise malformed("it ends in the middle of something")
        self.position += 1
        return self.data[self.position - 1]

    def bytes(self, count: int) -> bytes:
        if self.position + count > len(self.data):
            raise malformed("it ends in the middle of something")
        self.position += count
        return self.data[self.position - count : self.position]

    def unsigned(self) -> int:
        """An unsigned LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def name(self) -> str:
        return self.bytes(self.unsigned()).decode()

    def limits(self) -> int:
        """Skip the limits of a memory or table; returns their flags."""
        flags = self.unsigned()
        self.unsigned()
        if flags & 1:
            self.unsigned()
        return flags


@dataclass(frozen=True)
class ImportEntry:
    """One import: its kind is "function", "table", "memory", "global" or "tag"; `type` is a function's type index."""

    module: str
    name: str
    kind: str
    type: int = 0


@dataclass(frozen=True)
class ExportEntry:
    name: str
    kind: str
    index: int


@dataclass(frozen=True)
class BinaryModule:
    """The sections of a module: custom ones by name, all others by id."""

    sections: dict[int, bytes]
    custom: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, wasm: bytes) -> BinaryModule:
        if wasm[:8] != _HEADER:
            raise malformed("its header is missing")
        reader = Reader(wasm, 8)
        sections: dict[int, bytes] = {}
        custom = []
        while reader.position < len(wasm):
            id = reader.byte()
            content = reader.bytes(reader.unsigned())
            if id == CUSTOM:
                inner = Reader(content)
                custom.append((inner.name(), content[inner.position :]))
            elif id in sections or id not in SECTION_ORDER:
                raise malformed(f"section {id} is unknown or stands there twice")
            else:
                sections[id] = content
        return cls(sections, tuple(custom))

    def encode(self) -> bytes:
        """The binary form, without custom sections."""
        found = [(id, self.sections[id]) for id in SECTION_ORDER if id in self.sections]
        return _HEADER + b"".join(
            bytes([id]) + leb128_unsigned(len(content)) + content for id, content in found
        )

    def count(self, section: int) -> int:
        """Number of entries of a vector section."""
        return Reader(self.sections[section]).unsigned() if section in self.sections else 0

    def imports(self) -> list[ImportEntry]:
        return list(self._imports()) if IMPORT in self.sections else []

    def exports(self) -> list[ExportEntry]:
        if EXPORT not in self.sections:
            return []
        reader = Reader(self.sections[EXPORT])
        return [
            ExportEntry(reader.name(), _KINDS[reader.byte()], reader.unsigned())
            for _ in range(reader.unsigned())
        ]

    def parameter_counts(self) -> list[int]:
        """Number of parameters of each function type."""
        if TYPE not in self.sections:
            return []
        reader = Reader(self.sections[TYPE])
        return [self._parameters(reader) for _ in range(reader.unsigned())]

    def function_types(self) -> list[int]:
        """The type index of each function that the module defines."""
        if FUNCTION not in self.sections:
            return []
        reader = Reader(self.sections[FUNCTION])
        return [reader.unsigned() for _ in range(reader.unsigned())]

    def bodies(self) -> Iterator[bytes]:
        """Each function's locals and operators."""
        if CODE not in self.sections:
            return
        reader = Reader(self.sections[CODE])
        for _ in range(reader.unsigned()):
            yield reader.bytes(reader.unsigned())

    def _imports(self) -> Iterator[ImportEntry]:
        reader = Reader(self.sections[IMPORT])
        for _ in range(reader.unsigned()):
            module, name, kind = reader.name(), reader.name(), reader.byte()
            type = 0
            if kind == _FUNCTION_IMPORT:
                type = reader.unsigned()
            elif kind == _TABLE_IMPORT:
                reader.byte()
                reader.limits()
            elif kind == _MEMORY_IMPORT:
                reader.limits()
            elif kind == _GLOBAL_IMPORT:
                reader.bytes(2)
            elif kind == _TAG_IMPORT:
                reader.byte()
                reader.unsigned()
            else:
                raise malformed(f"import {name!r} is of unknown kind {kind}")
            yield ImportEntry(module, name, _KINDS[kind], type)

    @staticmethod
    def _parameters(reader: Reader) -> int:
        if reader.byte() != 0x60:
            raise malformed("only function types are known")
        count = reader.unsigned()
        reader.bytes(count)
        reader.bytes(reader.unsigned())
        return count


def unsigned_at(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number and the position after it."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _skip_number(data: bytes, position: int) -> int:
    while data[position] & 0x80:
        position += 1
    return position + 1


def _skip_numbers(count: int, more: int = 0) -> Callable[[bytes, int], int]:
    def skip(data: bytes, position: int) -> int:
        for _ in range(count):
            while data[position] & 0x80:
                position += 1
            position += 1
        return position + more

    return skip


def _skip_vector(more: int) -> Callable[[bytes, int], int]:
    def skip(data: bytes, position: int) -> int:
        count, position = unsigned_at(data, position)
        for _ in range(count + more):
            position = _skip_number(data, position)
        return position

    return skip


def _skip_bytes(count: int) -> Callable[[bytes, int], int]:
    return lambda data, position: position + count


SKIP_IMMEDIATES: dict[str, Callable[[bytes, int], int]] = {
    opcodes.NONE: _skip_bytes(0), opcodes.BLOCK: _skip_number, opcodes.INDEX: _skip_number,
    opcodes.TWO_INDICES: _skip_numbers(2), opcodes.MEMORY: _skip_numbers(2),
    opcodes.MEMORY_LANE: _skip_numbers(2, more=1), opcodes.LANE: _skip_bytes(1),
    opcodes.LANES16: _skip_bytes(16), opcodes.BRANCH_TABLE: _skip_vector(1),
    opcodes.CALL_INDIRECT: _skip_numbers(2), opcodes.I32: _skip_number, opcodes.I64: _skip_number,
    opcodes.F32: _skip_bytes(4), opcodes.F64: _skip_bytes(8), opcodes.V128: _skip_bytes(16),
    opcodes.TYPES: _skip_vector(0),
}  # fmt: skip
"""Kind of immediates -> the position after them."""
