"""Layouts as permutations, and the choice of one layout a group of ops so that few bytes are transposed.

A layout of a value is the permutation it is stored in: `stored = transpose(value, layout)`. Nothing here
knows MLIR; `fold-transposes` states a problem and carries out its solution.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Layout = tuple[int, ...]

MOVE_LIMIT = 64
"""Most groups that change their layout in one step: bounds the time of a step."""
MAX_SWEEPS = 8
"""Every sweep lowers the cost or is the last; real graphs need two or three."""


def identity(rank: int) -> Layout:
    return tuple(range(rank))


def compose(first: Layout, second: Layout) -> Layout:
    """The permutation of `transpose(transpose(x, first), second)`."""
    return tuple(first[axis] for axis in second)


def inverse(layout: Layout) -> Layout:
    result = [0] * len(layout)
    for position, axis in enumerate(layout):
        result[axis] = position
    return tuple(result)


def permuted(shape: Sequence[int], layout: Layout) -> list[int]:
    return [shape[axis] for axis in layout]


def same_memory(shape: Sequence[int], first: Layout, second: Layout) -> bool:
    """Whether two layouts of a value hold the same bytes: they differ only in where dims of size 1 stand."""
    return [a for a in first if shape[a] != 1] == [a for a in second if shape[a] != 1]


@functools.lru_cache(maxsize=4096)
def reshaped_layout(before: tuple[int, ...], after: tuple[int, ...], layout: Layout) -> Layout | None:
    """The layout of a reshape's result so that it stays a reshape when its operand has `layout`.

    None where no such layout exists: a group of dims that the reshape merges or splits is torn apart.
    """
    groups = _reshape_groups(before, after)
    if groups is None:
        return None
    order = [axis for axis in layout if before[axis] != 1]
    group_of = {axis: number for number, (inputs, _) in enumerate(groups) for axis in inputs}
    sequence: list[int] = []
    for axis in order:
        if not sequence or sequence[-1] != group_of[axis]:
            sequence.append(group_of[axis])
    if [axis for number in sequence for axis in groups[number][0]] != order:
        return None
    return _with_unit_dims(after, [axis for number in sequence for axis in groups[number][1]])


def _reshape_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """The finest split of both shapes into runs of axes (those of size 1 left out) with equal products."""
    inputs = [axis for axis, size in enumerate(before) if size != 1]
    outputs = [axis for axis, size in enumerate(after) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    i = o = 0
    while i < len(inputs) and o < len(outputs):
        i_end, o_end = i + 1, o + 1
        i_size, o_size = before[inputs[i]], after[outputs[o]]
        while i_size != o_size:
            if i_size < o_size and i_end < len(inputs):
                i_size *= before[inputs[i_end]]
                i_end += 1
            elif o_size < i_size and o_end < len(outputs):
                o_size *= after[outputs[o_end]]
                o_end += 1
            else:
                return None
        groups.append((inputs[i:i_end], outputs[o:o_end]))
        i, o = i_end, o_end
    return groups if i == len(inputs) and o == len(outputs) else None


def _with_unit_dims(shape: Sequence[int], order: Sequence[int]) -> Layout:
    """A layout from the order of the dims larger than 1: those of size 1 stay behind their left neighbour."""
    layout: list[int] = []
    leading = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    layout.extend(range(leading))
    for axis in order:
        layout.append(axis)
        following = axis + 1
        while following < len(shape) and shape[following] == 1:
            layout.append(following)
            following += 1
    return tuple(layout)


class Group:
    """Ops that share one layout. The base class passes its operand's layout on to its result."""

    fixed = False

    def result_layout(self, layout: Layout) -> Layout | None:
        """The layout of the results when the operands have `layout`; None if the ops cannot run so."""
        return layout

    def operand_layout(self, result: Layout) -> Layout | None:
        """A layout of the operands that gives results of layout `result`."""
        return result


class Fixed(Group):
    """Ops that read and write plain layouts only: convolutions, arguments, results."""

    fixed = True


