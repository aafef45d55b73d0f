"""Blocks that live at the same time never overlap, and the end is as low as it can be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm import packing
from tosaic.wasm.blocks import Block, groups_in_time, largest_live
from tosaic.wasm.packing import end_of, pack
from tosaic.wasm.packing_search import search


def blocks_of(sizes: st.SearchStrategy[int], most: int, steps: int) -> st.SearchStrategy[tuple[Block, ...]]:
    spans = st.tuples(st.integers(-1, steps), st.integers(-1, steps)).map(sorted)
    return st.lists(st.builds(lambda size, span: Block(size, *span), sizes, spans), max_size=most).map(tuple)


def meet(one: Block, other: Block) -> bool:
    return one.first <= other.last and other.first <= one.last


def overlaps(blocks, offsets) -> bool:
    return any(
        meet(one, other) and start < other_start + other.bytes and other_start < start + one.bytes
        for (one, start), (other, other_start) in itertools.combinations(zip(blocks, offsets), 2)
    )


def lowest_end(blocks: tuple[Block, ...]) -> int:
    """By trying all orders: each block as low as those before it let it lie."""
    lowest = sum(block.room for block in blocks)
    for order in itertools.permutations(blocks):
        placed: list[tuple[Block, int]] = []
        for block in order:
            ends = [0, *sorted(start + other.room for other, start in placed if meet(block, other))]
            start = next(
                end
                for end in ends
                if not overlaps([block, *(b for b, _ in placed)], [end, *(s for _, s in placed)])
            )
            placed.append((block, start))
        lowest = min(lowest, end_of(*zip(*placed)) if placed else 0)
    return lowest


@given(blocks_of(st.integers(0, 500), 40, 30))
def test_blocks_that_meet_lie_apart(blocks):
    offsets = pack(blocks)
    assert not overlaps(blocks, offsets)
    assert all(offset >= 0 and offset % 16 == 0 for offset in offsets)


@given(blocks_of(st.integers(0, 6).map(lambda units: 16 * units), 5, 5))
def test_few_blocks_end_where_the_best_of_all_orders_ends(blocks):
    assert end_of(blocks, pack(blocks)) == lowest_end(blocks)


@given(blocks_of(st.integers(1, 4).map(lambda units: 16 * units), 5, 5), st.sampled_from(packing._RANKS))
def test_search_finds_the_lowest_end_and_nothing_below(blocks, rank):
    lowest = lowest_end(blocks)
    if lowest:
        found = search(blocks, lowest, rank, 10_000)
        assert found is not None
        assert not overlaps(blocks, found)
        assert end_of(blocks, found) == lowest
        assert search(blocks, lowest - 16, rank, 10_000) is None


@given(st.integers(2, 40), st.data())
def test_tiles_of_a_full_rectangle_come_close_to_it(cuts, data):
    """A rectangle of bytes and steps, cut by guillotine: a packing without any gap exists."""
    tiles = [(0, 1024, 0, 63)]
    for _ in range(cuts):
        start, end, first, last = tiles.pop(data.draw(st.integers(0, len(tiles) - 1)))
        if data.draw(st.booleans()) and last > first:
            middle = data.draw(st.integers(first, last - 1))
            tiles += [(start, end, first, middle), (start, end, middle + 1, last)]
        elif end - start > 16:
            middle = 16 * data.draw(st.integers(start // 16 + 1, end // 16 - 1))
            tiles += [(start, middle, first, last), (middle, end, first, last)]
        else:
            tiles.append((start, end, first, last))
    blocks = tuple(Block(end - start, first, last) for start, end, first, last in tiles)
    assert largest_live(blocks) == 1024
    assert end_of(blocks, pack(blocks)) <= 1.15 * 1024


@pytest.mark.parametrize(
    ("spans", "groups"),
    [
        ([], []),
        ([(0, 1), (2, 3)], [[0], [1]]),
        ([(2, 3), (0, 1), (1, 1)], [[1, 2], [0]]),
        ([(0, 9), (1, 2), (4, 5)], [[0, 1, 2]]),
    ],
)
def test_groups_do_not_meet_in_time(spans, groups):
    assert groups_in_time(spans) == groups


def test_many_nested_lifetimes_are_packed_in_reasonable_depth():
    blocks = tuple(Block(16, number, 4000 - number) for number in range(1500))
    assert end_of(blocks, pack(blocks)) == 16 * 1500


def test_search_finds_what_best_fit_does_not():
    units = [(8, 4, 8), (2, 6, 22), (19, 7, 7), (12, 8, 11), (18, 9, 9)]
    blocks = tuple(Block(16 * size, first, last) for size, first, last in units)
    assert end_of(blocks, packing._best_fits(blocks, 0)) > 16 * 32
    assert end_of(blocks, pack(blocks)) == largest_live(blocks) == 16 * 32
