"""Who may read a store's chunks: a list of principals that its controllers change while it runs."""

from __future__ import annotations

import functools

from tosaic.canister.blob import NOTHING
from tosaic.canister.entry import Entry, Place, push_differ
from tosaic.canister.guard import Guard
from tosaic.canister.store.layout import READERS, ROW_BYTES, Layout
from tosaic.policy import CONTROLLERS, Access
from tosaic.prices import PriceList
from tosaic.principals import MOST_BYTES
from tosaic.tensors import candid
from tosaic.wasm.function import Function

ALLOW, DISALLOW, MAY_READ = "allow", "disallow", "may_read"
PRINCIPAL = 0x68
_HEADER = candid.MAGIC + bytes([0, 1, PRINCIPAL, 1])
_START = len(_HEADER) + 1  # where the bytes of the principal begin, behind their number


def principal_argument(principal: bytes) -> bytes:
    """The message that holds one principal."""
    return _HEADER + bytes([len(principal)]) + principal


@functools.cache
def row_search(layout: Layout, prices: PriceList) -> Function:
    """The function (address of a row) -> i32: the address of the same row of the list, or 0.

    It looks at all rows, so that its price is the same for all callers and for any number of readers.
    """
    f = Function("find_reader", prices, ("i32",), ("i32",))
    given, found, row = 0, f.local("i32"), f.local("i32")
    f.i32(0)
    f.set(found)
    f.i32(layout.rows.address)
    f.set(row)
    with f.stepped(row, ROW_BYTES, READERS):
        f.get(found)
        f.get(row)
        push_differ(f, lambda: f.get(given), lambda: f.get(row))
        f.op("select")
        f.set(found)
    f.get(found)
    return f


class Readers:
    """`allow`, `disallow` and `may_read`, and the check of those who read."""

    def __init__(self, layout: Layout, guard: Guard, access: Access, prices: PriceList) -> None:
        self.layout = layout
        self.guard = guard
        self.access = access
        self.prices = prices
        self.row = layout.control.room(ROW_BYTES, 16)
        cold = layout.cold
        self.nothing = cold.constant(NOTHING)
        self.stranger = cold.constant(b"only a controller of the store may say who reads it")
        self.denied = cold.constant(
            b"the store gives chunks only to those that a controller named with allow"
        )
        self.malformed = cold.constant(b"the argument is not one principal")
        self.full = cold.constant(f"the store has {READERS} readers and takes no more".encode())
        self.allow = self._change(ALLOW, self._add)
        self.disallow = self._change(DISALLOW, self._remove)
        self.may_read = self._may_read()

    def refuse_others(self, entry: Entry) -> None:
        """Reject a call unless the caller has access or is on the list."""
        if self.access.everyone:
            return
        f = entry.function
        entry.store_caller(self.guard.caller)
        self.guard.push_is_stranger(entry, self.access)
        self._push_row(entry, self.guard.caller)
        f.op("i32.eqz")
        f.op("i32.and")
        entry.refuse_if(self.denied)

    def _push_row(self, entry: Entry, row: Place) -> None:
        """Push the address of this row in the list, or 0."""
        entry.function.i32(row.address)
        entry.function.call(row_search(self.layout, self.prices))
        entry.reads |= row.pages | self.layout.rows.pages

    def _change(self, name: str, change) -> Entry:
        entry = Entry.new(name, self.prices)
        self.guard.refuse_others(entry, CONTROLLERS, self.stranger)
        self._read_principal(entry)
        change(entry)
        entry.write_stable(self.layout.kept, 0)
        entry.append(self.nothing)
        entry.system("msg_reply")
        return entry

    def _add(self, entry: Entry) -> None:
        """Who is on the list already is not put there again."""
        f, layout = entry.function, self.layout
        self._push_row(entry, self.row)
        f.op("i32.eqz")
        with f.if_():
            entry.load(layout.readers)
            f.i32(READERS)
            f.op("i32.ge_u")
            entry.refuse_if(self.full)
            target = f.local("i32")
            self._push_end(entry)
            f.set(target)
            self._copy_row(entry, self.row, target)
            self._add_to_count(entry, 1)
            f.release(target)

    def _remove(self, entry: Entry) -> None:
        """The last row takes the place of one that goes."""
        f = entry.function
        target, last = f.local("i32"), f.local("i32")
        self._push_row(entry, self.row)
        f.tee(target)
        with f.if_():
            self._add_to_count(entry, -1)
            self._push_end(entry)
            f.set(last)
            for half in (0, 16):
                f.get(target)
                f.get(last)
                f.memory("v128.load", half)
                f.memory("v128.store", half)
                f.get(last)
                f.v128(bytes(16))
                f.memory("v128.store", half)
        f.release(target, last)

    def _may_read(self) -> Entry:
        """Whether a principal is on the list."""
        entry = Entry.new(MAY_READ, self.prices)
        f = entry.function
        self._read_principal(entry)
        f.i32(self.layout.scratch.address)
        self._push_row(entry, self.row)
        f.i32(0)
        f.op("i32.ne")
        f.memory("i32.store8")
        entry.append(self.layout.cold.constant(candid.MAGIC + bytes([0, 1, 0x7E])))
        entry.append(Place(self.layout.scratch.address, 1))
        entry.system("msg_reply")
        return entry

    def _read_principal(self, entry: Entry) -> None:
        """Put the argument into `row`, as the guard puts the caller."""
        f, scratch, row = entry.function, self.layout.scratch, self.row
        size = f.local("i32")
        entry.system("msg_arg_data_size")
        f.tee(size)
        f.i32(_START + 1)
        f.op("i32.sub")
        f.i32(MOST_BYTES - 1)
        f.op("i32.gt_u")
        entry.refuse_if(self.malformed)
        f.i32(scratch.address)
        f.i32(0)
        f.get(size)
        entry.system("msg_arg_data_copy", size=_START + MOST_BYTES, writes=[scratch])
        entry.differs(Place(scratch.address, len(_HEADER)), _HEADER)
        f.i32(scratch.address)
        f.memory("i32.load8_u", _START - 1)
        f.get(size)
        f.i32(_START)
        f.op("i32.sub")
        f.op("i32.ne")
        f.op("i32.or")
        entry.refuse_if(self.malformed)
        for half in (0, 16):
            f.i32(row.address)
            f.v128(bytes(16))
            f.memory("v128.store", half)
        f.i32(row.address)
        f.i32(_START)
        f.get(size)
        f.i32(_START)
        f.op("i32.sub")
        f.tee(size)
        entry.system("msg_arg_data_copy", size=MOST_BYTES, writes=[row])
        f.i32(row.address)
        f.get(size)
        f.memory("i32.store8", ROW_BYTES - 1)
        f.release(size)

    def _push_end(self, entry: Entry) -> None:
        """Push the address behind the last row."""
        entry.load(self.layout.readers)
        entry.function.i32(ROW_BYTES)
        entry.function.op("i32.mul")
        entry.function.i32(self.layout.rows.address)
        entry.function.op("i32.add")

    def _copy_row(self, entry: Entry, source: Place, target: int) -> None:
        f = entry.function
        for half in (0, 16):
            f.get(target)
            f.i32(source.address)
            f.memory("v128.load", half)
            f.memory("v128.store", half)

    def _add_to_count(self, entry: Entry, change: int) -> None:
        f, place = entry.function, self.layout.readers
        f.i32(place.address)
        entry.load(place)
        f.i32(change)
        f.op("i32.add")
        f.memory("i32.store")
        entry.writes |= place.pages
