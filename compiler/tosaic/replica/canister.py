"""A canister: its module, its state, and the execution of one message on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import wasmtime

from tosaic.prices import PAGE_BYTES
from tosaic.principals import principal_text
from tosaic.replica.instance import CompiledModule, Instance, LimitExceeded, Trapped
from tosaic.replica.message import Message
from tosaic.replica.system import CLEANUP, DROPPED, Execution, SystemCalls

if TYPE_CHECKING:
    from tosaic.replica.replica import Replica


@dataclass
class State:
    """What a message that traps is rolled back to."""

    memory: np.ndarray
    globals: list[object]
    stable: bytearray


class Canister:
    """One installed canister. `update` and `query` are what a caller from outside can do."""

    def __init__(
        self,
        replica: Replica,
        id: bytes,
        compiled: CompiledModule,
        controllers: Sequence[bytes],
        stable: bytes | bytearray = b"",
    ) -> None:
        self.replica = replica
        self.id = id
        self.compiled = compiled
        self.controllers = tuple(controllers)
        self.takes_calls = True
        self.stable = bytearray(stable)
        self.outstanding: Counter[bytes] = Counter()
        self._system = SystemCalls(self)
        self._functions = self._system.functions()
        self.instance = Instance(compiled, self._functions)
        self._committed = self.snapshot()

    def __repr__(self) -> str:
        return f"Canister({principal_text(self.id)})"

    def take_place_of(self, other: Canister) -> None:
        """Be as the canister before another module came: stopped if it was, and called back by those it called."""
        self.takes_calls = other.takes_calls
        self.outstanding = other.outstanding

    def export(self, name: str) -> wasmtime.Func | None:
        """An exported function."""
        found = self.instance.exports.get(name)
        return found if isinstance(found, wasmtime.Func) else None

    def run(self, name: str, execution: Execution, function: wasmtime.Func | int, *arguments: int) -> Message:
        """Execute a message by a function or an index into the table. A trap changes nothing.

        What the message asked for is in `execution`, and counts only if the record's `trap` is None.
        """
        self._system.execution = execution
        self.instance.reset(execution.limit)
        try:
            entry = self.instance.table_function(function) if isinstance(function, int) else function
            self.instance.invoke(entry, *arguments, limit=execution.limit)
            if self._system.spent() > execution.limit:
                raise LimitExceeded
            trap = None
        except (LimitExceeded, Trapped) as error:
            trap = _trap_text(self, error)
        metered, touches = self._system.spent(), self._system.page_touch()
        self._system.execution = None
        if trap is None and execution.kind not in DROPPED:
            self._commit(execution.stable_written)
        else:
            self._roll_back(execution.stable_written)
        if execution.kind != CLEANUP:
            execution.context.instructions += metered
        return Message(name, execution.kind, metered, touches, execution.limit, trap)

    def snapshot(self) -> State:
        """A copy of the whole state."""
        memory = self.instance.bytes().copy() if self.instance.memory is not None else np.empty(0, np.uint8)
        return State(memory, self._global_values(), bytearray(self.stable))

    def restore(self, state: State) -> None:
        """Go back to a state."""
        self._committed = state
        self.stable[:] = state.stable
        self._start_afresh()
        self._set_globals()

    def _global_values(self) -> list[object]:
        return [g.value(self.instance.store) for g in self.instance.globals()]

    def _commit(self, stable_written: Iterable[int]) -> None:
        if self.instance.memory_bytes != self._committed.memory.size or not self.compiled.pages:
            self._committed = self.snapshot()
            return
        for page in self.instance.pages()[1]:
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            self._committed.memory[place] = self.instance.bytes()[place]
        self._committed.globals = self._global_values()
        committed = self._committed.stable
        committed.extend(bytes(len(self.stable) - len(committed)))
        _copy_pages(self.stable, committed, stable_written)

    def _roll_back(self, stable_written: Iterable[int]) -> None:
        if self.instance.memory_bytes != self._committed.memory.size or not self.compiled.pages:
            self._start_afresh()
        for page in self.instance.pages()[1]:
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            self.instance.bytes()[place] = self._committed.memory[place]
        self._set_globals()
        del self.stable[len(self._committed.stable) :]
        _copy_pages(self._committed.stable, self.stable, stable_written)

    def _set_globals(self) -> None:
        for g, value in zip(self.instance.globals(), self._committed.globals):
            g.set_value(self.instance.store, value)

    def _start_afresh(self) -> None:
        """A new instance with the committed memory: a memory that has grown cannot shrink."""
        self.instance = Instance(self.compiled, self._functions)
        if self.instance.memory is not None:
            more = (self._committed.memory.size - self.instance.memory_bytes) // PAGE_BYTES
            self.instance.memory.grow(self.instance.store, more)
            self.instance.bytes()[:] = self._committed.memory


def _copy_pages(source: bytearray, target: bytearray, pages: Iterable[int]) -> None:
    """Copy these pages of stable memory as far as the source has them."""
    for page in pages:
        place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
        target[place] = source[place]


def _trap_text(canister: Canister, error: LimitExceeded | Trapped) -> str:
    who = f"Canister {principal_text(canister.id)}"
    return f"{who} {error}" if isinstance(error, LimitExceeded) else f"{who} trapped {error}"
