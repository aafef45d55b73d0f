"""Who may call a method: the check at its start, and the filter for what comes from outside the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tosaic.canister.entry import Entry, Place, Region
from tosaic.policy import Access
from tosaic.prices import PriceList
from tosaic.principals import MOST_BYTES

NOBODY = Access()
_CALLER_BYTES = 32
_NAME_BYTES = 16


class Guard:
    """Emits the check of callers. Every caller pays the same, so the check is part of an exact prediction.

    The caller is compared with all principals, which stand in the code and not in memory: no page more is touched.
    """

    def __init__(self, control: Region) -> None:
        self.caller = control.room(_CALLER_BYTES, 16)
        self._spare = control.room(_CALLER_BYTES)

    def refuse_others(self, entry: Entry, access: Access, text: Place) -> None:
        """Reject a call with this text unless the caller has access."""
        if access.everyone:
            return
        entry.store_caller(self.caller)
        self.push_is_stranger(entry, access)
        entry.refuse_if(text)

    def filter(self, methods: Mapping[str, Access], control: Region, prices: PriceList) -> Entry:
        """`canister_inspect_message`: takes calls from outside only from who has access to the method.

        One node alone runs it, before the network agrees on the call and charges for it; so it only saves the costs of
        calls that the methods themselves refuse.
        """
        entry = Entry.new("inspect_message", prices)
        f = entry.function
        name = control.room(_NAME_BYTES)
        entry.store_caller(self.caller)
        self._read_name(entry, name)
        f.i32(0)
        for access in dict.fromkeys(methods.values()):
            self._push_is_named(entry, name, [method for method in methods if methods[method] == access])
            self.push_is_stranger(entry, access)
            f.op("i32.and")
            f.op("i32.or")
        f.op("i32.eqz")
        with f.if_():
            entry.system("accept_message")
        return entry

    def push_is_stranger(self, entry: Entry, access: Access) -> None:
        """Push whether the caller, who is in its place, has no access."""
        f = entry.function
        if access.controllers:
            self._push_is_controller(entry)
        else:
            f.i32(0)
        for principal in access.principals:
            self._push_is_caller(entry, principal)
            f.op("i32.or")
        f.op("i32.eqz")

    def _push_is_controller(self, entry: Entry) -> None:
        """`is_controller` is paid by the caller's bytes; clearing as many as the caller lacks evens that out."""
        entry.clear_rest(self._spare, self.caller)
        entry.function.i32(self.caller.address)
        entry.push_caller_size(self.caller)
        entry.system("is_controller", size=MOST_BYTES, reads=[self.caller])

    def _push_is_caller(self, entry: Entry, principal: bytes) -> None:
        f = entry.function
        row = principal.ljust(_CALLER_BYTES - 1, b"\0") + bytes([len(principal)])
        for offset in (0, 16):
            f.i32(self.caller.address)
            f.memory("v128.load", offset)
            f.v128(row[offset : offset + 16])
            f.op("v128.xor")
        f.op("v128.or")
        f.op("v128.any_true")
        f.op("i32.eqz")

    def _read_name(self, entry: Entry, name: Place) -> None:
        """Put the method's name in its place, as far as there is room, and zeros after it."""
        f = entry.function
        size = f.local("i32")
        f.i32(name.address)
        f.v128(bytes(name.size))
        f.memory("v128.store")
        entry.system("msg_method_name_size")
        f.set(size)
        f.i32(name.address)
        f.i32(0)
        f.get(size)
        f.i32(name.size)
        f.get(size)
        f.i32(name.size)
        f.op("i32.lt_u")
        f.op("select")
        entry.system("msg_method_name_copy", size=name.size, writes=[name])
        f.release(size)

    def _push_is_named(self, entry: Entry, name: Place, methods: Sequence[str]) -> None:
        f = entry.function
        f.i32(0)
        for method in methods:
            entry.differs(name, method.encode().ljust(name.size, b"\0"))
            f.op("i32.eqz")
            f.op("i32.or")
