"""A WebAssembly function under construction: every operator that is emitted is counted in the same act.

Loops have constant trip counts, so the cost of a call is a number as soon as the body is written: operators
inside a loop are weighted by its trip count. Where the path depends on data the count is an upper bound and
the function says so (`exact` is False).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tosaic.prices import PriceList
from tosaic.wasm.opcodes import OPERATORS, leb128_signed, leb128_unsigned

VALUE_TYPES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B}
Signature = tuple[tuple[str, ...], tuple[str, ...]]
"""Types of the parameters and of the results."""

_EMPTY_BLOCK = b"\x40"


@dataclass(frozen=True)
class Import:
    """A function that the network provides (module `ic0`)."""

    name: str
    params: tuple[str, ...]
    results: tuple[str, ...] = ()


@dataclass(eq=False)
class Function:
    """Emits operators by their text names and sums their prices along the path that is taken.

    `cost` is the price of one call, the function entry included, the caller's `call` not included.
    `operators` counts what the network charges for at install, `complexity` what it limits in a function.
    """

    name: str
    prices: PriceList
    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    exact: bool = True
    operators: int = 1  # the final `end`
    complexity: int = 0
    _chunks: list[bytearray | Function | Import | Signature] = field(default_factory=lambda: [bytearray()])
    _locals: list[str] = field(default_factory=list)
    _free: dict[str, list[int]] = field(default_factory=dict)
    _costs: list[int] = field(default_factory=list)
    _arms: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._costs = [self.prices.function_entry]
        self.complexity = self.prices.complexity["end"]

    @property
    def cost(self) -> int:
        """Instructions of one call."""
        if len(self._costs) != 1:
            raise ValueError(f"{self.name}: a block is still open")
        return self._costs[0]

    # Locals

    def local(self, type: str) -> int:
        """The index of a local of this type, a released one if there is any. Its content is undefined."""
        if free := self._free.get(type):
            return free.pop()
        self._locals.append(type)
        return len(self.params) + len(self._locals) - 1

    def release(self, *indices: int) -> None:
        """Give locals back for reuse."""
        for index in indices:
            self._free.setdefault(self._locals[index - len(self.params)], []).append(index)

    @property
    def local_count(self) -> int:
        return len(self._locals)

    @property
    def byte_size(self) -> int:
        """Bytes of the operators, function indices apart."""
        return sum(len(chunk) for chunk in self._chunks if isinstance(chunk, bytearray))

    # Operators

    def op(self, name: str, immediates: bytes = b"") -> None:
        """Emit an operator; `immediates` in binary form."""
        self._chunks[-1].extend(OPERATORS[name].code + immediates)  # type: ignore[union-attr]
        self._costs[-1] += self.prices.operators[name]
        self.operators += 1
        self.complexity += self.prices.complexity[name]

    def get(self, local: int) -> None:
        self.op("local.get", leb128_unsigned(local))

    def set(self, local: int) -> None:
        self.op("local.set", leb128_unsigned(local))

    def tee(self, local: int) -> None:
        self.op("local.tee", leb128_unsigned(local))

    def i32(self, value: int) -> None:
        """Push an i32; values from -2**31 to 2**32 - 1."""
        self.op("i32.const", leb128_signed(value - (1 << 32) if value >= 1 << 31 else value))

    def i64(self, value: int) -> None:
        """Push an i64; values from -2**63 to 2**64 - 1."""
        self.op("i64.const", leb128_signed(value - (1 << 64) if value >= 1 << 63 else value))

    def f32(self, value: float) -> None:
        self.op("f32.const", struct.pack("<f", value))

    def v128(self, value: bytes) -> None:
        """Push a vector constant of 16 bytes."""
        if len(value) != 16:
            raise ValueError("a vector constant has 16 bytes")
        self.op("v128.const", value)

    def lane(self, name: str, lane: int) -> None:
        """Emit an extract_lane or replace_lane."""
        self.op(name, bytes([lane]))

    def shuffle(self, lanes: Sequence[int]) -> None:
        self.op("i8x16.shuffle", bytes(lanes))

    def memory(self, name: str, offset: int = 0, lane: int | None = None) -> None:
        """Emit a load or store at the address on the stack plus a constant offset, declared unaligned."""
        if offset < 0:
            raise ValueError(f"{name}: negative offset {offset}")
        tail = b"" if lane is None else bytes([lane])
        self.op(name, leb128_unsigned(0) + leb128_unsigned(offset) + tail)

    def call(self, callee: Function) -> None:
        """Call a finished function; its cost is added."""
        self.exact &= callee.exact
        self._call(callee, callee.cost)

    def call_system(self, callee: Import, size: int = 0) -> None:
        """Call `ic0.<name>`, which moves `size` bytes."""
        self._call(callee, self.prices.system_call(callee.name, size))

    def call_indirect(self, params: tuple[str, ...]) -> None:
        """Call the function without results at the table index on the stack; its own cost is not added."""
        self.op("call_indirect")
        self._chunks += [(params, ()), bytearray(b"\0")]

    def memory_copy(self, size: int) -> None:
        """memory.copy with (destination, source, size) on the stack; `size` is the constant pushed."""
        self.op("memory.copy", b"\0\0")
        self._costs[-1] += size

    def memory_fill(self, size: int) -> None:
        """memory.fill with (destination, byte, size) on the stack; `size` is the constant pushed."""
        self.op("memory.fill", b"\0")
        self._costs[-1] += size

    # Structure

    @contextmanager
    def loop(self, trips: int, exact: bool = True) -> Iterator[None]:
        """A `loop` whose body runs `trips` times; the body ends with its own `br_if 0`."""
        if trips < 1:
            raise ValueError(f"{self.name}: a loop runs at least once, not {trips} times")
        self.exact &= exact
        self.op("loop", _EMPTY_BLOCK)
        self._costs.append(0)
        yield
        self.op("end")
        body = self._costs.pop()
        self._costs[-1] += body * trips

    @contextmanager
    def counted(self, count: int, step: int = 1, start: int = 0) -> Iterator[int]:
        """A loop over start, start + step, ... (count values); yields the local that holds the value.

        The loop costs 8 instructions a trip; a single trip emits no loop.
        """
        index = self.local("i32")
        self.i32(start)
        self.set(index)
        if count == 1:
            yield index
        else:
            with self.loop(count):
                yield index
                self.get(index)
                self.i32(step)
                self.op("i32.add")
                self.tee(index)
                self.i32(start + step * count)
                self.op("i32.ne")
                self.op("br_if", leb128_unsigned(0))
        self.release(index)

    @contextmanager
    def stepped(self, local: int, step: int, trips: int) -> Iterator[None]:
        """A loop that adds `step` (not 0) to an i32 local after each trip: 8 instructions a trip, 4 to enter."""
        if trips == 1:
            yield
            self.add_to(local, step)
            return
        end = self.local("i32")
        self.get(local)
        self.i32(step * trips)
        self.op("i32.add")
        self.set(end)
        with self.loop(trips):
            yield
            self.get(local)
            self.i32(step)
            self.op("i32.add")
            self.tee(local)
            self.get(end)
            self.op("i32.ne")
            self.op("br_if", leb128_unsigned(0))
        self.release(end)

    def add_to(self, local: int, value: int) -> None:
        """local += constant (i32)."""
        if value == 0:
            return
        self.get(local)
        self.i32(value)
        self.op("i32.add")
        self.set(local)

    @contextmanager
    def if_(self, taken: bool | None = None, result: str | None = None) -> Iterator[None]:
        """An `if` on the i32 on the stack, opened here and closed on exit; `else_` starts the other arm.

        `taken` tells which path the count follows: True the first arm, False the other one (for the paths of
        refusals, which are not predicted). None: the path depends on data, the dearer arm counts.
        """
        self.op("if", bytes([VALUE_TYPES[result]]) if result else _EMPTY_BLOCK)
        self._costs.append(0)
        self._arms.append([])
        yield
        self.op("end")
        first, second = [*self._arms.pop(), self._costs.pop(), 0][:2]
        self.exact &= taken is not None or first == second
        self._costs[-1] += max(first, second) if taken is None else first if taken else second

    def else_(self) -> None:
        """Start the second arm of the innermost `if_`."""
        self.op("else")
        self._arms[-1].append(self._costs.pop())
        self._costs.append(0)

    @contextmanager
    def block(self) -> Iterator[None]:
        """A `block`; leave it with `br`/`br_if` of its depth. Costs nothing and cuts nothing."""
        self.op("block", _EMPTY_BLOCK)
        yield
        self.op("end")

    # Binary form

    def code(self, index_of) -> bytes:
        """The function's entry in the code section; `index_of` gives the indices of functions and of types."""
        body = bytearray(self._local_declarations())
        for chunk in self._chunks:
            body += chunk if isinstance(chunk, bytearray) else leb128_unsigned(index_of(chunk))
        body += OPERATORS["end"].code
        return leb128_unsigned(len(body)) + bytes(body)

    def content(self) -> tuple:
        """Equal for functions that do the same: types, locals, operators and callees; the name does not count."""
        chunks = tuple(bytes(chunk) if isinstance(chunk, bytearray) else chunk for chunk in self._chunks)
        return self.params, self.results, tuple(self._locals), chunks

    def callees(self) -> list[Function | Import]:
        return [chunk for chunk in self._chunks if isinstance(chunk, Function | Import)]

    def _local_declarations(self) -> bytes:
        runs: list[list] = []
        for type in self._locals:
            if runs and runs[-1][0] == type:
                runs[-1][1] += 1
            else:
                runs.append([type, 1])
        declared = [leb128_unsigned(count) + bytes([VALUE_TYPES[type]]) for type, count in runs]
        return leb128_unsigned(len(runs)) + b"".join(declared)

    def _call(self, callee: Function | Import, cost: int) -> None:
        self.op("call")
        self._chunks += [callee, bytearray()]
        self._costs[-1] += cost


Callee = Function | Import | Signature
"""What an operator of a function refers to by index."""
