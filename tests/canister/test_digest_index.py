"""Sorted lists of digests in WebAssembly, against Python's: what they find and give, and what that costs."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tosaic.canister.digest_index import (
    CAPACITY,
    NOT_FOUND,
    DigestList,
    ascending,
    ascending_cost,
    comparison,
    search,
    search_cost,
    union,
    union_cost,
)
from tosaic.canister.entry import Place, Region
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.replica import Instance, instantiate
from tosaic.wasm.module import Module

PRICES = PriceList.load()
_heap = Region(PAGE_BYTES)


def digest_list() -> DigestList:
    return DigestList(
        _heap.room(32 * CAPACITY, PAGE_BYTES), _heap.room(4 * CAPACITY), _heap.room(4 * CAPACITY)
    )


LISTED, OLD = digest_list(), digest_list()
GIVEN, COUNT, KEY = _heap.room(32 * CAPACITY + 64), Place(0, 4), Place(64, 32)


@pytest.fixture(scope="module")
def instance() -> Instance:
    exports = {
        "compare": comparison(PRICES), "search": search(LISTED, COUNT, PRICES), "ascending": ascending(PRICES),
        "union": union(OLD, GIVEN, LISTED, PRICES),
    }  # fmt: skip
    return instantiate(Module(-(-_heap.position // PAGE_BYTES), exports).encode(), PRICES)


FEW_DIFFERENT = st.builds(
    lambda at, byte: bytes(at) + bytes([byte]) + bytes(31 - at),
    st.integers(0, 31),
    st.sampled_from([1, 127, 128, 255]),
)
"""Digests that differ in few bytes, at any place."""


def fill(instance: Instance, digests: list[bytes]) -> None:
    instance.write(LISTED.digests.address, b"\xff" * 64 * 32)
    instance.write(LISTED.digests.address, b"".join(digests))
    instance.write(COUNT.address, struct.pack("<I", len(digests)))


@given(FEW_DIFFERENT, FEW_DIFFERENT)
def test_comparison(instance: Instance, first: bytes, second: bytes) -> None:
    instance.write(KEY.address, first + second)
    usage = instance.call("compare", KEY.address, KEY.address + 32)
    assert (usage.results < 0, usage.results > 0) == (first < second, first > second)
    assert usage.instructions == comparison(PRICES).cost


@given(st.sets(FEW_DIFFERENT, max_size=40), FEW_DIFFERENT)
def test_search(instance: Instance, listed: set[bytes], key: bytes) -> None:
    digests = sorted(listed)
    fill(instance, digests)
    instance.write(KEY.address, key)
    usage = instance.call("search", KEY.address)
    assert usage.results & NOT_FOUND == (digests.index(key) if key in listed else NOT_FOUND)
    assert usage.instructions == search(LISTED, COUNT, PRICES).cost


@pytest.mark.parametrize("count", [2048, 2049, CAPACITY - 1, CAPACITY])
def test_search_in_long_lists(instance: Instance, count: int) -> None:
    digests = [struct.pack(">I", 2 * n) + bytes(28) for n in range(count)]
    fill(instance, digests)
    cost = search(LISTED, COUNT, PRICES).cost + search_cost(LISTED, COUNT, PRICES, count)
    for position in (0, 1, count // 2, count - 2, count - 1):
        for key, right in ((2 * position, position), (2 * position + 1, NOT_FOUND)):
            instance.write(KEY.address, struct.pack(">I", key) + bytes(28))
            usage = instance.call("search", KEY.address)
            assert usage.results & NOT_FOUND == right
            assert usage.instructions == cost
            first = LISTED.digests.address // PAGE_BYTES
            used = range(first, first + -(-count * 32 // PAGE_BYTES))
            assert usage.pages_read == {KEY.address // PAGE_BYTES, *used}


def numbers(instance: Instance, place: Place, digests: list[bytes]) -> tuple[int, ...]:
    return struct.unpack(f"<{len(digests)}I", instance.read(place.address, 4 * len(digests)))


@given(st.sets(FEW_DIFFERENT, max_size=20), st.sets(FEW_DIFFERENT, min_size=1, max_size=20))
@settings(deadline=None)
def test_union(instance: Instance, old: set[bytes], new: set[bytes]) -> None:
    olds, news = sorted(old), sorted(new)
    slots, sizes = list(range(len(olds)))[::-1], [10 * n for n in range(len(olds))]
    instance.write(OLD.digests.address, b"".join(olds))
    instance.write(OLD.slots.address, struct.pack(f"<{len(olds)}I", *slots))
    instance.write(OLD.sizes.address, struct.pack(f"<{len(olds)}I", *sizes))
    instance.write(GIVEN.address, b"".join(news))
    usage = instance.call("union", len(olds), len(news))
    both = sorted(old | new)
    assert usage.results == len(both)
    cost = union(OLD, GIVEN, LISTED, PRICES).cost + union_cost(OLD, GIVEN, LISTED, PRICES, len(both))
    assert usage.instructions == cost
    assert instance.read(LISTED.digests.address, 32 * len(both)) == b"".join(both)
    fresh = iter(range(len(olds), len(both)))
    right = [(slots[olds.index(d)], sizes[olds.index(d)]) if d in old else (next(fresh), 0) for d in both]
    assert list(zip(numbers(instance, LISTED.slots, both), numbers(instance, LISTED.sizes, both))) == right


@given(st.lists(FEW_DIFFERENT, min_size=1, max_size=6))
def test_ascending(instance: Instance, digests: list[bytes]) -> None:
    instance.write(GIVEN.address, bytes(32) + b"".join(digests))
    start = GIVEN.address + 32
    usage = instance.call("ascending", start, start + 32 * len(digests))
    assert usage.results == all(a < b for a, b in pairwise(digests))
    assert usage.instructions == ascending(PRICES).cost + ascending_cost(PRICES, len(digests))
