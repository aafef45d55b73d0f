"""A replica of the network: canisters, the messages between them, and the limits that hold for each.

Messages are executed one after the other, in the order in which they were sent. `update` runs until its call is
answered; with `submit` and `step` several calls can be under way at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import wasmtime

from tosaic.errors import TosaicError
from tosaic.limits import check_module
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS, principal_text
from tosaic.replica.canister import Canister
from tosaic.replica.instance import CompiledModule, compile_metered
from tosaic.replica.message import (
    CANISTER_ERROR,
    CANISTER_REJECT,
    DESTINATION_INVALID,
    Answer,
    Callback,
    CallContext,
    Message,
    OutgoingCall,
    Reject,
    Request,
    Response,
    Ticket,
)
from tosaic.replica.system import (
    CLEANUP,
    INSPECT,
    INSTALL,
    QUERY,
    REJECT_CALLBACK,
    REPLICATED_QUERY,
    REPLY_CALLBACK,
    UPDATE,
    Execution,
)

_FIRST_ID = 0x0000_0000_0000_0001
_ID_SUFFIX = b"\x01\x01"
_GENESIS_NANOSECONDS = 1_620_328_630_000_000_000  # the network's first day; time stands still here


class Replica:
    """Runs canisters under a price list.

    `update_limit` and `query_limit` are the instructions that one message may take, by default the network's.
    `pages` False leaves page touches out of the account, which is faster.
    """

    def __init__(
        self,
        prices: PriceList | None = None,
        update_limit: int | None = None,
        query_limit: int | None = None,
        pages: bool = True,
    ) -> None:
        self.prices = prices or PriceList.load()
        self.limits = {
            INSTALL: self.prices.limits["install_instructions"],
            INSPECT: self.prices.limits["inspect_instructions"],
            QUERY: query_limit or self.prices.limits["query_instructions"],
            UPDATE: update_limit or self.prices.limits["update_instructions"],
        }
        self.pages = pages
        self.time_nanoseconds = _GENESIS_NANOSECONDS
        self.canisters: dict[bytes, Canister] = {}
        self.messages: list[Message] = []
        self._queue: deque[Request | Answer] = deque()

    # From outside

    def install(
        self,
        wasm: bytes,
        controllers: Sequence[bytes] = (ANONYMOUS,),
        argument: bytes = b"",
        compiled: CompiledModule | None = None,
    ) -> InstalledCanister:
        """Check, compile and install a module on a new canister and run its `canister_init`.

        `compiled` is the module in compiled form, where it is at hand.

        Raises:
            TosaicError: the network would refuse the module, or its initialisation traps.
        """
        compiled = compiled or compile_metered(wasm, self.prices, self.pages)
        check_module(wasm, compiled.original, compiled.metered.functions, self.prices)
        id = (_FIRST_ID + len(self.canisters)).to_bytes(8, "big") + _ID_SUFFIX
        canister = Canister(self, id, compiled, controllers)
        self._initialise(canister, "canister_init", argument)
        self.canisters[id] = canister
        return InstalledCanister(self, id)

    def upgrade(
        self, id: bytes, wasm: bytes, argument: bytes = b"", compiled: CompiledModule | None = None
    ) -> None:
        """Put another module in the place of a canister's: its heap is dropped, its stable memory stays.

        Raises:
            TosaicError: the network would refuse the module, or `canister_pre_upgrade` or `canister_post_upgrade`
                traps; the canister is as it was.
        """
        old = self.canisters[id]
        compiled = compiled or compile_metered(wasm, self.prices, self.pages)
        check_module(wasm, compiled.original, compiled.metered.functions, self.prices)
        before = old.snapshot()
        try:
            self._run_hook(old, "canister_pre_upgrade", b"", self.limits[INSTALL])
            canister = Canister(self, id, compiled, old.controllers, old.stable)
            canister.take_place_of(old)
            self._initialise(canister, "canister_post_upgrade", argument)
        except TosaicError:
            old.restore(before)
            raise
        self.canisters[id] = canister

    def reinstall(self, id: bytes, wasm: bytes, argument: bytes = b"") -> None:
        """Install a module on a canister as on a new one: its heap and its stable memory are dropped.

        Raises:
            TosaicError: the network would refuse the module, or its initialisation traps; the canister is as it was.
        """
        compiled = compile_metered(wasm, self.prices, self.pages)
        check_module(wasm, compiled.original, compiled.metered.functions, self.prices)
        old = self.canisters[id]
        canister = Canister(self, id, compiled, old.controllers)
        canister.take_place_of(old)
        self._initialise(canister, "canister_init", argument)
        self.canisters[id] = canister

    def stop(self, id: bytes) -> None:
        """From now on the canister takes no calls, its own included; what it has called still comes back to it."""
        self.canisters[id].takes_calls = False

    def start(self, id: bytes) -> None:
        """Let a canister that was stopped take calls again."""
        self.canisters[id].takes_calls = True

    def submit(self, canister: bytes, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> Ticket:
        """Send a call from outside that goes through consensus; it is executed by later steps.

        The canister's `canister_inspect_message` may decline it at once.
        """
        allowed = self.prices.limits["ingress_bytes"]
        if len(argument) > allowed:
            raise TosaicError(
                f"the argument has {len(argument)} bytes and a call from outside carries at most {allowed}",
                "send the input in parts, or from a canister of the same subnet",
            )
        ticket = Ticket()
        ticket.result = self._inspect(canister, method, argument, caller)
        if ticket.result is None:
            self._queue.append(Request(canister, method, argument, caller, ticket))
        return ticket

    def step(self) -> bool:
        """Execute the next message; False when there is none."""
        if not self._queue:
            return False
        message = self._queue.popleft()
        if isinstance(message, Request):
            self._call(message)
        else:
            self._take_answer(message)
        return True

    def update(self, canister: bytes, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> Response:
        """An update call from outside, run to its answer."""
        first = len(self.messages)
        ticket = self.submit(canister, method, argument, caller)
        while ticket.result is None and self.step():
            pass
        if ticket.result is None:
            raise TosaicError(f"the call of '{method}' was never answered")
        return Response(ticket.result, tuple(self.messages[first:]))

    def query(self, canister: bytes, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> Response:
        """A query call: one message whose changes are dropped."""
        first = len(self.messages)
        found = self.canisters.get(canister)
        function = found.export(f"canister_query {method}") if found else None
        if found is None or function is None:
            return Response(_missing(canister, "query", method, found), ())
        if not found.takes_calls:
            return Response(_stopped(canister), ())
        context = CallContext(method, caller, None)
        execution = Execution(QUERY, self.limits[QUERY], caller, context, argument)
        record = found.run(method, execution, function)
        self.messages.append(record)
        result: bytes | Reject | None = (
            Reject(CANISTER_ERROR, record.trap) if record.trap else execution.result
        )
        return Response(result if result is not None else _unanswered(found), tuple(self.messages[first:]))

    # Execution

    def _initialise(self, canister: Canister, hook: str, argument: bytes) -> None:
        """Pay for the compilation, then run the start function and the hook."""
        operators = sum(function.operators for function in canister.compiled.metered.functions)
        limit = self.limits[INSTALL]
        compilation = operators * self.prices.compile_per_operator
        self.messages.append(Message("install", INSTALL, compilation, 0, limit))
        if compilation > limit:
            raise TosaicError(
                f"compiling {operators} operators costs {compilation} instructions; a message has {limit}",
                "lower the code size",
            )
        limit -= compilation
        for name in ("canister_start", hook):
            self._run_hook(canister, name, argument, limit)

    def _run_hook(self, canister: Canister, name: str, argument: bytes, limit: int) -> None:
        """Run an entry point that the network calls at an installation, where the module has it."""
        if function := canister.export(name):
            context = CallContext(name, ANONYMOUS, None)
            execution = Execution(INSTALL, limit, canister.controllers[0], context, argument)
            record = canister.run(name, execution, function)
            self.messages.append(record)
            if record.trap:
                raise TosaicError(f"the canister cannot be installed: {record.trap}")

    def _call(self, request: Request) -> None:
        canister = self.canisters.get(request.callee)
        kind, function = _method(canister, request.method)
        if canister is None or function is None:
            self._answer(request.origin, _missing(request.callee, "update", request.method, canister))
            return
        if not canister.takes_calls:
            self._answer(request.origin, _stopped(request.callee))
            return
        context = CallContext(request.method, request.caller, request.origin)
        execution = Execution(kind, self.limits[UPDATE], request.caller, context, request.argument)
        record = canister.run(request.method, execution, function)
        self.messages.append(record)
        self._conclude(canister, execution, record)

    def _inspect(self, id: bytes, method: str, argument: bytes, caller: bytes) -> Reject | None:
        """Why the canister does not take a call from outside. Nobody pays for the inspection, so it is not recorded."""
        canister = self.canisters.get(id)
        function = canister.export("canister_inspect_message") if canister else None
        if canister is None or function is None:
            return None
        context = CallContext(method, caller, None)
        execution = Execution(INSPECT, self.limits[INSPECT], caller, context, argument)
        record = canister.run(method, execution, function)
        if record.trap:
            return Reject(CANISTER_ERROR, record.trap)
        refused = Reject(CANISTER_REJECT, f"Canister {principal_text(id)} rejected the message")
        return None if execution.accepted else refused

    def _take_answer(self, answer: Answer) -> None:
        to = answer.to
        canister, context = self.canisters[to.canister], to.context
        context.outstanding -= 1
        canister.outstanding[to.callee] -= 1
        rejected = isinstance(answer.result, Reject)
        kind = REJECT_CALLBACK if rejected else REPLY_CALLBACK
        execution = Execution(kind, self.limits[UPDATE], context.caller, context)
        if isinstance(answer.result, Reject):
            execution.rejection = answer.result
        else:
            execution.argument = answer.result
        record = self._run_callback(canister, execution, to.on_reject if rejected else to.on_reply)
        if record.trap and to.on_cleanup:
            cleanup = Execution(CLEANUP, self.limits[UPDATE], context.caller, context)
            self._run_callback(canister, cleanup, to.on_cleanup)
        self._conclude(canister, execution, record)

    def _run_callback(self, canister: Canister, execution: Execution, callback: tuple[int, int]) -> Message:
        name = f"{execution.context.method}: {execution.kind}"
        index, environment = callback
        record = canister.run(name, execution, index, environment)
        self.messages.append(record)
        return record

    def _conclude(self, canister: Canister, execution: Execution, record: Message) -> None:
        """Send what a message that succeeded asked for; answer its call if nothing else can."""
        context = execution.context
        if record.trap is None:
            for call in execution.calls:
                self._send(canister, context, call)
            if execution.result is not None:
                self._respond(context, execution.result)
        if context.outstanding == 0 and not context.responded:
            failed = Reject(CANISTER_ERROR, record.trap) if record.trap else _unanswered(canister)
            self._respond(context, failed)

    def _send(self, canister: Canister, context: CallContext, call: OutgoingCall) -> None:
        context.outstanding += 1
        canister.outstanding[call.callee] += 1
        callback = Callback(canister.id, call.callee, context, call.on_reply, call.on_reject, call.on_cleanup)
        self._queue.append(Request(call.callee, call.method, bytes(call.argument), canister.id, callback))

    def _respond(self, context: CallContext, result: bytes | Reject) -> None:
        context.responded = True
        if context.origin is not None:
            self._answer(context.origin, result)

    def _answer(self, origin: Callback | Ticket, result: bytes | Reject) -> None:
        if isinstance(origin, Ticket):
            origin.result = result
        else:
            self._queue.append(Answer(origin, result))


class InstalledCanister:
    """What a user of the replica holds: a canister and its id."""

    def __init__(self, replica: Replica, id: bytes) -> None:
        self.replica = replica
        self.id = id

    @property
    def memory_bytes(self) -> int:
        """Bytes of the canister's heap."""
        return self.replica.canisters[self.id].instance.memory_bytes

    def stop(self) -> None:
        """See `Replica.stop`."""
        self.replica.stop(self.id)

    def start(self) -> None:
        """See `Replica.start`."""
        self.replica.start(self.id)

    def upgrade(self, wasm: bytes, argument: bytes = b"") -> None:
        """See `Replica.upgrade`."""
        self.replica.upgrade(self.id, wasm, argument)

    def reinstall(self, wasm: bytes, argument: bytes = b"") -> None:
        """See `Replica.reinstall`."""
        self.replica.reinstall(self.id, wasm, argument)

    def update(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Response:
        return self.replica.update(self.id, method, argument, caller)

    def query(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Response:
        return self.replica.query(self.id, method, argument, caller)

    def submit(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Ticket:
        return self.replica.submit(self.id, method, argument, caller)


def _method(canister: Canister | None, name: str) -> tuple[str, wasmtime.Func | None]:
    """How a call that goes through consensus runs a method: a query's changes are dropped then as well."""
    if canister is None:
        return UPDATE, None
    if update := canister.export(f"canister_update {name}"):
        return UPDATE, update
    return REPLICATED_QUERY, canister.export(f"canister_query {name}")


def _missing(id: bytes, kind: str, method: str, canister: Canister | None) -> Reject:
    who = f"Canister {principal_text(id)}"
    if canister is None:
        return Reject(DESTINATION_INVALID, f"{who} not found")
    return Reject(CANISTER_ERROR, f"{who} has no {kind} method '{method}'")


def _stopped(id: bytes) -> Reject:
    return Reject(CANISTER_ERROR, f"Canister {principal_text(id)} is stopped")


def _unanswered(canister: Canister) -> Reject:
    return Reject(CANISTER_ERROR, f"Canister {principal_text(canister.id)} did not reply to the call")
