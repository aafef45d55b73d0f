"""From a program in WebAssembly to an installable canister."""

from __future__ import annotations

from dataclasses import dataclass

from tosaic.canister.chunks import PUT_CHUNK, WeightChunk
from tosaic.canister.interface import Methods, interface_text
from tosaic.canister.messages import Messages, PlannedMessage
from tosaic.canister.parts import put_argument_bytes
from tosaic.policy import DEFAULT_POLICY, Policy
from tosaic.prices import PriceList
from tosaic.wasm.module import Module
from tosaic.wasm.program import WasmProgram

_CANDID_SECTION = "icp:public candid:service"


@dataclass(frozen=True)
class Canister:
    """An installable module, its Candid interface, and the messages of one inference in order.

    `weights` is what a controller uploads with `put_chunk` after the installation: nothing where the module holds the
    weights. `query` is the message of `infer_query`, or None where the canister has no such method.
    """

    wasm: bytes
    did: str
    messages: tuple[PlannedMessage, ...]
    query: PlannedMessage | None
    module: Module
    weights: tuple[WeightChunk, ...] = ()

    @property
    def uploads(self) -> tuple[PlannedMessage, ...]:
        """The messages that upload the weights, in the order of the chunks."""
        return tuple(
            PlannedMessage(
                PUT_CHUNK,
                "update",
                chunk.charge,
                exact=True,
                received_bytes=len(PUT_CHUNK) + put_argument_bytes(len(chunk.data)),
            )
            for chunk in self.weights
        )


def assemble(
    program: WasmProgram, prices: PriceList, info: str = "{}", policy: Policy = DEFAULT_POLICY
) -> Canister:
    """Build the canister. `info` is the JSON that its method `info` replies.

    Raises:
        TosaicError: Candid cannot carry an input or output.
    """
    messages = Messages(program, prices, policy, info)
    did = interface_text(program.inputs, program.outputs, Methods.of(messages))
    custom = {_CANDID_SECTION: did.encode()}
    module = Module(
        messages.memory_pages, messages.exports, messages.table, messages.data, custom,
        messages.weight_data, prices.limits["chunk_bytes"],
    )  # fmt: skip
    weights = messages.weights.uploads if messages.weights else ()
    return Canister(
        module.encode(), did, tuple(messages.planned()), messages.planned_query(), module, weights
    )
