"""Look-ups by indices that only a run knows, made to touch the same number of pages whatever the indices are.

The network charges for each page that a message touches, so the price of a look-up would depend on its data. Two ways
make it a constant; the cheaper one is taken:

- touch every page of the table;
- note the pages that the look-ups touch, and touch others until it is as many as the look-ups can touch at most.

Notes outlive a look-up, so that the next one of the same table in the same message touches as many on top, or all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Operand

_PAGE_SHIFT = PAGE_BYTES.bit_length() - 1
_NOTE_SHIFT = 2
_TOUCH_PRICE, _MARK_PRICE, _TOP_UP_PRICE = (
    12,
    20,
    38,
)  # about: a page touched, a look-up noted, a page considered


def note_bytes(pages: int) -> int:
    """The bytes of the notes on a table's pages."""
    return pages << _NOTE_SHIFT


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
    """A table that begins with a page, of whose `pages` always `touched` more are read in a message, or all.

    `table`, `notes` and `message` are the parameters of which `tosaic.wasm.kernel.Sample` tells. `row_bytes` is the
    size of what one look-up reads.
    """

    table: int
    notes: int
    message: int
    pages: int
    touched: int
    row_bytes: int

    @classmethod
    def cheapest(
        cls, table: Operand, lookups: int, parameters: tuple[int, int, int], prices: PriceList
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

    @contextmanager
    def noting(self, f: Function) -> Iterator[Callable[[int], None]]:
        """Look-ups happen in here: each calls what this yields with a local that holds its row's address."""
        missing = f.local("i32")
        f.i32(self.touched)
        f.set(missing)
        yield lambda row: self._note(f, row, missing)
        self._touch_missing(f, missing)
        f.release(missing)

    def _note(self, f: Function, row: int, missing: int) -> None:
        """Note the pages of a row; those that were not touched before are no longer missing."""
        note = f.local("i32")
        for offset in self._row_offsets():
            f.get(missing)
            f.get(row)
            f.get(self.table)
            f.op("i32.sub")
            if offset:
                f.i32(offset)
                f.op("i32.add")
            f.i32(_PAGE_SHIFT)
            f.op("i32.shr_u")
            f.i32(_NOTE_SHIFT)
            f.op("i32.shl")
            f.get(self.notes)
            f.op("i32.add")
            f.tee(note)
            self._push_untouched(f)
            f.op("i32.sub")
            f.set(missing)
            f.get(note)
            f.get(self.message)
            f.memory("i32.store")
        f.release(note)

    def _touch_missing(self, f: Function, missing: int) -> None:
        """Touch the first pages that were not touched, until none is missing."""
        note, page, take = f.local("i32"), f.local("i32"), f.local("i32")
        _copy(f, self.notes, note)
        _copy(f, self.table, page)
        with f.stepped(note, 1 << _NOTE_SHIFT, self.pages):
            f.get(page)
            f.get(note)  # a page that is touched anyway
            f.get(note)
            self._push_untouched(f)
            f.get(missing)
            f.i32(0)
            f.op("i32.ne")
            f.op("i32.and")
            f.tee(take)
            f.op("select")
            f.memory("i32.load8_u")
            f.op("drop")
            f.get(note)
            f.get(self.message)
            f.get(note)
            f.memory("i32.load")
            f.get(take)
            f.op("select")
            f.memory("i32.store")
            f.get(missing)
            f.get(take)
            f.op("i32.sub")
            f.set(missing)
            f.add_to(page, PAGE_BYTES)
        f.release(note, page, take)

    def _push_untouched(self, f: Function) -> None:
        """Whether the page whose note has the address on the stack was not touched in this message."""
        f.memory("i32.load")
        f.get(self.message)
        f.op("i32.ne")

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
