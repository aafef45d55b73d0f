"""Weights lie apart from each other, in an order that leaves chunks as they are in programs that share weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.weight_image import WeightImage

CHUNK = 1 << 20
START = 3 * PAGE_BYTES
SIZES = st.one_of(st.integers(1, 300), st.integers(1, 2 * PAGE_BYTES), st.integers(1, 3 * CHUNK))


def weight(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def weights(sizes: list[int]) -> list[np.ndarray]:
    return [weight(seed, size) for seed, size in enumerate(sizes)]


def placed(arrays: list[np.ndarray], alone: tuple[int, ...] = ()) -> WeightImage:
    image = WeightImage()
    for number, array in enumerate(arrays):
        image.add(array, alone=number in alone)
    image.place(START, CHUNK)
    return image


def chunks(image: WeightImage) -> set[bytes]:
    memory = bytearray(image.end - START)
    for segment in image.data:
        memory[segment.address - START : segment.address - START + len(segment.data)] = segment.data
    return {bytes(memory[at : at + CHUNK]) for at in range(0, len(memory), CHUNK)}


@given(st.lists(SIZES, max_size=8), st.sets(st.integers(0, 7)))
def test_weights_never_overlap(sizes, alone):
    arrays = weights(sizes)
    image = placed(arrays, tuple(alone))
    spans = sorted((image.address(array), array.nbytes) for array in arrays)
    assert all(address % 16 == 0 and address >= START for address, _ in spans)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(spans))
    assert image.end >= max((address + size for address, size in spans), default=START)
    assert [segment.address for segment in image.data] == [address for address, _ in spans]


@given(st.lists(SIZES, min_size=1, max_size=8))
def test_weights_of_a_chunk_begin_one(sizes):
    arrays = weights(sizes)
    image = placed(arrays)
    offsets = [image.address(array) - START for array in arrays if array.nbytes >= CHUNK]
    assert all(offset % CHUNK == 0 for offset in offsets)


@given(st.lists(SIZES, min_size=1, max_size=8), st.integers(0, 8))
def test_what_comes_later_moves_no_large_weight(sizes, count):
    arrays = weights(sizes)
    first, whole = placed(arrays[:count]), placed(arrays)
    large = [array for array in arrays[:count] if array.nbytes >= 128 << 10]
    assert [first.address(a) for a in large] == [whole.address(a) for a in large]


@given(st.lists(SIZES, min_size=2, max_size=8), st.integers(0, 7), st.integers(0, 7))
def test_tables_that_lie_alone_share_no_page(sizes, table, other):
    arrays = weights(sizes)
    table, other = table % len(arrays), other % len(arrays)
    image = placed(arrays, (table,))
    pages = [
        range(image.address(a) // PAGE_BYTES, (image.address(a) + a.nbytes - 1) // PAGE_BYTES + 1)
        for a in (arrays[table], arrays[other])
    ]
    assert table == other or not set(pages[0]) & set(pages[1])
    assert image.address(arrays[table]) % PAGE_BYTES == 0


def test_equal_contents_are_stored_once():
    image = placed([weight(1, 100), weight(1, 100), weight(2, 100)])
    assert len(image.data) == 2


def test_small_weights_lie_together_before_a_large_one():
    first, tail, large, second = weight(3, 3000), weight(1, CHUNK + 5000), weight(2, CHUNK), weight(4, 100)
    image = placed([first, tail, large, second])
    assert image.address(first) == START + CHUNK + 5008
    assert image.address(second) == START + CHUNK + 5008 + 3008
    assert image.end == START + 3 * CHUNK


@pytest.mark.parametrize("changed", range(0, 60, 15))
def test_a_network_shares_chunks_with_the_same_network_without_a_layer(changed):
    """Sixty layers of which each is a part of a chunk: what is new ends with the next weight that begins a chunk."""
    rng = np.random.default_rng(5)
    arrays = weights([int(size) for size in rng.integers(20_000, 900_000, 60)])
    whole, other = chunks(placed(arrays)), chunks(placed(arrays[:changed] + arrays[changed + 1 :]))
    assert len(whole) >= 26
    assert len(other - whole) <= 10


def test_gaps_are_a_small_part():
    rng = np.random.default_rng(6)
    arrays = weights([int(size) for size in rng.integers(20_000, 900_000, 60)])
    image = placed(arrays)
    assert image.end - START <= 1.2 * sum(array.nbytes for array in arrays)
