"""The messages of a canister: how one call of `infer` runs all segments, each in a message of its own.

A message may run one segment. The call `infer` runs segment 0 and calls the canister's own method `step`. The callee
runs segment 1 and answers; the callback runs segment 2 and calls `step` again, and so on. Callee and callback take
turns, so a call serves two segments: n segments take n messages if n is odd, else n + 1, since only the call's own
callbacks can answer it. No other pattern takes fewer.

The state is one number: 0 when idle, else the next segment. A caller who comes meanwhile is rejected. If a segment
traps in the callee the reject callback, if it traps in a callback the cleanup callback sets the state to idle, and
the caller learns the reason. An upgrade would lose the tensors between two messages: it is refused while an inference
runs (`canister_pre_upgrade`), and a callback that finds another state than its own, as after a reinstallation, traps.

`infer` and `infer_cbor` differ in how they read the argument and in the callback that replies; all between is shared.
A second number tells where in the table the callbacks of the running call begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tosaic.canister.border import convert_argument, convert_result
from tosaic.canister.cost_log import LAST_COST, CostLog
from tosaic.canister.entry import Entry, Place, Region
from tosaic.canister.guard import NOBODY, Guard
from tosaic.canister.parts import (
    GET,
    PUT,
    InputParts,
    OutputParts,
    Transfer,
    needs_parts,
    parts_of,
    put_argument_bytes,
)
from tosaic.canister.planned_message import REPLY_CALLBACK, STEP, PlannedMessage
from tosaic.canister.weights import UploadedWeights, check_readable, needs_upload
from tosaic.canister.wire import Wire, candid_framing, cbor_framing
from tosaic.policy import DEFAULT_POLICY, EVERYONE, Access, Policy
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.module import DataSegment
from tosaic.wasm.program import BorderTensor, WasmProgram
from tosaic_passes.cost_model import Charge

INFER, INFER_CBOR = "infer", "infer_cbor"
PRINCIPAL_BYTES = 10  # of every canister
_REJECTION_BYTES = 1024
_ON_REJECT, _ON_CLEANUP, _FIRST_PIECE = 0, 1, 2  # places in the table, behind those of the weights


@dataclass(frozen=True)
class _Texts:
    """Error messages, in a page of their own that only refusals touch."""

    busy: Place
    misfit: Place
    idle: Place
    stranger: Place
    denied: Place
    full: Place
    running: Place
    lost: Place
    incomplete: Place


class Messages:
    """Builds all entry points of a program's canister.

    `exports` maps export names to functions, `table` holds the callbacks, `planned` are the messages of an inference.
    """

    def __init__(
        self, program: WasmProgram, prices: PriceList, policy: Policy = DEFAULT_POLICY, info: str = ""
    ) -> None:
        self.program = program
        self.prices = prices
        self.policy = policy
        self.limit = policy.limit_instructions or prices.limits["update_instructions"]
        self.count = len(program.segments)
        self.control = Region(0, program.control_bytes)
        self.cold = Region(program.memory_pages * PAGE_BYTES)
        self.takes_parts = needs_parts(_sizes(program.inputs), prices.limits["ingress_bytes"])
        self.gives_parts = needs_parts(_sizes(program.outputs), prices.limits["reply_bytes"])
        self._place_state()
        self.log = CostLog.place(self.control, self._most_messages)
        self.guard = Guard(self.control)
        self.texts = self._place_texts()
        self.transfer = Transfer.place(self.control) if self.takes_parts or self.gives_parts else None
        self.put = self._input_parts()
        self.get = self._output_parts()
        self.weights = self._uploaded_weights()
        self.callbacks_before = self.weights.callbacks if self.weights else []
        self.filter = self._filter()
        self.candid = self._candid()
        self.cbor = self._cbor()
        self.infer = self._infer(self.candid)
        self.infer_cbor = self._infer(self.cbor) if self.cbor else None
        self.step = self._step()
        self.pieces = [self._piece(k, self.candid) for k in range(1, self._messages)]
        self.cbor_pieces = self._cbor_pieces()
        self.progress = self._progress()
        self.info = self._constant_reply("info", candid.encode_text(info))
        self.last_cost = self.log.last_cost(prices, self._admit, self.cold)
        self.table = self._table()

    @property
    def memory_pages(self) -> int:
        return -(-self.cold.position // PAGE_BYTES)

    @property
    def data(self) -> list[DataSegment]:
        """What the memory holds from the start besides the weights."""
        digests = self.weights.data if self.weights else []
        return [*self.control.data, *digests, *self.cold.data]

    @property
    def weight_data(self) -> Sequence[DataSegment]:
        """The weights that the module holds."""
        return () if self.weights else self.program.data

    @property
    def exports(self) -> dict[str, Function]:
        found = {
            f"canister_update {INFER}": self.infer.function,
            "canister_query info": self.info.function,
            "canister_query progress": self.progress.function,
            f"canister_query {LAST_COST}": self.last_cost.function,
        }
        if self.put:
            found[f"canister_update {PUT}"] = self.put.entry.function
        if self.get:
            found[f"canister_query {GET}"] = self.get.entry.function
        if self.weights:
            found |= self.weights.exports
        if self.infer_cbor and self.has_cbor:
            found[f"canister_update {INFER_CBOR}"] = self.infer_cbor.function
        if self.has_query:
            found["canister_query infer_query"] = self.infer.function
        if self.count > 1:
            found[f"canister_update {STEP}"] = self.step.function
            found["canister_pre_upgrade"] = self._pre_upgrade().function
        if self.filter:
            found["canister_inspect_message"] = self.filter.function
        return found

    @property
    def has_query(self) -> bool:
        """Whether `infer` is exported as a query as well: one message that fits a query's limit."""
        if self.count > 1 or self.put or self.get:
            return False
        return self._as_query().instructions(self.prices) <= self.prices.limits["query_instructions"]

    @property
    def has_cbor(self) -> bool:
        """Whether `infer_cbor` is exported: argument and reply fit a message, and all its messages the limit."""
        planned = self._planned_cbor()
        return bool(planned) and all(m.instructions(self.prices) <= self.limit for m in planned)

    def planned(self) -> list[PlannedMessage]:
        """The messages of one inference, transfers of parts included, in the order of their execution."""
        puts = list(self._planned_puts(self.put)) if self.put else []
        gets = list(self._planned_gets(self.get)) if self.get else []
        return [*puts, *self.planned_call(), *gets]

    def planned_call(self) -> list[PlannedMessage]:
        """The messages of one call of `infer`; the last one replies."""
        return self._planned_call(self.candid, self.infer, self.pieces)

    def planned_cbor(self) -> list[PlannedMessage] | None:
        """The messages of one call of `infer_cbor`, where the canister has it."""
        return self._planned_cbor() if self.has_cbor else None

    def planned_query(self) -> PlannedMessage | None:
        """The message of `infer_query`, where the canister has it."""
        return self._as_query() if self.has_query else None

    # Places

    def _place_state(self) -> None:
        self.next = self.control.room(4)
        self.callbacks = self.control.room(4)
        self.self_id = self.control.room(PRINCIPAL_BYTES)
        self.caller_id = self.control.room(PRINCIPAL_BYTES)
        self.step_name = self.control.constant(STEP.encode())
        self.arguments = () if self.takes_parts else self.program.inputs
        self.results = () if self.gives_parts else self.program.outputs

    def _place_texts(self) -> _Texts:
        texts = {
            "busy": "another inference is running on this canister; call again later (see progress)",
            "misfit": "the argument holds a value that its type in the model cannot hold",
            "idle": "no inference is running",
            "stranger": f"only the canister itself may call {STEP}",
            "denied": f"the owner of this canister lets only these call it: {self.policy.access}",
            "incomplete": "send all parts of the inputs with put first, in order, as the caller of infer",
            "running": "an inference is running: stop the canister first, which waits for it, or try again later",
            "lost": "the tensors of this inference are lost: the canister was installed anew while it ran",
            "full": "the canister cannot call itself now: its queue is full or it lacks cycles",
        }
        return _Texts(**{name: self.cold.constant(text.encode()) for name, text in texts.items()})

    def _input_parts(self) -> InputParts | None:
        if not self.takes_parts or not self.transfer:
            return None
        state = self.next if self.count > 1 else None
        inputs = self.program.inputs
        return InputParts(
            inputs, self.transfer, self.cold, self.prices, self._admit, state, self.texts.busy, self.log
        )

    def _output_parts(self) -> OutputParts | None:
        if not self.gives_parts or not self.transfer:
            return None
        return OutputParts(self.program.outputs, self.transfer, self.cold, self.prices, self._admit)

    def _uploaded_weights(self) -> UploadedWeights | None:
        check_readable(self.program, self.prices, self.policy)
        if not needs_upload(self.program, self.prices, self.policy):
            return None
        return UploadedWeights(
            self.program, self.control, self.cold, self.prices, self.guard, self.policy, self._admit
        )

    # Entry points

    @property
    def _messages(self) -> int:
        """Messages of an inference."""
        return self.count + (self.count > 1 and self.count % 2 == 0)

    @property
    def _most_messages(self) -> int:
        """Update messages of an inference whose inputs come in parts, if they do."""
        sizes = _sizes(self.program.inputs) if self.takes_parts else []
        return self._messages + len(parts_of(sizes, self.prices.limits["chunk_bytes"]))

    def _candid(self) -> Wire:
        arguments = ", ".join(
            f"{t.name}: {candid.type_name(t.dtype)} of {t.size} ({t.dtype}{list(t.shape)})"
            for t in self.program.inputs
        )
        framings = candid_framing(self.arguments), candid_framing(self.results)
        return Wire(INFER, f"the arguments ({arguments})", *framings, self.control, self.cold)

    def _cbor(self) -> Wire | None:
        """The encoding of `infer_cbor`: none where a message to a canister of the same subnet cannot hold the argument,
        or one to any the reply.

        Its constants share the control region, whose page is touched anyway, if there is room for them.
        """
        arguments, results = cbor_framing(self.program.inputs), cbor_framing(self.program.outputs)
        limits = self.prices.limits
        fits = arguments.size <= limits["same_subnet_request_bytes"] and results.size <= limits["reply_bytes"]
        if self.gives_parts or not fits:
            return None
        region = self.control if self.control.left >= Wire.room(arguments, results) else self.cold
        tensors = ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in arguments.tensors)
        expected = f"a blob with the canonical CBOR of a map of tensors ({tensors})"
        return Wire(INFER_CBOR, expected, arguments, results, region, self.cold)

    def _infer(self, wire: Wire) -> Entry:
        entry = Entry.new(wire.method, self.prices)
        self._admit(entry)
        if self.count > 1:
            entry.load(self.next)
            entry.refuse_if(self.texts.busy)
        if self.weights:
            self.weights.refuse_unless_complete(entry)
        wire.check(entry)
        self._claim_inputs(entry, wire)
        wire.copy(entry)
        self._convert_arguments(entry)
        self._begin_transfer(entry)
        if self.count > 1 and self.cbor:
            entry.store(self.callbacks, self._messages - 1 if wire is self.cbor else 0)
        entry.run(self.program.segments[0])
        if self.count == 1:
            self._reply(entry, wire)
        else:
            place = self.self_id
            entry.system("canister_self_copy", place.address, 0, place.size, size=place.size, writes=[place])
            self._call_step(entry, 1)
        if not (self.put and wire is self.candid):
            self.log.begin(entry)
        self._log(entry, is_last=self.count == 1)
        return entry

    def _admit(self, entry: Entry) -> None:
        """Refuse who may not infer: every method that takes inputs, runs the model or gives outputs begins so."""
        self.guard.refuse_others(entry, self.policy.access, self.texts.denied)

    def _filter(self) -> Entry | None:
        """What calls from outside are taken, where a method does not take all of them."""
        methods: dict[str, Access] = {}
        if self.policy.access != EVERYONE:
            callers = (INFER, INFER_CBOR, "infer_query", PUT, GET, LAST_COST)
            methods |= dict.fromkeys(callers, self.policy.access)
        if self.weights:
            methods |= self.weights.rules
        if self.count > 1:
            methods[STEP] = NOBODY
        return self.guard.filter(methods, self.control, self.prices) if methods else None

    def _step(self) -> Entry:
        """The private method: checks its caller and goes on to the piece whose turn it is."""
        entry = Entry.new(STEP, self.prices)
        f = entry.function
        entry.load(self.next)
        f.op("i32.eqz")
        entry.refuse_if(self.texts.idle)
        entry.system("msg_caller_size")
        f.i32(PRINCIPAL_BYTES)
        f.op("i32.ne")
        entry.refuse_if(self.texts.stranger)
        place = self.caller_id
        entry.system("msg_caller_copy", place.address, 0, place.size, size=place.size, writes=[place])
        entry.differ(self.caller_id, self.self_id)
        entry.refuse_if(self.texts.stranger)
        f.i32(0)
        entry.load(self.next)
        f.i32(self._index(_FIRST_PIECE) - 1)
        f.op("i32.add")
        f.call_indirect(("i32",))
        return entry

    def _piece(self, k: int, wire: Wire) -> Entry:
        """Message k: a callee if k is odd, else a reply callback, the last of which answers the caller by `wire`."""
        entry = Entry.new(f"piece_{k}_of_{wire.method}", self.prices, ("i32",))
        if k % 2 == 0:
            entry.load(self.next)
            entry.function.i32(k - 1)
            entry.function.op("i32.ne")
            entry.trap_if(self.texts.lost)
        if k < self.count:
            entry.run(self.program.segments[k])
        if k % 2:
            entry.writes |= self.step.writes  # of the same message
            entry.system("msg_reply")
        elif k + 1 < self._messages:
            self._call_step(entry, k + 1)
        else:
            entry.store(self.next, 0)
            self._reply(entry, wire)
        self._log(entry, is_last=k + 1 == self._messages)
        return entry

    def _pre_upgrade(self) -> Entry:
        """Refuses an upgrade while an inference runs."""
        entry = Entry.new("canister_pre_upgrade", self.prices)
        entry.load(self.next)
        entry.trap_if(self.texts.running)
        return entry

    def _cbor_pieces(self) -> list[Entry]:
        """The same pieces but for the last, which replies in CBOR; in the table they stand after those of `infer`."""
        if not self.cbor or self.count == 1:
            return []
        return [*self.pieces[:-1], self._piece(self._messages - 1, self.cbor)]

    def _table(self) -> list[Function]:
        if self.count == 1:
            return self.callbacks_before
        pieces = [*self.pieces, *self.cbor_pieces]
        return [
            *self.callbacks_before,
            self._on_reject(),
            self._on_cleanup(),
            *(piece.function for piece in pieces),
        ]

    def _index(self, callback: int) -> int:
        """Where a callback of the inference stands in the table."""
        return len(self.callbacks_before) + callback

    def _on_reject(self) -> Function:
        """Frees the canister and passes on why `step` failed."""
        entry = Entry.new("on_reject", self.prices, ("i32",))
        entry.store(self.next, 0)
        f = entry.function
        buffer = self.cold.room(_REJECTION_BYTES)
        size = f.local("i32")
        f.i32(_REJECTION_BYTES)
        entry.system("msg_reject_msg_size")
        f.tee(size)
        f.get(size)
        f.i32(_REJECTION_BYTES)
        f.op("i32.gt_u")
        f.op("select")
        f.set(size)
        f.i32(buffer.address)
        f.i32(0)
        f.get(size)
        entry.system("msg_reject_msg_copy", size=_REJECTION_BYTES, writes=[buffer])
        f.i32(buffer.address)
        f.get(size)
        entry.system("msg_reject", size=_REJECTION_BYTES, reads=[buffer])
        return f

    def _on_cleanup(self) -> Function:
        entry = Entry.new("on_cleanup", self.prices, ("i32",))
        entry.store(self.next, 0)
        return entry.function

    def _progress(self) -> Entry:
        """Replies (next segment, number of segments); the first is 0 when idle."""
        entry = Entry.new("progress", self.prices)
        header = candid.MAGIC + bytes([0, 2, 0x79, 0x79])
        for place in (self.cold.constant(header), self.next):
            entry.append(place)
        entry.append(self.cold.constant(self.count.to_bytes(4, "little")))
        entry.system("msg_reply")
        return entry

    def _constant_reply(self, name: str, reply: bytes) -> Entry:
        entry = Entry.new(name, self.prices)
        entry.append(self.cold.constant(reply))
        entry.system("msg_reply")
        return entry

    # Their parts

    def _claim_inputs(self, entry: Entry, wire: Wire) -> None:
        """The input buffers are this call's: by the parts that its caller sent, or in place of what anyone sent."""
        if not self.transfer or not self.put:
            return
        if wire is self.candid:
            self.transfer.refuse_unless_complete(entry, len(self.put.parts), self.texts.incomplete)
        else:
            entry.store(self.transfer.next_part, 0)

    def _convert_arguments(self, entry: Entry) -> None:
        for tensor in self.program.inputs:
            convert_argument(entry, tensor, self.texts.misfit)

    def _begin_transfer(self, entry: Entry) -> None:
        """The results that are still there are none any more; those to come are the caller's."""
        if self.transfer and not self.put:
            self.transfer.own(entry)
        if self.transfer:
            entry.store(self.transfer.results, 0)

    def _reply(self, entry: Entry, wire: Wire) -> None:
        for tensor in self.program.outputs:
            convert_result(entry, tensor)
        if self.transfer and self.get:
            entry.store(self.transfer.results, 1)
        wire.append(entry)
        entry.system("msg_reply")

    def _log(self, entry: Entry, is_last: bool) -> None:
        self.log.add(entry)
        if is_last:
            self.log.finish(entry)

    def _call_step(self, entry: Entry, k: int) -> None:
        """Call `step`, which runs piece k; piece k + 1 takes its reply, as the caller's encoding has it."""
        entry.store(self.next, k)
        f, callee, name = entry.function, self.self_id, self.step_name
        for argument in (callee.address, callee.size, name.address, name.size, self._index(_FIRST_PIECE + k)):
            f.i32(argument)
        if self.cbor:
            entry.load(self.callbacks)
            f.op("i32.add")
        entry.system(
            "call_new", 0, self._index(_ON_REJECT), 0, size=callee.size + name.size, reads=[callee, name]
        )
        entry.system("call_on_cleanup", self._index(_ON_CLEANUP), 0)
        entry.system("call_perform")
        entry.trap_if(self.texts.full)

    # Prediction

    def _as_query(self) -> PlannedMessage:
        return replace(self.planned_call()[0], name="infer_query", kind="query")

    @staticmethod
    def _planned_puts(put: InputParts) -> Iterator[PlannedMessage]:
        for index, part in enumerate(put.parts):
            received = len(PUT) + put_argument_bytes(part.size)
            yield PlannedMessage(PUT, "update", put.charge(index), True, received)

    @staticmethod
    def _planned_gets(get: OutputParts) -> Iterator[PlannedMessage]:
        for index in range(len(get.parts)):
            yield PlannedMessage(GET, "query", get.charge(index), True, replied_bytes=get.reply_bytes(index))

    def _planned_cbor(self) -> list[PlannedMessage]:
        if not self.cbor or not self.infer_cbor:
            return []
        return self._planned_call(self.cbor, self.infer_cbor, self.cbor_pieces)

    def _planned_call(self, wire: Wire, first: Entry, pieces: Sequence[Entry]) -> list[PlannedMessage]:
        method = wire.method
        found = [self._message(method, "update", first, received=len(method) + wire.arguments.size)]
        for k, piece in enumerate(pieces, start=1):
            if k % 2:
                found.append(self._message(STEP, "update", self.step, piece, received=len(STEP)))
            else:
                found.append(self._message(f"{method}: reply callback", REPLY_CALLBACK, piece))
        return [*found[:-1], replace(found[-1], replied_bytes=wire.results.size)]

    @staticmethod
    def _message(name: str, kind: str, *entries: Entry, received: int = 0) -> PlannedMessage:
        charges = [Charge(entry.function.cost, entry.reads, entry.writes) for entry in entries]
        exact = all(entry.function.exact for entry in entries)
        return PlannedMessage(name, kind, sum(charges, Charge()), exact, received)


def _sizes(tensors: Sequence[BorderTensor]) -> list[int]:
    return [tensor.border_bytes for tensor in tensors]
