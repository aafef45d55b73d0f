"""Blocks of memory and the steps during which they are in use."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.wasm.weight_image import ALIGNMENT, aligned


@dataclass(frozen=True)
class Block:
    """Bytes that are in use during the steps from `first` to `last`."""

    bytes: int
    first: int
    last: int

    @property
    def room(self) -> int:
        """The bytes up to where another block may begin."""
        return aligned(self.bytes, ALIGNMENT)

    @property
    def steps(self) -> int:
        return self.last - self.first + 1


def largest_live(blocks: Sequence[Block], alignment: int = 1) -> int:
    """The most bytes in use at any one step: what no packing can go below."""
    changes: dict[int, int] = {}
    for block in blocks:
        room = aligned(block.bytes, alignment)
        changes[block.first] = changes.get(block.first, 0) + room
        changes[block.last + 1] = changes.get(block.last + 1, 0) - room
    return max(itertools.accumulate((changes[step] for step in sorted(changes)), initial=0))


def groups_in_time(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers of spans (first and last step) in groups, none of which goes on when the next one begins.

    Within a group, spans are in the order of their first steps.
    """
    groups: list[list[int]] = []
    end = 0
    for number in sorted(range(len(spans)), key=lambda number: spans[number][0]):
        first, last = spans[number]
        if not groups or first > end:
            groups.append([])
            end = last
        groups[-1].append(number)
        end = max(end, last)
    return groups
