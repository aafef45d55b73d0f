"""From a program in WebAssembly to an installable canister."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from tosaic.canister.chunks import PUT_CHUNK, WeightChunk
from tosaic.canister.interface import Methods, interface_text
from tosaic.canister.messages import Messages
from tosaic.canister.parts import put_argument_bytes
from tosaic.canister.planned_message import PlannedMessage
from tosaic.policy import DEFAULT_POLICY, Policy
from tosaic.prices import PriceList
from tosaic.wasm.module import Module
from tosaic.wasm.program import WasmProgram

CANDID_SECTION = "candid:service"
"""Where tools look for a canister's interface."""
PUBLIC = "icp:public "
"""What the names of custom sections begin with that anyone can read from the network."""


@dataclass(frozen=True)
class Canister:
    """An installable module, its Candid interface, and the messages of one inference in order.

    `cbor` are the messages of `infer_cbor`, or None where the canister has no such method. `weights` is what a
    controller uploads with `put_chunk` after the installation: nothing where the module holds the weights. `query` is
    the message of `infer_query`, or None where the canister has no such method.
    """

    did: str
    messages: tuple[PlannedMessage, ...]
    query: PlannedMessage | None
    cbor: tuple[PlannedMessage, ...] | None
    module: Module
    weights: tuple[WeightChunk, ...] = ()
    fetches: tuple[PlannedMessage, ...] = ()
    gives: tuple[PlannedMessage, ...] = ()

    @cached_property
    def wasm(self) -> bytes:
        """The module in its binary form."""
        return self.module.encode()

    def with_metadata(self, name: str, content: bytes) -> Canister:
        """The canister with a further piece of metadata that anyone can read from the network."""
        return replace(self, module=_with_metadata(self.module, name, content))

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
    module = Module(
        messages.memory_pages,
        messages.exports,
        messages.table,
        messages.data,
        weights=messages.weight_data,
        chunk_bytes=prices.limits["chunk_bytes"],
    )
    module = _with_metadata(module, CANDID_SECTION, did.encode())
    weights = messages.weights.uploads if messages.weights else ()
    cbor = messages.planned_cbor()
    return Canister(
        did,
        tuple(messages.planned()),
        messages.planned_query(),
        tuple(cbor) if cbor is not None else None,
        module,
        weights,
        messages.weights.fetches if messages.weights else (),
        messages.weights.gives if messages.weights else (),
    )


def _with_metadata(module: Module, name: str, content: bytes) -> Module:
    return replace(module, custom={**module.custom, f"{PUBLIC}{name}": content})
