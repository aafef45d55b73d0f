"""A metered module in wasmtime: calls with a limit, the instructions they take and the pages they touch.

wasmtime is set up as the network sets it up: NaN canonicalisation on, relaxed SIMD off. Several memories are on
only because the meter appends one; the module itself is validated without them.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
import wasmtime

from tosaic.errors import TosaicError
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.replica.instrumentation import READ_MAP, SLICE_EXCEEDED, WRITE_MAP
from tosaic.replica.meter import (
    COUNTER_EXPORT,
    GLOBAL_EXPORT,
    PAGES_EXPORT,
    TABLE_EXPORT,
    MeteredModule,
    meter,
)
from tosaic.replica.metered_operators import Charges
from tosaic.wasm.decode import GLOBAL, BinaryModule
from tosaic.wasm.ic0 import IC0

_Extern = TypeVar("_Extern", wasmtime.Func, wasmtime.Global, wasmtime.Memory, wasmtime.Table)
_STACK_BYTES = 1 << 20


class LimitExceeded(Exception):
    """A message spent more than its limit."""

    def __init__(self) -> None:
        super().__init__("exceeded the instruction limit for single message execution")


class Trapped(Exception):
    """A message ended in a trap; the text says in which."""


@dataclass(frozen=True)
class Usage:
    """What a call took: `instructions` of operators and system calls; page numbers (64 KiB) read and written."""

    instructions: int
    pages_read: frozenset[int]
    pages_written: frozenset[int]
    results: object = None

    def page_touches(self, prices: PriceList, query: bool = False) -> int:
        """Instructions for the touched pages: each first access, and in updates each first write."""
        accessed = len(self.pages_read | self.pages_written) * prices.page_access
        return accessed + (0 if query else len(self.pages_written) * prices.page_write)


@cache
def engine(validation: bool = False) -> wasmtime.Engine:
    """The engine that runs metered modules, or the one that tells whether the network takes a module."""
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd = False
    config.wasm_simd = True
    config.wasm_bulk_memory = True
    config.wasm_reference_types = True
    config.wasm_tail_call = True
    config.wasm_memory64 = False
    config.wasm_threads = False
    config.wasm_multi_memory = not validation
    config.max_wasm_stack = _STACK_BYTES
    return wasmtime.Engine(config)


@dataclass(frozen=True)
class CompiledModule:
    """A module that is validated, metered and compiled once; instances of it are cheap."""

    original: BinaryModule
    metered: MeteredModule
    module: wasmtime.Module
    prices: PriceList
    pages: bool


def compile_metered(
    wasm: bytes, prices: PriceList, pages: bool = True, charges: Charges | None = None
) -> CompiledModule:
    """Validate by the network's rules, meter and compile. `pages` False: page touches are not tracked (faster).

    Raises:
        TosaicError: the module is invalid.
    """
    try:
        wasmtime.Module.validate(engine(validation=True), wasm)
    except wasmtime.WasmtimeError as error:
        raise TosaicError(f"the WebAssembly module is not valid: {error}", "rebuild the module") from error
    metered = meter(wasm, charges or Charges.of(prices), pages)
    return CompiledModule(
        BinaryModule.parse(wasm), metered, wasmtime.Module(engine(), metered.wasm), prices, pages
    )


@dataclass
class Instance:
    """An instance with its memory and counters.

    `functions` implements the imports of ic0 by name, each with its parameter values, unsigned, as arguments; what
    they raise ends the call.
    """

    compiled: CompiledModule
    functions: Mapping[str, Callable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = wasmtime.Store(engine())
        self._raised: Exception | None = None
        externs = [self._host(entry) for entry in self.compiled.module.imports]
        instance = wasmtime.Instance(self.store, self.compiled.module, externs)
        self.exports = instance.exports(self.store)
        self._counter = self._export(COUNTER_EXPORT, wasmtime.Global)
        self._map = self._export(PAGES_EXPORT, wasmtime.Memory)
        memory = [e.name for e in self.compiled.original.exports() if e.kind == "memory"]
        self.memory = self._export(memory[0], wasmtime.Memory) if memory else None

    # Counting

    @property
    def left(self) -> int:
        """Instructions left before the limit, page touches apart."""
        return self._counter.value(self.store)

    @left.setter
    def left(self, value: int) -> None:
        self._counter.set_value(self.store, wasmtime.Val.i64(value))

    def spend(self, instructions: int) -> None:
        """Charge for a system call."""
        self.left -= instructions
        if self.left < 0:
            raise LimitExceeded

    def touch(self, address: int, size: int, write: bool) -> None:
        """Mark the pages of bytes that the host reads or writes."""
        if size and self.compiled.pages:
            first, last = address // PAGE_BYTES, (address + size - 1) // PAGE_BYTES
            self._touched_map()[(WRITE_MAP if write else READ_MAP) + first :][: last - first + 1] = 1

    def pages(self) -> tuple[frozenset[int], frozenset[int]]:
        """Pages read and pages written since the last call began."""
        touched, count = self._touched_map(), self.memory_bytes // PAGE_BYTES
        read, written = touched[READ_MAP : READ_MAP + count], touched[WRITE_MAP : WRITE_MAP + count]
        return (
            frozenset(np.flatnonzero(read).tolist()),
            frozenset(np.flatnonzero(written).tolist()),
        )

    # Memory

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the memory; nothing is charged."""
        self._check_range(address, size)
        return bytes(self.bytes()[address : address + size])

    def write(self, address: int, data: bytes | np.ndarray) -> None:
        """Put bytes, or an array as it lies in memory, into the memory; nothing is charged."""
        raw = np.frombuffer(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data, np.uint8)
        self._check_range(address, raw.size)
        self.bytes()[address : address + raw.size] = raw

    def array(self, address: int, dtype: np.typing.DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of a contiguous array in memory."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.frombuffer(self.read(address, size), dtype).reshape(shape)

    def bytes(self) -> np.ndarray:
        """The whole memory, as uint8, not copied; valid until the memory grows."""
        if self.memory is None:
            raise Trapped("the module exports no memory")
        return _view(self.memory, self.store)

    @property
    def memory_bytes(self) -> int:
        return len(self.bytes()) if self.memory is not None else 0

    def globals(self) -> list[wasmtime.Global]:
        """The mutable globals of the module itself."""
        count = self.compiled.original.count(GLOBAL)
        found = [self._export(GLOBAL_EXPORT.format(i), wasmtime.Global) for i in range(count)]
        return [g for g in found if g.type(self.store).mutable]

    # Calls

    def table_function(self, index: int) -> wasmtime.Func:
        """The function at an index of the module's table.

        Raises:
            Trapped: there is none.
        """
        table = self.exports.get(TABLE_EXPORT)
        is_there = isinstance(table, wasmtime.Table) and index < table.size(self.store)
        found = self._export(TABLE_EXPORT, wasmtime.Table).get(self.store, index) if is_there else None
        if not isinstance(found, wasmtime.Func):
            raise Trapped(f"the table holds no function at {index}")
        return found

    def call(self, name: str, *arguments: int | float, limit: int = 1 << 62) -> Usage:
        """Call an exported function, counting from zero.

        Raises:
            LimitExceeded, Trapped: the function did not return.
        """
        return self.invoke(self._export(name, wasmtime.Func), *arguments, limit=limit)

    def invoke(self, function: wasmtime.Func, *arguments: int | float, limit: int = 1 << 62) -> Usage:
        """Call a function of this instance, counting from zero."""
        self.reset(limit)
        try:
            results = function(self.store, *arguments)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise self._reason(error) from error
        if self.left < 0:
            raise LimitExceeded
        return Usage(limit - self.left, *self.pages(), results=results)

    def reset(self, limit: int) -> None:
        """Start counting anew."""
        self.left = limit
        self._touched_map()[:] = 0
        self._raised = None

    def _reason(self, error: Exception) -> Exception:
        if self._raised is not None:
            return self._raised
        if self.left == SLICE_EXCEEDED:
            self.left = -1
            return Trapped("in a memory operation that exceeds the instruction limit of a slice")
        if self.left < 0:
            return LimitExceeded()
        code = getattr(error, "trap_code", None)
        return Trapped(code.name.lower().replace("_", " ") if code else str(error).splitlines()[0])

    def _host(self, entry: wasmtime.ImportType) -> wasmtime.Func:
        name, type = entry.name or "", entry.type
        declared = IC0.get(name)
        if entry.module != "ic0" or declared is None or name not in self.functions:
            raise TosaicError(
                f"the module imports {entry.module}.{name}, which is not provided here",
                f"import only these functions of ic0: {', '.join(self.functions) or 'none'}",
            )
        params = [str(param) for param in type.params] if isinstance(type, wasmtime.FuncType) else []
        if (
            not isinstance(type, wasmtime.FuncType)
            or tuple(params) != declared.params
            or tuple(map(str, type.results)) != declared.results
        ):
            raise TosaicError(f"the module imports ic0.{name} with a wrong type", f"declare it as {declared}")
        masks = [(1 << int(param[1:])) - 1 for param in params]

        owner = weakref.ref(self)  # the store keeps its functions where no garbage collector looks

        def call(*arguments: int) -> object:
            instance = owner()
            assert instance is not None
            try:
                return instance.functions[name](*(value & mask for value, mask in zip(arguments, masks)))
            except Exception as error:
                instance._raised = error
                raise

        return wasmtime.Func(self.store, type, call)

    def _export(self, name: str, kind: type[_Extern]) -> _Extern:
        found = self.exports[name]
        if not isinstance(found, kind):
            raise TosaicError(f"the export '{name}' is not a {kind.__name__.lower()}")
        return found

    def _touched_map(self) -> np.ndarray:
        return _view(self._map, self.store)

    def _check_range(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > len(self.bytes()):
            raise Trapped("memory out of bounds")


def _view(memory: wasmtime.Memory, store: wasmtime.Store) -> np.ndarray:
    pointer = ctypes.cast(memory.data_ptr(store), ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, (memory.data_len(store),))


def instantiate(wasm: bytes, prices: PriceList, pages: bool = True) -> Instance:
    """An instance of a module without imports, such as a module of kernels."""
    return Instance(compile_metered(wasm, prices, pages))
