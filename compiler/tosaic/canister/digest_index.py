"""A sorted list of SHA-256 digests in memory: where a digest stands in it, and how two lists become one.

Both take a number of steps that depends on how many digests there are, not on which, and touch all pages of the list:
so their price is known beforehand.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tosaic.canister.entry import Place
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.opcodes import leb128_unsigned

CAPACITY = 16_384
"""Digests in a list, so that one number of 4 bytes for each fits a page."""

NOT_FOUND = 0xFFFF_FFFF


@dataclass(frozen=True)
class DigestList:
    """Digests in ascending order, with two numbers for each: `slots` and `sizes` (4 bytes an entry)."""

    digests: Place
    slots: Place
    sizes: Place

    def used(self, count: int) -> list[Place]:
        """What so many entries occupy."""
        return [
            Place(self.digests.address, count * DIGEST_BYTES),
            Place(self.slots.address, 4 * count),
            Place(self.sizes.address, 4 * count),
        ]


@functools.cache
def comparison(prices: PriceList) -> Function:
    """The function (first, second) -> i32: below 0, 0 or above 0 as the first digest is less, equal or greater."""
    f = Function("compare_digests", prices, ("i32", "i32"), ("i32",))
    first, second = 0, 1
    differing, at = f.local("i32"), f.local("i32")
    for half in (0, 16):
        for digest in (first, second):
            f.get(digest)
            f.memory("v128.load", half)
        f.op("i8x16.ne")
        f.op("i8x16.bitmask")
    f.i32(16)
    f.op("i32.shl")
    f.op("i32.or")
    f.tee(differing)
    f.op("i32.ctz")
    f.set(at)
    for digest in (first, second):
        f.get(digest)
        f.get(at)
        f.i32(DIGEST_BYTES - 1)
        f.op("i32.and")
        f.op("i32.add")
        f.memory("i32.load8_u")
    f.op("i32.sub")
    return f


@functools.cache
def search(listed: DigestList, count: Place, prices: PriceList, pages: int = 1) -> Function:
    """The function (digest) -> i32: its position among the first `count` ones, or NOT_FOUND.

    What is counted is a search in digests on so many pages.
    """
    f = Function("find_digest", prices, ("i32",), ("i32",))
    key, start, compare = 0, listed.digests.address, comparison(prices)
    total, position, step, candidate = (f.local("i32") for _ in range(4))
    f.i32(count.address)
    f.memory("i32.load")
    f.set(total)
    _touch(f, start, total, candidate, pages)
    f.i32(0)
    f.set(position)
    f.i32(CAPACITY // 2)
    f.set(step)
    with f.loop(CAPACITY.bit_length() - 1):
        f.get(position)
        f.get(step)
        f.op("i32.add")
        f.tee(candidate)
        f.get(position)
        f.get(candidate)
        f.get(total)
        f.op("i32.lt_u")
        _push_entry(f, start, candidate, total)
        f.get(key)
        f.call(compare)
        f.i32(0)
        f.op("i32.le_s")
        f.op("i32.and")
        f.op("select")
        f.set(position)
        f.get(step)
        f.i32(1)
        f.op("i32.shr_u")
        f.tee(step)
        f.op("br_if", leb128_unsigned(0))
    f.get(position)
    f.i32(NOT_FOUND)
    f.get(position)
    f.get(total)
    f.op("i32.lt_u")
    _push_entry(f, start, position, total)
    f.get(key)
    f.call(compare)
    f.op("i32.eqz")
    f.op("i32.and")
    f.op("select")
    return f


def search_cost(listed: DigestList, count: Place, prices: PriceList, digests: int) -> int:
    """What a search among so many digests takes more than one on a single page."""
    pages = max(1, -(-digests * DIGEST_BYTES // PAGE_BYTES))
    return search(listed, count, prices, pages).cost - search(listed, count, prices).cost


@functools.cache
def presence(listed: DigestList, count: Place, prices: PriceList, asked: int = 1, pages: int = 1) -> Function:
    """The function (address, digests): for each digest a byte from the address on, 1 where its size is not 0.

    The bytes take the place of the digests. There is at least one; what is counted is so many, in a list on so many
    pages.
    """
    f = Function("are_present", prices, ("i32", "i32"))
    start, total = 0, 1
    index, position, is_listed = (f.local("i32") for _ in range(3))
    f.i32(0)
    f.set(index)
    with f.loop(asked):
        f.get(start)
        f.get(index)
        f.op("i32.add")
        _push_digest(f, start, index)
        f.call(search(listed, count, prices, pages))
        f.tee(position)
        f.i32(NOT_FOUND)
        f.op("i32.ne")
        f.tee(is_listed)
        _push_number(f, listed.sizes, position, is_listed)
        f.i32(0)
        f.op("i32.ne")
        f.op("i32.and")
        f.memory("i32.store8")
        f.add_to(index, 1)
        f.get(index)
        f.get(total)
        f.op("i32.ne")
        f.op("br_if", leb128_unsigned(0))
    return f


def presence_cost(listed: DigestList, count: Place, prices: PriceList, asked: int, digests: int) -> int:
    """What asking for so many digests in a list of so many takes more than for one in a list on one page."""
    pages = max(1, -(-digests * DIGEST_BYTES // PAGE_BYTES))
    return presence(listed, count, prices, asked, pages).cost - presence(listed, count, prices).cost


@functools.cache
def union(old: DigestList, given: Place, target: DigestList, prices: PriceList, total: int = 1) -> Function:
    """The function (digests of `old`, digests of `given`) -> i32: writes their union to `target`; its size.

    Entries of `old` keep their numbers; others get the next slots and the size 0. There is at least one digest; what is
    counted is a union of so many.
    """
    f = Function("unite_digests", prices, ("i32", "i32"), ("i32",))
    olds, givens = 0, 1
    i, j, k, order, slot, from_old = (f.local("i32") for _ in range(6))
    for local in (i, j, k):
        f.i32(0)
        f.set(local)
    f.get(olds)
    f.set(slot)
    with f.loop(total):
        _push_entry(f, old.digests.address, i, olds)
        _push_entry(f, given.address, j, givens)
        f.call(comparison(prices))
        f.set(order)
        _end_of_one(f, order, i, olds, 1)
        _end_of_one(f, order, j, givens, -1)
        f.get(order)
        f.i32(0)
        f.op("i32.le_s")
        f.set(from_old)
        _write_entry(f, old, given, target, (i, j, k, slot, from_old))
        for local, condition in ((slot, "i32.gt_s"), (i, "i32.le_s"), (j, "i32.ge_s")):
            f.get(local)
            f.get(order)
            f.i32(0)
            f.op(condition)
            f.op("i32.add")
            f.set(local)
        f.add_to(k, 1)
        f.get(i)
        f.get(olds)
        f.op("i32.lt_u")
        f.get(j)
        f.get(givens)
        f.op("i32.lt_u")
        f.op("i32.or")
        f.op("br_if", leb128_unsigned(0))
    f.get(k)
    return f


def union_cost(old: DigestList, given: Place, target: DigestList, prices: PriceList, total: int) -> int:
    """What a union of so many digests takes more than one of a single digest."""
    return union(old, given, target, prices, total).cost - union(old, given, target, prices).cost


@functools.cache
def ascending(prices: PriceList, count: int = 1) -> Function:
    """The function (address, end) -> i32: whether each digest is greater than the one before it in memory.

    There is at least one; what is counted is so many.
    """
    f = Function("are_ascending", prices, ("i32", "i32"), ("i32",))
    address, end = 0, 1
    result = f.local("i32")
    f.i32(1)
    f.set(result)
    with f.loop(count):
        f.get(result)
        f.get(address)
        f.i32(DIGEST_BYTES)
        f.op("i32.sub")
        f.get(address)
        f.call(comparison(prices))
        f.i32(0)
        f.op("i32.lt_s")
        f.op("i32.and")
        f.set(result)
        f.get(address)
        f.i32(DIGEST_BYTES)
        f.op("i32.add")
        f.tee(address)
        f.get(end)
        f.op("i32.ne")
        f.op("br_if", leb128_unsigned(0))
    f.get(result)
    return f


def ascending_cost(prices: PriceList, count: int) -> int:
    """What the check of so many digests takes more than that of one."""
    return ascending(prices, count).cost - ascending(prices).cost


def _touch(f: Function, start: int, total: int, address: int, pages: int) -> None:
    """Read a byte of each page that holds digests."""
    f.i32(start)
    f.set(address)
    with f.loop(pages):
        f.get(address)
        f.memory("i32.load8_u")
        f.op("drop")
        f.get(address)
        f.i32(PAGE_BYTES)
        f.op("i32.add")
        f.tee(address)
        f.i32(start)
        f.get(total)
        f.i32(DIGEST_BYTES)
        f.op("i32.mul")
        f.op("i32.add")
        f.op("i32.lt_u")
        f.op("br_if", leb128_unsigned(0))


def _push_entry(f: Function, start: int, index: int, count: int) -> None:
    """Push the address of a digest; of the first one where the index is past the end."""
    f.get(index)
    f.i32(0)
    f.get(index)
    f.get(count)
    f.op("i32.lt_u")
    f.op("select")
    f.i32(DIGEST_BYTES)
    f.op("i32.mul")
    f.i32(start)
    f.op("i32.add")


def _end_of_one(f: Function, order: int, index: int, count: int, other_first: int) -> None:
    """Where one list has ended the other comes first."""
    f.get(order)
    f.i32(other_first)
    f.get(index)
    f.get(count)
    f.op("i32.lt_u")
    f.op("select")
    f.set(order)


def _write_entry(
    f: Function, old: DigestList, given: Place, target: DigestList, locals: tuple[int, int, int, int, int]
) -> None:
    i, j, k, slot, from_old = locals
    for half in (0, 16):
        _push_scaled(f, k, DIGEST_BYTES, target.digests.address)
        _push_scaled(f, i, DIGEST_BYTES, old.digests.address)
        _push_scaled(f, j, DIGEST_BYTES, given.address)
        f.get(from_old)
        f.op("select")
        f.memory("v128.load", half)
        f.memory("v128.store", half)
    for numbers, written in ((old.slots, target.slots), (old.sizes, target.sizes)):
        _push_scaled(f, k, 4, written.address)
        _push_number(f, numbers, i, from_old)
        if numbers is old.slots:
            f.get(slot)
        else:
            f.i32(0)
        f.get(from_old)
        f.op("select")
        f.memory("i32.store")


def _push_number(f: Function, numbers: Place, index: int, is_there: int) -> None:
    """Push a number of an entry; the first one where there is no such entry."""
    f.get(index)
    f.get(is_there)
    f.op("i32.mul")
    f.i32(4)
    f.op("i32.mul")
    f.memory("i32.load", numbers.address)


def _push_scaled(f: Function, index: int, size: int, start: int) -> None:
    f.get(index)
    f.i32(size)
    f.op("i32.mul")
    f.i32(start)
    f.op("i32.add")


def _push_digest(f: Function, start: int, index: int) -> None:
    """Push the address of a digest behind the address in a local."""
    f.get(start)
    f.get(index)
    f.i32(DIGEST_BYTES)
    f.op("i32.mul")
    f.op("i32.add")
