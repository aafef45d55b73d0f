"""Look-ups of one table by indices that only a run knows, made to touch a constant number of pages together.

A message pays for a page once, whoever touches it. So look-ups of a table note which of its pages the message has
touched (`kernel.Sample`), and each touches so many of the others, or all that are left. Whatever the indices are,
look-ups that follow one another in a message touch as many pages as if each took its turn: the pages behind those of
the look-up before it, in a circle. A message runs a stretch of the program, so it pays for the union of their turns.

The notes are a tensor in the arena from the first look-up of an inference, before which they are cleared, to the last.
A note is the number of a message, so notes of the messages before are void.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.calls import Buffer, Call, Placed, call_counts, calls_of
from tosaic.wasm.kernel import Expression, Kernel, KernelRequest
from tosaic.wasm.layout import Work
from tosaic.wasm.memory_plan import Step
from tosaic.wasm.views import Window

_ZERO = Expression((("constant", (), (("element", "i32"), ("value", 0))),), ("i32",))


def note_look_ups(
    works: Sequence[Work], step_of: Mapping[Call, Step], kernel: Callable[[KernelRequest], Kernel]
) -> dict[Call, Step]:
    """Give the steps that sample a table their notes and their turns; the steps of all calls, in order.

    What clears the notes stands before the work that has the first look-up.
    """
    clears: dict[Call, Step] = {}
    tables: list[_Table] = []
    for work in works:
        for call, count in call_counts(work.calls):
            step = step_of[call]
            if (sample := step.kernel.sample) is None:
                continue
            array = step.kernel.constants[sample.operand]
            table = next((table for table in tables if _same_bytes(table.array, array)), None)
            if table is None:
                table = _Table.of(array)
                tables.append(table)
                clear = _clear(table.notes)
                clears[clear] = Step(clear, kernel(clear.request))
                work.before.append(clear)
            table.give_turn(step, sample.pages * count)
    steps = {**step_of, **clears}
    return {call: steps[call] for work in works for call in calls_of(work.tasks)}


@dataclass
class _Table:
    """A table that is looked up; its turns end before page `turned`, counted on around the circle."""

    array: np.ndarray
    notes: Placed
    turned: int = 0

    @classmethod
    def of(cls, array: np.ndarray) -> _Table:
        window = Window.whole("i32", (-(-array.nbytes // PAGE_BYTES),))
        return cls(array, Placed(Buffer(window.view.size * window.view.element_bytes), window))

    def give_turn(self, step: Step, pages: int) -> None:
        step.notes, step.turn = self.notes, range(self.turned, self.turned + pages)
        self.turned += pages


def _clear(notes: Placed) -> Call:
    return Call(KernelRequest("elementwise", (), (notes.window.view,), epilogue=_ZERO), (notes,))


def _same_bytes(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two constants are one in memory, where equal contents lie once."""
    if first.nbytes != second.nbytes:
        return False
    return first is second or bool((_bytes(first) == _bytes(second)).all())


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
