"""Look-ups by indices that only a run knows, made to touch the same number of pages whatever the indices are.

The network charges for each page that a message touches, so the price of a look-up would depend on its data. Two ways
make it a constant; the cheaper one is taken:

- touch every page of the table;
- count the pages that the look-ups touched, and touch others until it is as many as the look-ups can touch at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Operand

_PAGE_SHIFT = PAGE_BYTES.bit_length() - 1
_TOUCH_PRICE, _MARK_PRICE, _TOP_UP_PRICE = (
    12,
    9,
    45,
)  # about: a page touched, a look-up noted, a page considered


def touch_all(f: Function, parameter: int, runs: Sequence[tuple[int, int]]) -> None:
    """Read a byte of every page of the (offset, length) runs from the address in a parameter."""
    for offset, length in runs:
        _load_at(f, parameter, offset + length - 1)
        pointer = f.local("i32")
        f.get(parameter)
        f.i32(offset)
        f.op("i32.add")
        f.set(pointer)
        with f.stepped(pointer, PAGE_BYTES, -(-length // PAGE_BYTES)):
            _load_at(f, pointer, 0)
        f.release(pointer)


@dataclass(frozen=True)
class TopUp:
    """A table that begins with a page, of which always `touched` of its `pages` are read.

    `flags` is the parameter with the address of `flag_bytes` of scratch memory, one for each page. `row_bytes` is the
    size of what one look-up reads.
    """

    table: int
    flags: int
    pages: int
    touched: int
    row_bytes: int

    @classmethod
    def cheapest(
        cls, table: Operand, lookups: int, parameters: tuple[int, int], prices: PriceList
    ) -> TopUp | None:
        """The way to top up, where the table can have its own pages and it costs less than touching them all."""
        view, array = table.view, table.array
        if array is None or view.shape[0] != 1 or not (view.is_contiguous and array.flags.c_contiguous):
            return None
        if array.nbytes != view.size * view.element_bytes:
            return None
        row_bytes = view.strides[1]
        pages = -(-array.nbytes // PAGE_BYTES)
        found = cls(*parameters, pages, min(pages, lookups * _pages_of_row(row_bytes)), row_bytes)
        marking = lookups * len(found._row_offsets()) * _MARK_PRICE
        topped_up = found.touched * prices.page_access + pages * _TOP_UP_PRICE + marking
        return found if topped_up < pages * (prices.page_access + _TOUCH_PRICE) else None

    @property
    def flag_bytes(self) -> int:
        return self.pages

    def start(self, f: Function) -> None:
        """No page is touched yet."""
        f.get(self.flags)
        f.i32(0)
        f.i32(self.pages)
        f.memory_fill(self.pages)

    def mark(self, f: Function, row: int) -> None:
        """Note the pages of the row at the address in a local."""
        for offset in self._row_offsets():
            f.get(row)
            f.get(self.table)
            f.op("i32.sub")
            if offset:
                f.i32(offset)
                f.op("i32.add")
            f.i32(_PAGE_SHIFT)
            f.op("i32.shr_u")
            f.get(self.flags)
            f.op("i32.add")
            f.i32(1)
            f.memory("i32.store8")

    def finish(self, f: Function) -> None:
        """Touch the first pages that were not touched, until `touched` are."""
        missing = self._missing(f)
        flag, page, take = f.local("i32"), f.local("i32"), f.local("i32")
        _copy(f, self.flags, flag)
        _copy(f, self.table, page)
        with f.stepped(flag, 1, self.pages):
            f.get(page)
            f.get(flag)  # a page that the marks have touched anyway
            f.get(flag)
            f.memory("i32.load8_u")
            f.op("i32.eqz")
            f.get(missing)
            f.i32(0)
            f.op("i32.ne")
            f.op("i32.and")
            f.tee(take)
            f.op("select")
            f.memory("i32.load8_u")
            f.op("drop")
            f.get(missing)
            f.get(take)
            f.op("i32.sub")
            f.set(missing)
            f.add_to(page, PAGE_BYTES)
        f.release(missing, flag, page, take)

    def _missing(self, f: Function) -> int:
        """A local with how many pages are still to be touched."""
        missing, flag = f.local("i32"), f.local("i32")
        f.i32(self.touched)
        f.set(missing)
        _copy(f, self.flags, flag)
        with f.stepped(flag, 1, self.pages):
            f.get(missing)
            f.get(flag)
            f.memory("i32.load8_u")
            f.op("i32.sub")
            f.set(missing)
        f.release(flag)
        return missing

    def _row_offsets(self) -> list[int]:
        """Offsets into a row, one at least in every page that it lies in."""
        inner = range(0, self.row_bytes, PAGE_BYTES)
        return [*inner] if _divides_pages(self.row_bytes) else [*inner, self.row_bytes - 1]


def _pages_of_row(row_bytes: int) -> int:
    """The most pages that a row of a table touches; the table begins with a page."""
    return -(-row_bytes // PAGE_BYTES) if _divides_pages(row_bytes) else (row_bytes - 2) // PAGE_BYTES + 2


def _divides_pages(row_bytes: int) -> bool:
    """Whether the borders between pages are borders between rows, or between pages of a row."""
    return PAGE_BYTES % row_bytes == 0 or row_bytes % PAGE_BYTES == 0


def _copy(f: Function, source: int, target: int) -> None:
    f.get(source)
    f.set(target)


def _load_at(f: Function, pointer: int, offset: int) -> None:
    """Read the byte at a pointer plus an offset and drop it."""
    f.get(pointer)
    if offset < 0:
        f.i32(offset)
        f.op("i32.add")
    f.memory("i32.load8_u", max(offset, 0))
    f.op("drop")
