"""A canister: its module, its state, and the execution of one message on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import wasmtime

from tosaic.prices import PAGE_BYTES
from tosaic.replica.instance import CompiledModule, Instance, LimitExceeded, Trapped
from tosaic.replica.message import Message, principal_text
from tosaic.replica.system import CLEANUP, QUERY, Execution, SystemCalls

if TYPE_CHECKING:
    from tosaic.replica.replica import Replica


@dataclass
class _State:
    """What a message that traps is rolled back to."""

    memory: np.ndarray
    globals: list[object]
    stable: bytes


class Canister:
    """One installed canister. `update` and `query` are what a caller from outside can do."""

    def __init__(
        self, replica: Replica, id: bytes, compiled: CompiledModule, controllers: Sequence[bytes]
    ) -> None:
        self.replica = replica
        self.id = id
        self.compiled = compiled
        self.controllers = tuple(controllers)
        self.stable = bytearray()
        self._system = SystemCalls(self)
        self._functions = self._system.functions()
        self.instance = Instance(compiled, self._functions)
        self._writes_stable = any(entry.name.startswith("stable") for entry in compiled.original.imports())
        self._committed = self._snapshot()

    def __repr__(self) -> str:
        return f"Canister({principal_text(self.id)})"

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
        if trap is None and execution.kind != QUERY:
            self._commit()
        else:
            self._roll_back()
        if execution.kind != CLEANUP:
            execution.context.instructions += metered
        return Message(name, execution.kind, metered, touches, execution.limit, trap)

    def _snapshot(self) -> _State:
        memory = self.instance.bytes().copy() if self.instance.memory is not None else np.empty(0, np.uint8)
        return _State(memory, self._global_values(), bytes(self.stable))

    def _global_values(self) -> list[object]:
        return [g.value(self.instance.store) for g in self.instance.globals()]

    def _commit(self) -> None:
        if self.instance.memory_bytes != self._committed.memory.size or not self.compiled.pages:
            self._committed = self._snapshot()
            return
        for page in self.instance.pages()[1]:
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            self._committed.memory[place] = self.instance.bytes()[place]
        self._committed.globals = self._global_values()
        if self._writes_stable:
            self._committed.stable = bytes(self.stable)

    def _roll_back(self) -> None:
        if self.instance.memory_bytes != self._committed.memory.size or not self.compiled.pages:
            self._start_afresh()
        for page in self.instance.pages()[1]:
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            self.instance.bytes()[place] = self._committed.memory[place]
        for g, value in zip(self.instance.globals(), self._committed.globals):
            g.set_value(self.instance.store, value)
        if self._writes_stable:
            self.stable[:] = self._committed.stable

    def _start_afresh(self) -> None:
        """A new instance with the committed memory: a memory that has grown cannot shrink."""
        self.instance = Instance(self.compiled, self._functions)
        if self.instance.memory is not None:
            more = (self._committed.memory.size - self.instance.memory_bytes) // PAGE_BYTES
            self.instance.memory.grow(self.instance.store, more)
            self.instance.bytes()[:] = self._committed.memory


def _trap_text(canister: Canister, error: LimitExceeded | Trapped) -> str:
    who = f"Canister {principal_text(canister.id)}"
    return f"{who} {error}" if isinstance(error, LimitExceeded) else f"{who} trapped {error}"