@dataclass(eq=False)
class Reshape(Group):
    """One reshape: it lets those layouts through that keep its groups of dims together."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def result_layout(self, layout: Layout) -> Layout | None:
        return reshaped_layout(self.before, self.after, layout)

    def operand_layout(self, result: Layout) -> Layout | None:
        return reshaped_layout(self.after, self.before, result)


@dataclass(eq=False)
class DropAxis(Group):
    """One op that removes an axis (argmax)."""

    axis: int

    def result_layout(self, layout: Layout) -> Layout | None:
        return tuple(axis - (axis > self.axis) for axis in layout if axis != self.axis)

    def operand_layout(self, result: Layout) -> Layout | None:
        return (*(axis + (axis >= self.axis) for axis in result), self.axis)


@dataclass(eq=False)
class Value:
    """What `producer` computes; a reader `(group, perm)` reads `transpose(value, perm)` in its own layout."""

    producer: Group
    shape: Sequence[int]
    nbytes: int
    readers: dict[tuple[Group, Layout], None] = field(default_factory=dict)


@dataclass
class LayoutProblem:
    """Groups and the values that flow between them; `solve` gives every group its layout.

    The cost is the pair (bytes that transposes move, conversions); readers that want the same layout share
    one conversion. A group's layout starts as the identity and changes only where the cost falls, so a
    solution is never worse than the program as it was written.
    """

    _layouts: dict[Group, Layout] = field(default_factory=dict)
    _values: dict[Group, list[Value]] = field(default_factory=dict)

    def add_group(self, group: Group, rank: int) -> None:
        if not group.fixed:
            self._layouts.setdefault(group, identity(rank))

    def add_value(self, value: Value) -> None:
        for group in dict.fromkeys((value.producer, *(reader for reader, _ in value.readers))):
            if not group.fixed:
                self._values.setdefault(group, []).append(value)

    def solve(self) -> dict[Group, Layout]:
        for _ in range(MAX_SWEEPS):
            moves = [self._improve(group) for group in self._values]
            if not any(moves):
                break
        return self._layouts

    def _improve(self, group: Group) -> dict[Group, Layout]:
        """Makes the best move that starts at a group, {} if none lowers the cost."""
        best: dict[Group, Layout] = {}
        best_gain = 0, 0
        for candidate in self._candidates(group):
            for move in ({group: candidate}, self._spread(group, candidate)):
                gain = self._gain(move)
                if gain > best_gain:
                    best, best_gain = move, gain
        self._layouts.update(best)
        return best

    def _candidates(self, group: Group) -> list[Layout]:
        """The layouts that free the group of one conversion."""
        wishes = dict.fromkeys(
            wish
            for value, reader, perm in self._links(group)
            for wish in [self._wish(value, reader, perm, group, {})]
        )
        return [wish for wish in wishes if wish is not None and wish != self._layouts[group]]

    def _links(self, group: Group) -> Iterator[tuple[Value, Group, Layout]]:
        """The readings that tie the group to others."""
        for value in self._values[group]:
            for reader, perm in value.readers:
                if (value.producer is group) != (reader is group):
                    yield value, reader, perm

    def _wish(
        self, value: Value, reader: Group, perm: Layout, group: Group, move: dict[Group, Layout]
    ) -> Layout | None:
        """The layout of `group`, one end of the reading, that saves its conversion; None if there is none."""
        if group is reader:
            wish = compose(inverse(perm), self._stored(value, move))
            return wish if group.result_layout(wish) is not None else None
        operand = group.operand_layout(compose(perm, self._layout(reader, len(perm), move)))
        return operand if operand is not None and group.result_layout(operand) is not None else None

    def _layout(self, group: Group, rank: int, move: dict[Group, Layout]) -> Layout:
        if group.fixed:
            return identity(rank)
        return move.get(group) or self._layouts[group]

    def _stored(self, value: Value, move: dict[Group, Layout]) -> Layout:
        if value.producer.fixed:
            return identity(len(value.shape))
        stored = value.producer.result_layout(self._layout(value.producer, 0, move))
        assert stored is not None, "only layouts that a group can run in are ever chosen"
        return stored

    def _cost(self, value: Value, move: dict[Group, Layout]) -> tuple[int, int]:
        stored = self._stored(value, move)
        wanted = {compose(perm, self._layout(reader, len(perm), move)) for reader, perm in value.readers}
        wanted.discard(stored)
        moves = sum(not same_memory(value.shape, stored, layout) for layout in wanted)
        return moves * value.nbytes, len(wanted)

    def _gain(self, move: dict[Group, Layout]) -> tuple[int, int]:
        values = dict.fromkeys(value for group in move for value in self._values[group])
        before = [self._cost(value, {}) for value in values]
        after = [self._cost(value, move) for value in values]
        return (
            sum(b for b, _ in before) - sum(a for a, _ in after),
            sum(b for _, b in before) - sum(a for _, a in after),
        )

    def _spread(self, group: Group, layout: Layout) -> dict[Group, Layout]:
        """The move that takes along the neighbours that agree with the group now, also through reshapes."""
        move = {group: layout}
        queue = deque([group])
        while queue and len(move) < MOVE_LIMIT:
            here = queue.popleft()
            for value, reader, perm in self._links(here):
                there = value.producer if reader is here else reader
                if there.fixed or there in move or not self._goes_along(value, reader, perm):
                    continue
                wish = self._wish(value, reader, perm, there, move)
                if wish is not None and wish != self._layouts[there]:
                    move[there] = wish
                    queue.append(there)
        return move

    def _goes_along(self, value: Value, reader: Group, perm: Layout) -> bool:
        if isinstance(value.producer, Reshape | DropAxis) or isinstance(reader, Reshape | DropAxis):
            return True
        return self._stored(value, {}) == compose(perm, self._layout(reader, len(perm), {}))
