"""What a program executes: calls of kernels on placed tensors, and the branches and loops around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tosaic.wasm.kernel import Expression, KernelRequest, Operand
from tosaic.wasm.views import Window


@dataclass(eq=False)
class Buffer:
    """Memory of its own. `array` is given for constants; `pinned` buffers hold the program's results."""

    bytes: int
    array: np.ndarray | None = None
    pinned: bool = False
    is_input: bool = False


@dataclass(frozen=True)
class Placed:
    """A tensor in memory: its buffer, and the window of it that the tensor is."""

    buffer: Buffer
    window: Window


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel call: what is asked for, and where each input and output of the request lies."""

    request: KernelRequest
    places: tuple[Placed, ...]


@dataclass(frozen=True, eq=False)
class Branch:
    """`condition` leaves an i32 on the operand stack; the first arm runs where it is not 0."""

    condition: Call
    then: Sequence[Task]
    otherwise: Sequence[Task]


@dataclass(frozen=True, eq=False)
class Loop:
    """`body` runs as long as `condition`, the last call after `test`, leaves 1 on the stack: at most `trips` times.

    `exact` is True where it runs so often, at least once.
    """

    test: Sequence[Task]
    condition: Call
    body: Sequence[Task]
    trips: int
    exact: bool


@dataclass(frozen=True, eq=False)
class Stretch:
    """Tasks that are a function of their own, since the list that they are from is too long for one."""

    tasks: Sequence[Task]


Task = Call | Branch | Loop | Stretch


def calls_of(tasks: Sequence[Task]) -> Iterator[Call]:
    """All calls, in an order in which one iteration of every loop and both arms of every branch run."""
    return (call for call, _ in call_counts(tasks))


def call_counts(tasks: Sequence[Task], trips: int = 1) -> Iterator[tuple[Call, int]]:
    """All calls in the order of `calls_of`, and how often each runs, at most."""
    for task in tasks:
        match task:
            case Branch():
                yield task.condition, trips
                yield from call_counts([*task.then, *task.otherwise], trips)
            case Loop():
                inside = trips * max(task.trips, 1)
                yield from call_counts([*task.test, task.condition, *task.body], inside)
            case Stretch():
                yield from call_counts(task.tasks, trips)
            case Call():
                yield task, trips


def loop_spans(tasks: Sequence[Task], first: int = 0) -> Iterator[range]:
    """The numbers that the calls of each loop have in `calls_of`, counted from `first`."""
    for task in tasks:
        count = sum(1 for _ in calls_of([task]))
        match task:
            case Branch():
                yield from loop_spans([*task.then, *task.otherwise], first + 1)
            case Loop():
                yield range(first, first + count)
                yield from loop_spans([*task.test, task.condition, *task.body], first)
            case Stretch():
                yield from loop_spans(task.tasks, first)
        first += count


def kernel_call(
    op: str,
    inputs: Sequence[tuple[Placed, np.ndarray | None]],
    outputs: Sequence[Placed],
    epilogue: Expression | None,
    attributes: Mapping[str, Any] | None = None,
    result: str = "",
    prologue: Expression | None = None,
) -> Call:
    """The call of a kernel for placed operands; constant ones come with their array."""
    operands = tuple(Operand(place.window.view, array) for place, array in inputs)
    views = tuple(place.window.view for place in outputs)
    request = KernelRequest(op, operands, views, attributes or {}, result, epilogue, prologue)
    return Call(request, (*(place for place, _ in inputs), *outputs))


def copy_call(source: Placed, target: Placed) -> Call:
    """Copies a tensor."""
    element = source.window.view.element
    identity = Expression((("input", (0,), ()),), (element,))
    return kernel_call("elementwise", [(source, None)], [target], identity)


def condition_call(place: Placed) -> Call:
    """Leaves a bool on the operand stack."""
    return Call(KernelRequest("condition", (Operand(place.window.view),), ()), (place,))
