"""Search for a packing within a capacity, by depth, in the manner of MiniMalloc (Moffitt, ASPLOS 2023).

Every packing can be pushed down until each block rests on the bottom or on another one, and then be built in the
order of offsets: what is placed next lies on the skyline of what is there, and not lower than the last one. A
partial packing is given up where the skyline and the blocks that are still to come exceed the capacity.

Where a placement leaves blocks over in groups that do not meet in time, each group is placed by itself, the
tightest first. If one cannot be placed, the search goes back to the placement that left it over, past all that was
done for other groups since.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tosaic.wasm.blocks import Block, groups_in_time

Rank = Callable[[int, Block], tuple[int, ...]]
"""What is tried first, the lowest: of an offset and the block that could lie there."""

_Choice = tuple[int, int]
"""An offset and the number of the block that is placed there; choices are made in ascending order."""
_BOTTOM: _Choice = (0, -1)


@dataclass
class _Group:
    """Blocks that are left to place during some steps, and the number of placements that left them over."""

    numbers: Sequence[int]
    steps: slice
    placements: int


@dataclass
class _Frame:
    """The placement of one block of a group: the choices that are left, the one that stands, and what it covers."""

    group: _Group
    others: Sequence[_Group]
    choices: Iterator[_Choice]
    choice: _Choice = _BOTTOM
    covered: Sequence[int] = ()


def search(blocks: Sequence[Block], capacity: int, rank: Rank, most_placements: int) -> list[int] | None:
    """Offsets within the capacity; None if there are none, or none are found with so many placements."""
    skyline = _Skyline(blocks, capacity)

    def next_frame(groups: Sequence[_Group]) -> _Frame:
        group, *others = groups
        lowest = frames[group.placements - 1].choice if group.placements else _BOTTOM
        choices = skyline.choices(group, lowest)
        choices.sort(key=lambda choice: (rank(choice[0], blocks[choice[1]]), choice[1]))
        return _Frame(group, others, iter(choices))

    frames: list[_Frame] = []
    frames.append(next_frame(skyline.groups(range(len(blocks)), 0)))
    for _ in range(most_placements):
        while (choice := next(frames[-1].choices, None)) is None:
            if not _back_to_origin(frames, skyline):
                return None
        frame = frames[-1]
        frame.choice, frame.covered = choice, skyline.place(choice)
        if not skyline.fits(frame.group, choice):
            skyline.take_back(frame.choice, frame.covered)
            continue
        left = [number for number in frame.group.numbers if number != choice[1]]
        groups = [*skyline.groups(left, len(frames)), *frame.others]
        if not groups:
            return skyline.offsets
        frames.append(next_frame(groups))
    return None


def _back_to_origin(frames: list[_Frame], skyline: _Skyline) -> bool:
    """Undo everything down to the placement that left over the group of the last frame; False if none did."""
    placements = frames.pop().group.placements
    for frame in reversed(frames[placements:]):
        skyline.take_back(frame.choice, frame.covered)
    del frames[placements:]
    if frames:
        skyline.take_back(frames[-1].choice, frames[-1].covered)
    return bool(frames)


class _Skyline:
    """How high the blocks that are placed reach, at each of the steps at which most blocks are alive.

    `floor` is the skyline, `ahead` the room of the blocks that are still to come.
    """

    def __init__(self, blocks: Sequence[Block], capacity: int) -> None:
        self.capacity = capacity
        self.rooms = [block.room for block in blocks]
        crowds = _crowded_steps(blocks)
        self.spans = [slice(bisect_left(crowds, b.first), bisect_right(crowds, b.last)) for b in blocks]
        self.floor = [0] * len(crowds)
        self.ahead = [0] * len(crowds)
        for number, room in enumerate(self.rooms):
            self._expect(number, room)
        self.offsets = [0] * len(blocks)

    def choices(self, group: _Group, lowest: _Choice) -> list[_Choice]:
        """What can be next in the order of offsets.

        A block of which the whole room would stay free below what comes next could as well lie there.
        """
        ground = [(max(self.floor[self.spans[number]]), number) for number in group.numbers]
        bound = min(offset + self.rooms[number] for offset, number in ground)
        return [choice for choice in ground if lowest < choice and choice[0] < bound]

    def place(self, choice: _Choice) -> list[int]:
        """What the skyline was where the block now lies."""
        offset, number = choice
        span = self.spans[number]
        covered = self.floor[span]
        self.floor[span] = [offset + self.rooms[number]] * len(covered)
        self._expect(number, -self.rooms[number])
        self.offsets[number] = offset
        return covered

    def take_back(self, choice: _Choice, covered: Sequence[int]) -> None:
        """Undo the last placement that still stands."""
        number = choice[1]
        self.floor[self.spans[number]] = covered
        self._expect(number, self.rooms[number])

    def fits(self, group: _Group, choice: _Choice) -> bool:
        """Whether the rest of the group may still fit, now that nothing of it comes lower than the choice."""
        at_most = self.capacity
        pairs = zip(self.floor[group.steps], self.ahead[group.steps])
        return all(max(floor, choice[0]) + ahead <= at_most for floor, ahead in pairs)

    def groups(self, numbers: Sequence[int], placements: int) -> list[_Group]:
        """Groups of blocks that do not meet in time, the tightest first."""
        spans = [(self.spans[number].start, self.spans[number].stop - 1) for number in numbers]
        groups = []
        for members in groups_in_time(spans):
            steps = slice(spans[members[0]][0], max(spans[member][1] for member in members) + 1)
            groups.append(_Group([numbers[member] for member in members], steps, placements))
        return sorted(groups, key=self._height, reverse=True)

    def _height(self, group: _Group) -> int:
        return max(map(sum, zip(self.floor[group.steps], self.ahead[group.steps])))

    def _expect(self, number: int, room: int) -> None:
        for step in range(self.spans[number].start, self.spans[number].stop):
            self.ahead[step] += room


def _crowded_steps(blocks: Sequence[Block]) -> list[int]:
    """Steps where a block begins to live and one ends to before the next begins: the others have no more alive."""
    begins = sorted({block.first for block in blocks})
    ends = sorted({block.last for block in blocks})
    following = [*begins[1:], ends[-1] + 1]
    return [
        begin
        for begin, next_begin in zip(begins, following)
        if bisect_left(ends, next_begin) > bisect_left(ends, begin)
    ]
