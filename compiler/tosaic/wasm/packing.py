"""Where blocks of memory lie so that those that live at the same time do not overlap: dynamic storage allocation.

All lifetimes are known beforehand, and what is sought is the lowest end. That is NP-hard; no packing ends below the
largest live set, and almost always some packing ends there. Three methods, each for what the ones before leave open:

- *Best fit*: blocks take, one after the other, the tightest gap among those that are placed. A few orders are tried;
  then, again and again, the block that ends highest goes first.
- *Parts*: a block that lives as long as all others can lie at the bottom. Without such blocks the rest falls into
  parts that do not meet in time, and only a part that ends too high needs another packing.
- *Search* within a capacity (`packing_search`), for parts of up to some hundred blocks.

Everything is deterministic, and the effort is bounded by counts, not by clocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from tosaic.wasm.blocks import Block, groups_in_time, largest_live
from tosaic.wasm.packing_search import Rank, search
from tosaic.wasm.weight_image import ALIGNMENT, aligned


def end_of(blocks: Sequence[Block], offsets: Sequence[int]) -> int:
    """Where the highest block ends."""
    return max((offset + block.bytes for block, offset in zip(blocks, offsets)), default=0)


@functools.lru_cache(maxsize=8)
def pack(blocks: tuple[Block, ...]) -> tuple[int, ...]:
    """An offset for each block, all multiples of `ALIGNMENT`. The last results are kept: programs are planned often."""
    goal = largest_live(blocks, ALIGNMENT)
    best = _best_fits(blocks, goal)
    if end_of(blocks, best) > goal:
        best = min(best, _in_parts(blocks, goal, best), key=functools.partial(end_of, blocks))
    return tuple(best)


def _in_parts(blocks: Sequence[Block], goal: int, best: Sequence[int]) -> list[int]:
    """A packing in which each part ends as near to the goal as can be found; `best` is one of all blocks."""
    offsets = [0] * len(blocks)
    for base, part in _parts(blocks):
        members = [blocks[number] for number in part]
        fitted = best if len(part) == len(blocks) else _best_fits(members, goal - base)
        for number, offset in zip(part, _searched(members, goal - base, fitted)):
            offsets[number] = base + offset
    return offsets


def _parts(blocks: Sequence[Block]) -> Iterator[tuple[int, list[int]]]:
    """Numbers of blocks that can be packed alone, each part with the offset at which it begins.

    Blocks without a byte are in none.
    """
    waiting = [(0, [number for number, block in enumerate(blocks) if block.bytes])]
    while waiting:
        base, part = waiting.pop()
        whole = min(blocks[number].first for number in part), max(blocks[number].last for number in part)
        through = [number for number in part if (blocks[number].first, blocks[number].last) == whole]
        for number in through:
            yield base, [number]
            base += blocks[number].room
        rest = [number for number in part if (blocks[number].first, blocks[number].last) != whole]
        groups = groups_in_time([(blocks[number].first, blocks[number].last) for number in rest])
        if not through and len(groups) == 1:
            yield base, part
        else:
            waiting += [(base, [rest[member] for member in group]) for group in groups]


_RANKS: tuple[Rank, ...] = (
    lambda offset, block: (offset, block.first),
    lambda offset, block: (offset, -block.bytes),
    lambda offset, block: (offset, -block.steps, -block.bytes),
)
"""What the search tries first. Where one of them finds a packing, it does so soon: none is tried for long."""
_PLACEMENTS_PER_BLOCK = 8
_MOST_COMPARISONS_SEARCHING = 3_000_000
_PRECISION = 256


def _searched(blocks: Sequence[Block], goal: int, best: Sequence[int]) -> Sequence[int]:
    """Search for a packing that ends at the goal, else, by halves, for one that ends nearer to it than the best."""
    capacity = low = goal
    placements = _PLACEMENTS_PER_BLOCK * len(blocks)
    searches = _MOST_COMPARISONS_SEARCHING // (placements * len(blocks))
    for _ in range(searches // len(_RANKS)):
        high = end_of(blocks, best)
        if capacity >= high or (low > goal and high - low <= high // _PRECISION):
            break
        tries = (search(blocks, capacity, rank, placements) for rank in _RANKS)
        found = next(filter(None, tries), None)
        if found is None:
            low = capacity + ALIGNMENT
        else:
            best = found
        capacity = aligned((low + end_of(blocks, best)) // 2)
    return best


_Order = Callable[[Block], tuple[int, ...]]
_ORDERS: tuple[_Order, ...] = (
    lambda block: (block.first, -block.bytes),
    lambda block: (-block.steps, -block.bytes),
    lambda block: (-block.bytes * block.steps, block.first),
    lambda block: (-block.bytes, block.first),
)
"""What best fit places first."""
_MOST_RETRIES = 40
_MOST_COMPARISONS = 8_000_000


def _best_fits(blocks: Sequence[Block], goal: int) -> list[int]:
    """The lowest packing that best fit finds in several orders, or the first one that ends at the goal."""
    neighbours = _neighbours(blocks)
    pending = [sorted(range(len(blocks)), key=lambda number: order(blocks[number])) for order in _ORDERS]
    retries = min(_MOST_RETRIES, _MOST_COMPARISONS // (sum(map(len, neighbours)) + 1))
    best, lowest = [0] * len(blocks), None
    for _ in range(len(pending) + retries):
        order = pending.pop(0)
        offsets = _best_fit(blocks, neighbours, order)
        end = end_of(blocks, offsets)
        if lowest is None or end < lowest:
            best, lowest = offsets, end
        if lowest <= goal:
            break
        highest = max(order, key=lambda number: offsets[number] + blocks[number].bytes)
        pending = pending or [[highest, *(number for number in order if number != highest)]]
    return best


def _neighbours(blocks: Sequence[Block]) -> list[list[int]]:
    """For each block the numbers of the others that are alive at some step of its life."""
    neighbours: list[list[int]] = [[] for _ in blocks]
    alive: list[int] = []
    for number in sorted(range(len(blocks)), key=lambda number: blocks[number].first):
        alive = [other for other in alive if blocks[other].last >= blocks[number].first]
        for other in alive:
            neighbours[number].append(other)
            neighbours[other].append(number)
        alive.append(number)
    return neighbours


def _best_fit(
    blocks: Sequence[Block], neighbours: Sequence[Sequence[int]], order: Sequence[int]
) -> list[int]:
    """Offsets, if the blocks take the tightest gap one after the other."""
    offsets, ends = [-1] * len(blocks), [0] * len(blocks)
    for number in order:
        room = blocks[number].room
        end, best, slack = 0, None, None
        for start, stop in sorted(
            (offsets[other], ends[other]) for other in neighbours[number] if ends[other]
        ):
            gap = start - end
            if gap >= room and (slack is None or gap < slack):
                best, slack = end, gap
            end = max(end, stop)
        offsets[number] = end if best is None else best
        ends[number] = offsets[number] + room
    return offsets
