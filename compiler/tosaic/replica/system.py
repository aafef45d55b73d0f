"""The functions of `ic0` that a canister may import, each with its price and the kinds of messages that may call it.

Interface: Internet Computer interface specification, "Overview of imports". What is not in the table is refused at
install, as its behaviour or its price would be a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tosaic.prices import PAGE_BYTES
from tosaic.replica.instance import Instance, LimitExceeded, Trapped
from tosaic.replica.message import CANISTER_REJECT, CallContext, OutgoingCall, Reject

if TYPE_CHECKING:
    from tosaic.replica.canister import Canister

INSTALL, UPDATE, QUERY, REPLICATED_QUERY = "install", "update", "query", "replicated query"
REPLY_CALLBACK, REJECT_CALLBACK, CLEANUP = "reply callback", "reject callback", "cleanup callback"
INSPECT = "inspect message"

_ANY = frozenset(
    (INSTALL, UPDATE, QUERY, REPLICATED_QUERY, REPLY_CALLBACK, REJECT_CALLBACK, CLEANUP, INSPECT)
)
_WITH_ARGUMENT = frozenset((INSTALL, UPDATE, QUERY, REPLICATED_QUERY, REPLY_CALLBACK, INSPECT))
_ANSWERING = frozenset((UPDATE, QUERY, REPLICATED_QUERY, REPLY_CALLBACK, REJECT_CALLBACK))
_CALLING = frozenset((UPDATE, REPLY_CALLBACK, REJECT_CALLBACK))
_IN_CALLBACK = frozenset((REPLY_CALLBACK, REJECT_CALLBACK))
_REJECTED = frozenset((REJECT_CALLBACK,))
_INSPECTING = frozenset((INSPECT,))
QUEUE_FULL = 2
"""What call_perform gives then: the reject code of what may work later."""
DROPPED = frozenset((QUERY, REPLICATED_QUERY, INSPECT))
"""Kinds of messages whose changes are dropped, so that written pages are not paid for."""

# name: (kinds of messages that may call it, the parameters whose sum is the number of bytes that are paid for)
_CALLS: dict[str, tuple[frozenset[str], tuple[int, ...]]] = {
    "msg_arg_data_size": (_WITH_ARGUMENT, ()),
    "msg_arg_data_copy": (_WITH_ARGUMENT, (2,)),
    "msg_caller_size": (_ANY, ()),
    "msg_caller_copy": (_ANY, (2,)),
    "msg_method_name_size": (_INSPECTING, ()),
    "msg_method_name_copy": (_INSPECTING, (2,)),
    "accept_message": (_INSPECTING, ()),
    "msg_reject_code": (_IN_CALLBACK, ()),
    "msg_reject_msg_size": (_REJECTED, ()),
    "msg_reject_msg_copy": (_REJECTED, (2,)),
    "msg_reply_data_append": (_ANSWERING, (1,)),
    "msg_reply": (_ANSWERING, ()),
    "msg_reject": (_ANSWERING, (1,)),
    "canister_self_size": (_ANY, ()),
    "canister_self_copy": (_ANY, (2,)),
    "call_new": (_CALLING, (1, 3)),
    "call_on_cleanup": (_CALLING, ()),
    "call_data_append": (_CALLING, (1,)),
    "call_perform": (_CALLING, ()),
    "stable64_size": (_ANY, ()),
    "stable64_grow": (_ANY, ()),
    "stable64_read": (_ANY, (2,)),
    "stable64_write": (_ANY, (2,)),
    "is_controller": (_ANY, (1,)),
    "in_replicated_execution": (_ANY, ()),
    "performance_counter": (_ANY, ()),
    "time": (_ANY, ()),
    "trap": (_ANY, ()),
}


@dataclass
class Execution:
    """The message that is being executed, and what it has asked for so far; that takes effect when it succeeds."""

    kind: str
    limit: int
    caller: bytes
    context: CallContext
    argument: bytes = b""
    rejection: Reject | None = None
    reply: bytearray = field(default_factory=bytearray)
    result: bytes | Reject | None = None
    accepted: bool = False
    call: OutgoingCall | None = None
    calls: list[OutgoingCall] = field(default_factory=list)
    stable_read: set[int] = field(default_factory=set)
    stable_written: set[int] = field(default_factory=set)


class SystemCalls:
    """The imports of one canister. `execution` is set for the time of each message."""

    def __init__(self, canister: Canister) -> None:
        self.canister = canister
        self.prices = canister.compiled.prices
        self.execution: Execution | None = None

    def functions(self) -> dict[str, Callable]:
        return {name: self._priced(name) for name in _CALLS}

    # The message

    def msg_arg_data_size(self) -> int:
        return len(self._running.argument)

    def msg_arg_data_copy(self, target: int, offset: int, size: int) -> None:
        self._copy_out(self._running.argument, target, offset, size)

    def msg_caller_size(self) -> int:
        return len(self._running.caller)

    def msg_caller_copy(self, target: int, offset: int, size: int) -> None:
        self._copy_out(self._running.caller, target, offset, size)

    def msg_method_name_size(self) -> int:
        return len(self._running.context.method.encode())

    def msg_method_name_copy(self, target: int, offset: int, size: int) -> None:
        self._copy_out(self._running.context.method.encode(), target, offset, size)

    def accept_message(self) -> None:
        if self._running.accepted:
            raise Trapped("accept_message can be called only once")
        self._running.accepted = True

    def msg_reject_code(self) -> int:
        return self._running.rejection.code if self._running.rejection else 0

    def msg_reject_msg_size(self) -> int:
        return len(self._rejection_text())

    def msg_reject_msg_copy(self, target: int, offset: int, size: int) -> None:
        self._copy_out(self._rejection_text(), target, offset, size)

    def msg_reply_data_append(self, source: int, size: int) -> None:
        self._must_be_unanswered()
        self._running.reply += self._copy_in(source, size)
        name = "query_reply_bytes" if self._running.kind == QUERY else "reply_bytes"
        self._within(len(self._running.reply), name)

    def msg_reply(self) -> None:
        self._must_be_unanswered()
        self._running.result = bytes(self._running.reply)

    def msg_reject(self, source: int, size: int) -> None:
        self._must_be_unanswered()
        text = self._copy_in(source, size).decode(errors="replace")
        self._running.result = Reject(CANISTER_REJECT, text)

    # The canister

    def canister_self_size(self) -> int:
        return len(self.canister.id)

    def canister_self_copy(self, target: int, offset: int, size: int) -> None:
        self._copy_out(self.canister.id, target, offset, size)

    def is_controller(self, source: int, size: int) -> int:
        return int(self._copy_in(source, size) in self.canister.controllers)

    def in_replicated_execution(self) -> int:
        return int(self._running.kind not in (QUERY, INSPECT))

    def time(self) -> int:
        return self.canister.replica.time_nanoseconds

    def performance_counter(self, kind: int) -> int:
        if kind not in (0, 1):
            raise Trapped(f"performance_counter has no counter {kind}")
        return self.spent() + (self._running.context.instructions if kind == 1 else 0)

    def trap(self, source: int, size: int) -> None:
        raise Trapped(f"explicitly: {self._copy_in(source, size).decode(errors='replace')}")

    # Calls to canisters

    def call_new(
        self, callee: int, callee_size: int, name: int, name_size: int,
        reply_function: int, reply_value: int, reject_function: int, reject_value: int,
    ) -> None:  # fmt: skip
        self._running.call = OutgoingCall(
            self._copy_in(callee, callee_size),
            self._copy_in(name, name_size).decode(errors="replace"),
            (reply_function, reply_value),
            (reject_function, reject_value),
        )

    def call_on_cleanup(self, function: int, value: int) -> None:
        call = self._call()
        if call.on_cleanup is not None:
            raise Trapped("call_on_cleanup can be called only once between call_new and call_perform")
        call.on_cleanup = (function, value)

    def call_data_append(self, source: int, size: int) -> None:
        call = self._call()
        call.argument += self._copy_in(source, size)
        self._within(len(call.argument), "same_subnet_request_bytes")

    def call_perform(self) -> int:
        """Not 0 when as many calls as the queue between two canisters holds are under way to the callee."""
        call = self._call()
        self._running.call = None
        asked = sum(other.callee == call.callee for other in self._running.calls)
        if asked + self.canister.outstanding[call.callee] >= self.prices.limits["queued_calls"]:
            return QUEUE_FULL
        self._running.calls.append(call)
        return 0

    # Stable memory

    def stable64_size(self) -> int:
        return len(self.canister.stable) // PAGE_BYTES

    def stable64_grow(self, pages: int) -> int:
        before = self.stable64_size()
        self.canister.stable.extend(bytes(pages * PAGE_BYTES))
        return before

    def stable64_read(self, target: int, offset: int, size: int) -> None:
        self._stable_range(offset, size, self._running.stable_read)
        self._store(target, bytes(self.canister.stable[offset : offset + size]))

    def stable64_write(self, offset: int, source: int, size: int) -> None:
        self._stable_range(offset, size, self._running.stable_written)
        self.canister.stable[offset : offset + size] = self._copy_in(source, size)

    # What all of them need

    def spent(self) -> int:
        """Instructions of the running message up to now, page touches included."""
        return self._running.limit - self._instance.left + self.page_touch()

    def page_touch(self) -> int:
        """Instructions for the pages that the running message has touched, in the heap and in stable memory."""
        running = self._running
        read, written = self._instance.pages()
        accessed = len(read | written) + len(running.stable_read | running.stable_written)
        changed = 0 if running.kind in DROPPED else len(written) + len(running.stable_written)
        return accessed * self.prices.page_access + changed * self.prices.page_write

    @property
    def _running(self) -> Execution:
        if self.execution is None:
            raise Trapped("no message is being executed")
        return self.execution

    @property
    def _instance(self) -> Instance:
        return self.canister.instance

    def _priced(self, name: str) -> Callable:
        kinds, sizes = _CALLS[name]
        implementation = getattr(self, name)

        def call(*arguments: int) -> int | None:
            if self._running.kind not in kinds:
                raise Trapped(f"ic0.{name} cannot be called in a message of kind '{self._running.kind}'")
            self._instance.spend(self.prices.system_call(name, sum(arguments[i] for i in sizes)))
            if self.spent() > self._running.limit:
                raise LimitExceeded
            return implementation(*arguments)

        return call

    def _copy_in(self, source: int, size: int) -> bytes:
        data = self._instance.read(source, size)
        self._instance.touch(source, size, write=False)
        return data

    def _copy_out(self, data: bytes, target: int, offset: int, size: int) -> None:
        if offset + size > len(data):
            raise Trapped(
                f"a copy of {size} bytes from offset {offset} leaves the {len(data)} bytes there are"
            )
        self._store(target, data[offset : offset + size])

    def _store(self, target: int, data: bytes) -> None:
        self._instance.write(target, data)
        self._instance.touch(target, len(data), write=True)

    def _stable_range(self, offset: int, size: int, touched: set[int]) -> None:
        if offset + size > len(self.canister.stable):
            raise Trapped("stable memory out of bounds")
        if size:
            touched.update(range(offset // PAGE_BYTES, (offset + size - 1) // PAGE_BYTES + 1))

    def _must_be_unanswered(self) -> None:
        if self._running.result is not None or self._running.context.responded:
            raise Trapped("the call is already replied")

    def _within(self, size: int, limit: str) -> None:
        allowed = self.prices.limits[limit]
        if size > allowed:
            raise Trapped(f"application payload size ({size}) cannot be larger than {allowed}")

    def _call(self) -> OutgoingCall:
        if self._running.call is None:
            raise Trapped("no call is under construction: call_new comes first")
        return self._running.call

    def _rejection_text(self) -> bytes:
        return self._running.rejection.text.encode() if self._running.rejection else b""
