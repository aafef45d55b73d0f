"""The pages that a stretch of the program touches, at most.

Of the arms of a branch outside of loops only one runs. Weights are read by few kernels, so most pages of an arm's
weights are touched by nothing else in the whole program. Of these the message pays for one arm's, whatever else it
touches. So only those of the arm that has more of them stand for both.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tosaic.wasm.calls import Branch, Call, Loop, Stretch, Task, calls_of
from tosaic.wasm.memory_plan import Step, table_pages, touched

Masks = tuple[int, int]
"""Pages that are read, pages that are written: bit n stands for the n-th 64 KiB."""


@dataclass(frozen=True)
class TouchedPages:
    """For a placed program; `steps` are all of its steps in order, from page `first_weight_page` on lie the weights."""

    steps: Mapping[Call, Step]
    first_weight_page: int

    def of(self, tasks: Sequence[Task]) -> Masks:
        """What tasks of the program touch."""
        return _union(self._of_task(task) for task in tasks)

    def _of_task(self, task: Task) -> Masks:
        match task:
            case Branch():
                return _union([self.of([task.condition]), self._of_branch(task)])
            case Stretch():
                return self.of(task.tasks)
            case Loop():
                return _union(touched(self.steps[call]) for call in calls_of([task]))
        return touched(self.steps[task])

    def _of_branch(self, branch: Branch) -> Masks:
        """Of the pages that only one arm touches, those of the arm that has more of them."""
        arms = [(self.of(arm), self._own_pages(arm)) for arm in (branch.then, branch.otherwise)]
        ((reads, writes), own), (dearer, _) = sorted(
            arms, key=lambda arm: (_all(arm[0]) & arm[1]).bit_count()
        )
        return _union([dearer, (reads & ~own, writes & ~own)])

    def _own_pages(self, tasks: Sequence[Task]) -> int:
        """The pages of weights that nothing touches but these tasks, which follow each other.

        No tables that are looked up: their pages stand for others.
        """
        numbers = [self._number_of[call] for call in calls_of(tasks)]
        if not numbers:
            return 0
        pages = _all(_union(touched(self.steps[call]) for call in calls_of(tasks)))
        others = self._before[min(numbers)] | self._behind[max(numbers)]
        return pages & ~others & ~self._tables & -(1 << self.first_weight_page)

    @cached_property
    def _tables(self) -> int:
        return functools.reduce(operator.or_, map(table_pages, self.steps.values()), 0)

    @cached_property
    def _number_of(self) -> dict[Call, int]:
        return {call: number for number, call in enumerate(self.steps)}

    @cached_property
    def _before(self) -> list[int]:
        """What the steps before each step touch."""
        return list(_running(_all(touched(step)) for step in self.steps.values()))

    @cached_property
    def _behind(self) -> list[int]:
        """What the steps behind each step touch."""
        backwards = reversed(list(self.steps.values()))
        return list(_running(_all(touched(step)) for step in backwards))[::-1]


def _union(masks: Iterator[Masks] | Sequence[Masks]) -> Masks:
    reads = writes = 0
    for more_reads, more_writes in masks:
        reads, writes = reads | more_reads, writes | more_writes
    return reads, writes


def _all(masks: Masks) -> int:
    return masks[0] | masks[1]


def _running(masks: Iterator[int]) -> Iterator[int]:
    """The union of the masks before each."""
    union = 0
    for mask in masks:
        yield union
        union |= mask
