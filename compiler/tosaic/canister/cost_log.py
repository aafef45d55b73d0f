"""What the messages of an inference took, as the network counts it; `last_cost` tells it to the callers.

The last thing that a message does is to read `ic0.performance_counter(0)` and to log it. The network charges for a
straight piece of code before it runs it, so what follows the reading is in it already: a reading is all of the message,
page touches included, and must be what was predicted.

There are two logs. The running inference writes one; when its last message is done they change places, so `last_cost`
always tells of the last inference that was finished, whatever became of others. A query keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tosaic.canister.blob import append_length
from tosaic.canister.entry import Entry, Place, Region
from tosaic.prices import PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function

LAST_COST = "last_cost"
MOST_READINGS = 512
"""So many messages of an inference are told one by one, from the first one on; the sum is of all of them."""

_SUM, _USED, _READINGS = 0, 8, 16  # places in a log; `used` is how many bytes of readings there are
_READING_BYTES = 8
_REPLY_HEADER = candid.MAGIC + bytes([1, candid.VEC, 0x78, 2, 0x78, 0])  # (nat64, vec nat64)


@dataclass(frozen=True)
class CostLog:
    """Two logs of `most` readings each; `running` holds the address of the one that is written."""

    first: Place
    second: Place
    running: Place
    most: int

    @classmethod
    def place(cls, control: Region, messages: int) -> CostLog:
        """Room for the readings of so many messages, and for one that stands for those that find no room."""
        most = min(messages, MOST_READINGS)
        size = _READINGS + (most + 1) * _READING_BYTES
        first, second = control.room(size), control.room(size)
        return cls(first, second, control.constant(first.address.to_bytes(4, "little")), most)

    def begin(self, entry: Entry) -> None:
        """Empty the running log: this message is the first one of an inference."""
        f = entry.function
        entry.load(self.running)
        f.i64(0)
        f.memory("i64.store", _SUM)
        entry.load(self.running)
        f.i32(0)
        f.memory("i32.store", _USED)
        entry.writes |= self.running.pages

    def begin_at_part(self, entry: Entry, part: int) -> None:
        """Empty the running log if the local `part` is 0; all parts pay the same."""
        f = entry.function
        for type, zero, offset in (("i64", f.i64, _SUM), ("i32", f.i32, _USED)):
            entry.load(self.running)
            entry.load(self.running)
            f.memory(f"{type}.load", offset)
            zero(0)
            f.get(part)
            f.op("select")
            f.memory(f"{type}.store", offset)

    def add(self, entry: Entry) -> None:
        """Log what the message takes: the last that it does, but for `finish`.

        The page of the log has been written before, or the reading would lack what that costs.
        """
        if not entry.writes & self.running.pages:
            raise ValueError(f"{entry.function.name}: the page of the log is not written yet")
        f = entry.function
        log, used, reading = f.local("i32"), f.local("i32"), f.local("i64")
        entry.load(self.running)
        f.set(log)
        entry.system("performance_counter", 0)
        f.set(reading)
        f.get(log)
        f.get(log)
        f.memory("i64.load", _SUM)
        f.get(reading)
        f.op("i64.add")
        f.memory("i64.store", _SUM)
        f.get(log)
        f.get(log)
        f.memory("i32.load", _USED)
        f.tee(used)
        f.op("i32.add")
        f.get(reading)
        f.memory("i64.store", _READINGS)
        self._use(f, log, used)
        f.release(log, used, reading)

    def finish(self, entry: Entry) -> None:
        """The inference is done: the logs change places."""
        entry.function.i32(self.running.address)
        self._push_finished(entry)
        entry.function.memory("i32.store")

    def last_cost(self, prices: PriceList, admit: Callable[[Entry], None], cold: Region) -> Entry:
        """The query that replies (sum of the readings, the readings) of the inference that finished last."""
        entry = Entry.new(LAST_COST, prices)
        admit(entry)
        f, length = entry.function, cold.room(4)
        log, used, count = (f.local("i32") for _ in range(3))
        self._push_finished(entry)
        f.tee(log)
        f.memory("i32.load", _USED)
        f.set(used)
        entry.append(cold.constant(_REPLY_HEADER))
        self._append(entry, log, _SUM, lambda: f.i32(_READING_BYTES))
        f.get(used)
        f.i32(_READING_BYTES)
        f.op("i32.div_u")
        f.set(count)
        append_length(entry, count, length)
        self._append(entry, log, _READINGS, lambda: f.get(used))
        entry.system("msg_reply")
        return entry

    def _use(self, f: Function, log: int, used: int) -> None:
        """The next reading goes to the next place, as long as there is one."""
        room = self.most * _READING_BYTES
        f.get(log)
        f.get(used)
        f.i32(_READING_BYTES)
        f.op("i32.add")
        f.tee(used)
        f.i32(room)
        f.get(used)
        f.i32(room)
        f.op("i32.lt_u")
        f.op("select")
        f.memory("i32.store", _USED)

    def _push_finished(self, entry: Entry) -> None:
        """Push the address of the log that is not written."""
        entry.load(self.running)
        entry.function.i32(self.first.address ^ self.second.address)
        entry.function.op("i32.xor")

    @staticmethod
    def _append(entry: Entry, log: int, offset: int, push_size: Callable[[], None]) -> None:
        entry.function.get(log)
        entry.function.i32(offset)
        entry.function.op("i32.add")
        push_size()
        entry.system("msg_reply_data_append")
