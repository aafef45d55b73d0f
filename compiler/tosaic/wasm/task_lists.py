"""Lists of tasks as code: calls of kernels with constant addresses, and the branches and loops around them.

A list that is too long for one function becomes several (`Stretch`). Where the stretches of a program begin depends on
the whole program and not on where it is cut: a segment holds what comes before its first stretch itself and calls the
stretches that begin in it. So the call of a stretch belongs to the work that begins it, and costs add up over any cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tosaic.prices import PriceList
from tosaic.wasm.calls import Branch, Call, Loop, Stretch, Task
from tosaic.wasm.function import Function
from tosaic.wasm.layout import Work
from tosaic.wasm.memory_plan import Step
from tosaic.wasm.opcodes import leb128_unsigned

_OPERATOR_BYTES = 6
"""Of an `i32.const` or a `call`, at most."""
_BRANCH_BYTES = 8
"""Of the operators around the lists of a branch or a loop."""


def divide_long_lists(works: Sequence[Work], step_of: Mapping[Call, Step], function_bytes: int) -> None:
    """Let no function of a program's lists take more than `function_bytes`.

    A list of tasks takes a quarter of them at most, hence a loop, which has three, less than all. The works of a
    segment before its first stretch, and those of a stretch, take half of them.
    """
    taken = 0
    for work in works:
        work.calls = list(_divided(work.calls, step_of, function_bytes // 4))
        size = _bytes_of(work.tasks, step_of)
        work.begins_stretch = taken + size > function_bytes // 2
        taken = size if work.begins_stretch else taken + size


def tasks_of(works: Sequence[Work]) -> list[Task]:
    """What neighbouring works of one segment execute."""
    tasks: list[Task] = []
    stretch: list[Task] = tasks
    for work in works:
        if work.begins_stretch:
            stretch = []
            tasks.append(Stretch(stretch))
        stretch += work.tasks
    return tasks


def _divided(tasks: Sequence[Task], step_of: Mapping[Call, Step], most_bytes: int) -> Sequence[Task]:
    """The tasks, in stretches if they take more bytes, and so in the branches and loops among them."""
    tasks = [_with_short_lists(task, step_of, most_bytes) for task in tasks]
    while _bytes_of(tasks, step_of) > most_bytes:
        tasks = [Stretch(run) for run in _runs(tasks, step_of, most_bytes)]
    return tasks


def _with_short_lists(task: Task, step_of: Mapping[Call, Step], most_bytes: int) -> Task:
    match task:
        case Branch():
            then, otherwise = (_divided(arm, step_of, most_bytes) for arm in (task.then, task.otherwise))
            return replace(task, then=then, otherwise=otherwise)
        case Loop():
            test, body = (_divided(tasks, step_of, most_bytes) for tasks in (task.test, task.body))
            return replace(task, test=test, body=body)
    return task


def _runs(tasks: Sequence[Task], step_of: Mapping[Call, Step], most_bytes: int) -> Iterator[list[Task]]:
    """Neighbours that take at most so many bytes, or one that takes more by itself."""
    run: list[Task] = []
    taken = 0
    for task in tasks:
        size = _bytes_of([task], step_of)
        if run and taken + size > most_bytes:
            yield run
            run, taken = [], 0
        run.append(task)
        taken += size
    yield run


def _bytes_of(tasks: Sequence[Task], step_of: Mapping[Call, Step]) -> int:
    """The bytes of the code of a list at most, whatever the addresses are."""
    size = 0
    for task in tasks:
        match task:
            case Call():
                size += _OPERATOR_BYTES * (len(step_of[task].addresses) + 2)
            case Branch():
                size += _BRANCH_BYTES + _bytes_of([task.condition, *task.then, *task.otherwise], step_of)
            case Loop():
                test = [*task.test, task.condition]
                size += _BRANCH_BYTES + _bytes_of([*test, *task.body, *test], step_of)
            case Stretch():
                size += _OPERATOR_BYTES
    return size


@dataclass
class TaskEmitter:
    """Emits tasks of a segment. `step_of` knows the kernel and the addresses of every call.

    Which pages a branch touches depends on data even where its count does not.
    """

    step_of: Mapping[Call, Step]
    prices: PriceList
    segment: int
    _stretches: dict[Stretch, Function] = field(default_factory=dict)

    def emit(self, function: Function, tasks: Sequence[Task]) -> None:
        """Call each kernel with the addresses of its operands, in branches and loops as the tasks say."""
        for task in tasks:
            match task:
                case Call():
                    self._call(function, task)
                case Branch():
                    self._branch(function, task)
                case Loop():
                    self._loop(function, task)
                case Stretch():
                    function.call(self._stretch(task))

    def _call(self, function: Function, call: Call) -> None:
        step = self.step_of[call]
        for address in step.addresses:
            function.i32(address)
        if step.kernel.sample:
            function.i32(self.segment + 1)
        function.call(step.kernel.function)

    def _branch(self, function: Function, branch: Branch) -> None:
        function.exact = False
        self.emit(function, [branch.condition])
        with function.if_():
            self.emit(function, branch.then)
            function.else_()
            self.emit(function, branch.otherwise)

    def _loop(self, function: Function, loop: Loop) -> None:
        """The test stands before the loop and at its end, so a trip has one jump."""
        test = [*loop.test, loop.condition]
        self.emit(function, test)
        with function.if_(True if loop.exact else None), function.loop(max(loop.trips, 1), loop.exact):
            self.emit(function, [*loop.body, *test])
            function.op("br_if", leb128_unsigned(0))

    def _stretch(self, stretch: Stretch) -> Function:
        if stretch not in self._stretches:
            self._stretches[stretch] = Function("stretch", self.prices)
            self.emit(self._stretches[stretch], stretch.tasks)
        return self._stretches[stretch]
