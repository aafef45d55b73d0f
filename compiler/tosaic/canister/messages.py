"""The messages of a canister: its methods and callbacks, and what they take.

`infer` and `infer_cbor` differ in how they read the argument and in the last message, which replies; the messages in
between are shared (`chain`). Tensors that no message carries come and leave in parts (`parts`), weights that no module
holds in chunks (`weights`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tosaic.canister.border import convert_argument, convert_result
from tosaic.canister.chain import Chain, Reply
from tosaic.canister.cost_log import LAST_COST, CostLog
from tosaic.canister.entry import Entry, Region
from tosaic.canister.guard import NOBODY, Guard
from tosaic.canister.parts import GET, PUT, InputParts, OutputParts, Transfer, needs_parts, parts_of
from tosaic.canister.planned_message import STEP, PlannedMessage
from tosaic.canister.prediction import planned_call, planned_gets, planned_puts
from tosaic.canister.weights import UploadedWeights, check_readable, needs_upload
from tosaic.canister.wire import Wire, candid_framing, candid_wire, cbor_framing, cbor_wire
from tosaic.policy import DEFAULT_POLICY, EVERYONE, Access, Policy
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.module import DataSegment
from tosaic.wasm.program import BorderTensor, WasmProgram

INFER, INFER_CBOR, INFER_QUERY, INFO = "infer", "infer_cbor", "infer_query", "info"


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
        self.control = Region(0, program.control_bytes)
        self.cold = Region(program.memory_pages * PAGE_BYTES)
        self.takes_parts = needs_parts(_sizes(program.inputs), prices.limits["ingress_bytes"])
        self.gives_parts = needs_parts(_sizes(program.outputs), prices.limits["reply_bytes"])
        self.guard = Guard(self.control)
        self._place_texts()
        self.weights = self._uploaded_weights()
        self.chain = self._chain()
        self.log = CostLog.place(self.control, self._most_messages)
        self.transfer = Transfer.place(self.control) if self.takes_parts or self.gives_parts else None
        self.put = self._input_parts()
        self.get = self._output_parts()
        self.filter = self._filter()
        self.candid, self.cbor = self._wires()
        self.infer = self._infer(self.candid)
        self.infer_cbor = self._infer(self.cbor) if self.cbor else None
        self.chain.emit([self._replies(wire) for wire in (self.candid, self.cbor) if wire], self.log)
        self.info = self._constant_reply(INFO, candid.encode_text(info))
        self.last_cost = self.log.last_cost(prices, self._admit, self.cold)
        self.table = [*(self.weights.callbacks if self.weights else []), *self.chain.table]

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
            f"canister_query {INFO}": self.info.function,
            f"canister_query {LAST_COST}": self.last_cost.function,
            **self.chain.exports,
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
            found[f"canister_query {INFER_QUERY}"] = self.infer.function
        if self.filter:
            found["canister_inspect_message"] = self.filter.function
        return found

    # Prediction

    @property
    def has_query(self) -> bool:
        """Whether `infer` is exported as a query as well: one message that fits a query's limit."""
        if self.chain.is_cut or self.put or self.get:
            return False
        return self._as_query().instructions(self.prices) <= self.prices.limits["query_instructions"]

    @property
    def has_cbor(self) -> bool:
        """Whether `infer_cbor` is exported: argument and reply fit a message, and all its messages the limit."""
        planned = self._planned_cbor()
        return bool(planned) and all(m.instructions(self.prices) <= self.limit for m in planned)

    def planned(self) -> list[PlannedMessage]:
        """The messages of one inference, transfers of parts included, in the order of their execution."""
        puts = list(planned_puts(self.put)) if self.put else []
        gets = list(planned_gets(self.get)) if self.get else []
        return [*puts, *self.planned_call(), *gets]

    def planned_call(self) -> list[PlannedMessage]:
        """The messages of one call of `infer`; the last one replies."""
        return self._planned(self.candid, self.infer, 0)

    def planned_cbor(self) -> list[PlannedMessage] | None:
        """The messages of one call of `infer_cbor`, where the canister has it."""
        return self._planned_cbor() if self.has_cbor else None

    def planned_query(self) -> PlannedMessage | None:
        """The message of `infer_query`, where the canister has it."""
        return self._as_query() if self.has_query else None

    def _as_query(self) -> PlannedMessage:
        return replace(self.planned_call()[0], name=INFER_QUERY, kind="query")

    def _planned_cbor(self) -> list[PlannedMessage]:
        return self._planned(self.cbor, self.infer_cbor, 1) if self.cbor and self.infer_cbor else []

    def _planned(self, wire: Wire, first: Entry, ending: int) -> list[PlannedMessage]:
        pieces = self.chain.pieces[ending] if self.chain.is_cut else []
        return planned_call(wire, first, self.chain.step, pieces)

    # What the entry points need

    def _place_texts(self) -> None:
        misfit = "the argument holds a value that its type in the model cannot hold"
        denied = f"the owner of this canister lets only these call it: {self.policy.access}"
        incomplete = "send all parts of the inputs with put first, in order, as the caller of infer"
        self.misfit, self.denied, self.incomplete = (
            self.cold.constant(text.encode()) for text in (misfit, denied, incomplete)
        )

    def _uploaded_weights(self) -> UploadedWeights | None:
        check_readable(self.program, self.prices, self.policy)
        if not needs_upload(self.program, self.prices, self.policy):
            return None
        return UploadedWeights(
            self.program, self.control, self.cold, self.prices, self.guard, self.policy, self._admit
        )

    def _chain(self) -> Chain:
        callbacks_before = len(self.weights.callbacks) if self.weights else 0
        endings = 2 if self._cbor_fits else 1
        return Chain(self.program.segments, endings, callbacks_before, self.prices, self.control, self.cold)

    @property
    def _most_messages(self) -> int:
        """Update messages of an inference whose inputs come in parts, if they do."""
        sizes = _sizes(self.program.inputs) if self.takes_parts else []
        return self.chain.messages + len(parts_of(sizes, self.prices.limits["chunk_bytes"]))

    def _input_parts(self) -> InputParts | None:
        if not self.takes_parts or not self.transfer:
            return None
        inputs = self.program.inputs
        return InputParts(inputs, self.transfer, self.cold, self.prices, self._admit_when_idle, self.log)

    def _output_parts(self) -> OutputParts | None:
        if not self.gives_parts or not self.transfer:
            return None
        return OutputParts(self.program.outputs, self.transfer, self.cold, self.prices, self._admit)

    @property
    def _cbor_fits(self) -> bool:
        """Whether a message to a canister of the same subnet holds the argument in CBOR, and one to any the reply."""
        limits = self.prices.limits
        sizes = [cbor_framing(tensors).size for tensors in (self.program.inputs, self.program.outputs)]
        most = limits["same_subnet_request_bytes"], limits["reply_bytes"]
        return not self.gives_parts and all(size <= limit for size, limit in zip(sizes, most))

    def _wires(self) -> tuple[Wire, Wire | None]:
        """The encodings of `infer` and, where messages carry the tensors in CBOR, of `infer_cbor`."""
        inputs, outputs, regions = self.program.inputs, self.program.outputs, (self.control, self.cold)
        arguments = candid_framing(() if self.takes_parts else inputs)
        results = candid_framing(() if self.gives_parts else outputs)
        first = candid_wire(INFER, inputs, arguments, results, *regions)
        if not self._cbor_fits:
            return first, None
        return first, cbor_wire(INFER_CBOR, cbor_framing(inputs), cbor_framing(outputs), *regions)

    def _filter(self) -> Entry | None:
        """What calls from outside are taken, where a method does not take all of them."""
        methods: dict[str, Access] = {}
        if self.policy.access != EVERYONE:
            callers = (INFER, INFER_CBOR, INFER_QUERY, PUT, GET, LAST_COST)
            methods |= dict.fromkeys(callers, self.policy.access)
        if self.weights:
            methods |= self.weights.rules
        if self.chain.is_cut:
            methods[STEP] = NOBODY
        return self.guard.filter(methods, self.control, self.prices) if methods else None

    # Entry points

    def _infer(self, wire: Wire) -> Entry:
        entry = Entry.new(wire.method, self.prices)
        self._admit_when_idle(entry)
        if self.weights:
            self.weights.refuse_unless_complete(entry)
        wire.check(entry)
        self._claim_inputs(entry, wire)
        wire.copy(entry)
        for tensor in self.program.inputs:
            convert_argument(entry, tensor, self.misfit)
        self._begin_transfer(entry)
        entry.run(self.program.segments[0])
        if self.chain.is_cut:
            self.chain.begin(entry, ending=int(wire is self.cbor))
        else:
            self._reply(entry, wire)
        self._log_first(entry, wire)
        return entry

    def _constant_reply(self, name: str, reply: bytes) -> Entry:
        entry = Entry.new(name, self.prices)
        entry.append(self.cold.constant(reply))
        entry.system("msg_reply")
        return entry

    # Their parts

    def _admit(self, entry: Entry) -> None:
        """Refuse who may not infer: every method that takes inputs, runs the model or gives outputs begins so."""
        self.guard.refuse_others(entry, self.policy.access, self.denied)

    def _admit_when_idle(self, entry: Entry) -> None:
        self._admit(entry)
        self.chain.refuse_if_busy(entry)

    def _claim_inputs(self, entry: Entry, wire: Wire) -> None:
        """The input buffers are this call's: by the parts that its caller sent, or in place of what anyone sent."""
        if not self.transfer or not self.put:
            return
        if wire is self.candid:
            self.transfer.refuse_unless_complete(entry, len(self.put.parts), self.incomplete)
        else:
            entry.store(self.transfer.next_part, 0)

    def _begin_transfer(self, entry: Entry) -> None:
        """The results that are still there are none any more; those to come are the caller's."""
        if self.transfer and not self.put:
            self.transfer.own(entry)
        if self.transfer:
            entry.store(self.transfer.results, 0)

    def _replies(self, wire: Wire) -> Reply:
        return lambda entry: self._reply(entry, wire)

    def _reply(self, entry: Entry, wire: Wire) -> None:
        for tensor in self.program.outputs:
            convert_result(entry, tensor)
        if self.transfer and self.get:
            entry.store(self.transfer.results, 1)
        wire.append(entry)
        entry.system("msg_reply")

    def _log_first(self, entry: Entry, wire: Wire) -> None:
        """Log the first message of a call, which is the inference's first one unless parts came before it."""
        if not (self.put and wire is self.candid):
            self.log.begin(entry)
        self.log.add(entry)
        if not self.chain.is_cut:
            self.log.finish(entry)


def _sizes(tensors: Sequence[BorderTensor]) -> list[int]:
    return [tensor.border_bytes for tensor in tensors]
