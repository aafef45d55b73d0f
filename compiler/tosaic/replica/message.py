"""What travels between canisters, and the record of every message that was executed."""

from __future__ import annotations

from dataclasses import dataclass, field

from tosaic.errors import TosaicError

DESTINATION_INVALID, CANISTER_REJECT, CANISTER_ERROR = 3, 4, 5
"""Reject codes (Internet Computer interface specification, "Reject codes")."""

_INDEX_REMEDY = (
    "a compiled model ends so where an index lies outside of its table: check the values of integer inputs"
)


@dataclass(frozen=True)
class Reject:
    """A call that got no reply: the code tells who refused it."""

    code: int
    text: str


@dataclass(frozen=True)
class Message:
    """One executed message.

    `metered` are its instructions: operators, system calls and page touches; `page_touch` are the last ones of these.
    `trap` says why it changed nothing.
    """

    name: str
    kind: str
    metered: int
    page_touch: int
    limit: int
    trap: str | None = None


@dataclass(frozen=True)
class Response:
    """What a call gave, and the messages that were executed for it (and while it was pending)."""

    result: bytes | Reject
    messages: tuple[Message, ...]

    @property
    def reply(self) -> bytes:
        """The reply's bytes.

        Raises:
            TosaicError: the call was rejected.
        """
        if isinstance(self.result, Reject):
            message = f"the canister rejected the call (code {self.result.code}): {self.result.text}"
            raise TosaicError(message, _INDEX_REMEDY if "unreachable" in self.result.text else "")
        return self.result


@dataclass
class CallContext:
    """A call that a canister still has to answer. `instructions` grow over all of its messages."""

    method: str
    caller: bytes
    origin: Callback | Ticket | None
    outstanding: int = 0
    responded: bool = False
    instructions: int = 0


@dataclass(frozen=True)
class Callback:
    """Where the answer of a call goes: table indices and environments of the functions that take it."""

    canister: bytes
    callee: bytes
    context: CallContext
    on_reply: tuple[int, int]
    on_reject: tuple[int, int]
    on_cleanup: tuple[int, int] | None


@dataclass
class Ticket:
    """A call from outside; `result` is there when it has been answered."""

    result: bytes | Reject | None = None


@dataclass(frozen=True)
class Request:
    """A call that waits for its execution."""

    callee: bytes
    method: str
    argument: bytes
    caller: bytes
    origin: Callback | Ticket


@dataclass(frozen=True)
class Answer:
    """A reply or reject that waits for its callback."""

    to: Callback
    result: bytes | Reject


@dataclass
class OutgoingCall:
    """A call under construction."""

    callee: bytes
    method: str
    on_reply: tuple[int, int]
    on_reject: tuple[int, int]
    on_cleanup: tuple[int, int] | None = None
    argument: bytearray = field(default_factory=bytearray)
