"""A WebAssembly module: sections in their binary form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tosaic.wasm.function import VALUE_TYPES, Callee, Function, Import, Signature
from tosaic.wasm.opcodes import OPERATORS, leb128_signed, leb128_unsigned

_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _EXPORT, _ELEMENT, _CODE, _DATA, _DATA_COUNT = (
    0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12,
)  # fmt: skip
_FUNCREF = 0x70
_PADDING = "padding"


@dataclass(frozen=True)
class DataSegment:
    """Bytes that the memory holds from the start, at a constant address."""

    address: int
    data: bytes | memoryview


@dataclass
class Module:
    """What `encode` writes. Functions are found by following the calls of the exports and the table.

    `exports` maps an export name to its function; `table` lists the functions that the network calls back by
    index; `custom` maps the names of custom sections to their bytes.

    `weights` are segments by address. They become one segment, gaps as zeros, which ends the file. If they take
    `chunk_bytes` or more, they begin at a multiple of it, so that their chunks are the same whatever the code is.
    """

    memory_pages: int
    exports: Mapping[str, Function] = field(default_factory=dict)
    table: Sequence[Function] = ()
    data: Sequence[DataSegment] = ()
    custom: Mapping[str, bytes] = field(default_factory=dict)
    weights: Sequence[DataSegment] = ()
    chunk_bytes: int = 1

    @property
    def weight_bytes(self) -> int:
        """What the weights take of the file, at its end."""
        if not self.weights:
            return 0
        return self.weights[-1].address + len(self.weights[-1].data) - self.weights[0].address

    def functions(self) -> list[Function]:
        """Every function of the module, callees before callers, each once."""
        found: dict[Function, None] = {}
        for root in [*self.exports.values(), *self.table]:
            _collect(root, found)
        return list(found)

    def encode(self) -> bytes:
        """The binary module; the same input gives the same bytes."""
        functions = self.functions()
        imports = _imports(functions)
        types = _types(imports, functions)
        type_of = {signature: i for i, signature in enumerate(types)}
        index = _indices(imports, functions)
        sections = [
            _section(_TYPE, _vector(_function_type(*signature) for signature in types)),
            _section(_IMPORT, _vector(_import(f, type_of) for f in imports)),
            _section(_FUNCTION, _vector(leb128_unsigned(type_of[f.params, f.results]) for f in functions)),
            self._table_section(),
            _section(_MEMORY, _vector([b"\x00" + leb128_unsigned(self.memory_pages)])),
            _section(_EXPORT, self._exports(index)),
            self._element_section(index),
            _section(_CODE, _vector(f.code(index.__getitem__) for f in functions)),
        ]
        custom = [_section(_CUSTOM, _name(name) + data) for name, data in self.custom.items()]
        head = b"".join([b"\0asm\x01\0\0\0", *sections, *custom])
        data = self._data()
        return b"".join([head, self._padding(len(head) + len(data)), data, *_image(self.weights)])

    def _data(self) -> bytes:
        """The data section up to the bytes of the weights."""
        segments = [_data_header(s.address, len(s.data)) + bytes(s.data) for s in self.data]
        if self.weights:
            segments.append(_data_header(self.weights[0].address, self.weight_bytes))
        content = _vector(segments)
        return bytes([_DATA]) + leb128_unsigned(len(content) + self.weight_bytes) + content

    def _padding(self, position: int) -> bytes:
        """A custom section of zeros that moves `position` to a multiple of a chunk."""
        if self.weight_bytes < self.chunk_bytes:
            return b""
        empty = bytes([_CUSTOM]) + _wide_leb128(0) + _name(_PADDING)
        zeros = -(position + len(empty)) % self.chunk_bytes
        return bytes([_CUSTOM]) + _wide_leb128(len(_name(_PADDING)) + zeros) + _name(_PADDING) + bytes(zeros)

    def _exports(self, index: Mapping) -> bytes:
        functions = [_name(name) + b"\x00" + leb128_unsigned(index[f]) for name, f in self.exports.items()]
        return _vector([*functions, _name("memory") + b"\x02\x00"])

    def _table_section(self) -> bytes:
        if not self.table:
            return b""
        size = leb128_unsigned(len(self.table))
        return _section(_TABLE, _vector([bytes([_FUNCREF, 0x01]) + size + size]))

    def _element_section(self, index: Mapping) -> bytes:
        if not self.table:
            return b""
        entries = _vector(leb128_unsigned(index[f]) for f in self.table)
        return _section(_ELEMENT, _vector([b"\x00" + _constant(0) + entries]))


def _collect(root: Function, found: dict[Function, None]) -> None:
    """Depth-first, callees first (no recursion: long call lists)."""
    stack: list[tuple[Function, bool]] = [(root, False)]
    while stack:
        function, done = stack.pop()
        if function in found:
            continue
        if done:
            found[function] = None
            continue
        stack.append((function, True))
        stack += [(f, False) for f in reversed(function.callees()) if isinstance(f, Function)]


def _imports(functions: Iterable[Function]) -> list[Import]:
    used = {callee for f in functions for callee in f.callees() if isinstance(callee, Import)}
    return sorted(used, key=lambda f: f.name)


def _types(imports: Sequence[Import], functions: Sequence[Function]) -> list[Signature]:
    callees: list[Import | Function] = [*imports, *functions]
    return list(dict.fromkeys((f.params, f.results) for f in callees))


def _indices(imports: Sequence[Import], functions: Sequence[Function]) -> dict[Callee, int]:
    """Function indices, and the type indices of signatures."""
    callees: list[Import | Function] = [*imports, *functions]
    found: dict[Callee, int] = {f: i for i, f in enumerate(callees)}
    return found | {signature: i for i, signature in enumerate(_types(imports, functions))}


def _section(id: int, content: bytes) -> bytes:
    return bytes([id]) + leb128_unsigned(len(content)) + content


def _vector(items: Iterable[bytes]) -> bytes:
    items = list(items)
    return leb128_unsigned(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    data = text.encode()
    return leb128_unsigned(len(data)) + data


def _function_type(params: Sequence[str], results: Sequence[str]) -> bytes:
    return (
        b"\x60"
        + _vector(bytes([VALUE_TYPES[t]]) for t in params)
        + _vector(bytes([VALUE_TYPES[t]]) for t in results)
    )


def _import(function: Import, type_of: Mapping) -> bytes:
    signature = type_of[function.params, function.results]
    return _name("ic0") + _name(function.name) + b"\x00" + leb128_unsigned(signature)


def _constant(value: int) -> bytes:
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return OPERATORS["i32.const"].code + leb128_signed(signed) + OPERATORS["end"].code


def _data_header(address: int, size: int) -> bytes:
    return b"\x00" + _constant(address) + leb128_unsigned(size)


def _image(segments: Sequence[DataSegment]) -> Iterator[bytes | memoryview]:
    """The memory from the first segment to the last."""
    end = segments[0].address if segments else 0
    for segment in segments:
        yield bytes(segment.address - end)
        yield segment.data
        end = segment.address + len(segment.data)


def _wide_leb128(value: int) -> bytes:
    """A number in as many bytes as any 32-bit number takes, so that it does not move what follows."""
    return bytes([value >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]) + bytes([value >> 28])
