"""How one call runs all segments, each in a message of its own.

The call `infer` runs segment 0 and calls the canister's own method `step`. The callee runs segment 1 and answers; the
callback runs segment 2 and calls `step` again, and so on. Callee and callback take turns, so a call serves two
segments: n segments take n messages if n is odd, else n + 1, since only the call's own callbacks can answer it. No
other pattern takes fewer.

The state is one number: 0 when idle, else the next segment. A caller who comes meanwhile is rejected. If a segment
traps in the callee the reject callback, if it traps in a callback the cleanup callback sets the state to idle, and
the caller learns the reason. An upgrade would lose the tensors between two messages: it is refused while an inference
runs (`canister_pre_upgrade`), and a callback that finds another state than its own, as after a reinstallation, traps.

Calls that end in different replies share all pieces but the last. A second number tells where in the table the
callbacks of the running call begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tosaic.canister.cost_log import CostLog
from tosaic.canister.entry import Entry, Place, Region
from tosaic.canister.planned_message import STEP
from tosaic.prices import PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.program import SegmentCode

PRINCIPAL_BYTES = 10  # of every canister
PROGRESS = "progress"
_REASON_BYTES = 1024
_ON_REJECT, _ON_CLEANUP, _FIRST_PIECE = 0, 1, 2  # places in the table, behind the callbacks that stand before
_PROGRESS_HEADER = candid.MAGIC + bytes([0, 2, 0x79, 0x79])  # (nat32, nat32)


Reply = Callable[[Entry], None]
"""Emits the answer to a call."""


def message_count(segments: int) -> int:
    """Messages of a call that runs so many segments."""
    return segments + (segments > 1 and segments % 2 == 0)


class Chain:
    """The messages of a call after the first one; a program of one segment has none.

    `endings` is how many kinds of replies calls end in, `callbacks_before` how many callbacks stand before those of
    the chain in the table.
    """

    def __init__(
        self, segments: Sequence[SegmentCode], endings: int, callbacks_before: int,
        prices: PriceList, control: Region, cold: Region,
    ) -> None:  # fmt: skip
        self.segments = segments
        self.messages = message_count(len(segments))
        self.endings = endings
        self.callbacks_before = callbacks_before
        self.prices = prices
        self.cold = cold
        self.next = control.room(4)
        self.callbacks = control.room(4)
        self.self_id = control.room(PRINCIPAL_BYTES)
        self.caller_id = control.room(PRINCIPAL_BYTES)
        self.step_name = control.constant(STEP.encode())
        self.busy = self._text(
            "another inference is running on this canister; call again later (see progress)"
        )
        self.full = self._text("the canister cannot call itself now: its queue is full or it lacks cycles")
        self.step = self._step()
        self.progress = self._progress()
        self.pieces: list[list[Entry]] = []
        """Of each kind of call, from message 1 on."""

    @property
    def is_cut(self) -> bool:
        """Whether a call takes more than one message."""
        return self.messages > 1

    @property
    def exports(self) -> dict[str, Function]:
        found = {f"canister_query {PROGRESS}": self.progress.function}
        if self.is_cut:
            found[f"canister_update {STEP}"] = self.step.function
            found["canister_pre_upgrade"] = self._pre_upgrade().function
        return found

    @property
    def table(self) -> list[Function]:
        """The callbacks."""
        if not self.is_cut:
            return []
        pieces = [piece.function for pieces in self.pieces for piece in pieces]
        return [self._on_reject(), self._on_cleanup(), *pieces]

    # In the first message

    def refuse_if_busy(self, entry: Entry) -> None:
        """Refuse a call while an inference runs."""
        if self.is_cut:
            entry.load(self.next)
            entry.refuse_if(self.busy)

    def begin(self, entry: Entry, ending: int) -> None:
        """Note in which reply the call is to end, and call `step` for the first time."""
        if self.endings > 1:
            entry.store(self.callbacks, ending * (self.messages - 1))
        place = self.self_id
        entry.system("canister_self_copy", place.address, 0, place.size, size=place.size, writes=[place])
        self._call_step(entry, 1)

    # In the others

    def emit(self, replies: Sequence[Reply], log: CostLog) -> None:
        """Emit the pieces; each kind of call has its own last one, which replies."""
        if not self.is_cut:
            return
        lost = self._text(
            "the tensors of this inference are lost: the canister was installed anew while it ran"
        )
        shared = [self._piece(k, lost, log) for k in range(1, self.messages - 1)]
        last = self.messages - 1
        self.pieces = [[*shared, self._piece(last, lost, log, reply)] for reply in replies]

    def _piece(self, k: int, lost: Place, log: CostLog, reply: Reply | None = None) -> Entry:
        """Message k: a callee if k is odd, else a reply callback, the last of which answers the caller."""
        entry = Entry.new(f"piece_{k}", self.prices, ("i32",))
        if k % 2 == 0:
            entry.load(self.next)
            entry.function.i32(k - 1)
            entry.function.op("i32.ne")
            entry.trap_if(lost)
        if k < len(self.segments):
            entry.run(self.segments[k])
        if reply:
            entry.store(self.next, 0)
            reply(entry)
        elif k % 2:
            entry.writes |= self.step.writes  # of the same message
            entry.system("msg_reply")
        else:
            self._call_step(entry, k + 1)
        log.add(entry)
        if reply:
            log.finish(entry)
        return entry

    def _call_step(self, entry: Entry, k: int) -> None:
        """Call `step`, which runs piece k; piece k + 1 takes its reply, of those that the call ends in."""
        entry.store(self.next, k)
        f, callee, name = entry.function, self.self_id, self.step_name
        for argument in (callee.address, callee.size, name.address, name.size, self._index(_FIRST_PIECE + k)):
            f.i32(argument)
        if self.endings > 1:
            entry.load(self.callbacks)
            f.op("i32.add")
        entry.system(
            "call_new", 0, self._index(_ON_REJECT), 0, size=callee.size + name.size, reads=[callee, name]
        )
        entry.system("call_on_cleanup", self._index(_ON_CLEANUP), 0)
        entry.system("call_perform")
        entry.trap_if(self.full)

    def _step(self) -> Entry:
        """The private method: checks its caller and goes on to the piece whose turn it is."""
        idle, stranger = (
            self._text("no inference is running"),
            self._text(f"only the canister itself may call {STEP}"),
        )
        entry = Entry.new(STEP, self.prices)
        f = entry.function
        entry.load(self.next)
        f.op("i32.eqz")
        entry.refuse_if(idle)
        entry.system("msg_caller_size")
        f.i32(PRINCIPAL_BYTES)
        f.op("i32.ne")
        entry.refuse_if(stranger)
        place = self.caller_id
        entry.system("msg_caller_copy", place.address, 0, place.size, size=place.size, writes=[place])
        entry.differ(self.caller_id, self.self_id)
        entry.refuse_if(stranger)
        f.i32(0)
        entry.load(self.next)
        f.i32(self._index(_FIRST_PIECE) - 1)
        f.op("i32.add")
        f.call_indirect(("i32",))
        return entry

    # Around them

    def _on_reject(self) -> Function:
        """Frees the canister and passes on why `step` failed."""
        entry = Entry.new("on_reject", self.prices, ("i32",))
        entry.store(self.next, 0)
        f = entry.function
        buffer, size = self.cold.room(_REASON_BYTES), f.local("i32")
        f.i32(buffer.address)
        f.i32(0)
        entry.push_at_most("msg_reject_msg_size", buffer.size, size)
        entry.system("msg_reject_msg_copy", size=buffer.size, writes=[buffer])
        f.i32(buffer.address)
        f.get(size)
        entry.system("msg_reject", size=buffer.size, reads=[buffer])
        return f

    def _on_cleanup(self) -> Function:
        entry = Entry.new("on_cleanup", self.prices, ("i32",))
        entry.store(self.next, 0)
        return entry.function

    def _pre_upgrade(self) -> Entry:
        """Refuses an upgrade while an inference runs."""
        entry = Entry.new("canister_pre_upgrade", self.prices)
        entry.load(self.next)
        entry.trap_if(
            self._text(
                "an inference is running: stop the canister first, which waits for it, or try again later"
            )
        )
        return entry

    def _progress(self) -> Entry:
        """Replies (next segment, number of segments); the first is 0 when idle."""
        entry = Entry.new(PROGRESS, self.prices)
        count = len(self.segments).to_bytes(4, "little")
        for place in (self.cold.constant(_PROGRESS_HEADER), self.next, self.cold.constant(count)):
            entry.append(place)
        entry.system("msg_reply")
        return entry

    def _index(self, callback: int) -> int:
        """Where a callback of the chain stands in the table."""
        return self.callbacks_before + callback

    def _text(self, text: str) -> Place:
        return self.cold.constant(text.encode())
