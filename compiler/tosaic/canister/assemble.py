"""From a program in WebAssembly to an installable canister."""

from __future__ import annotations

from dataclasses import dataclass

from tosaic.canister.interface import interface_text
from tosaic.canister.messages import Messages, PlannedMessage
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.module import Module
from tosaic.wasm.program import WasmProgram

_CANDID_SECTION = "icp:public candid:service"


@dataclass(frozen=True)
class Canister:
    """An installable module, its Candid interface, and the messages of one inference in order.

    `query` is the message of `infer_query`, or None where the canister has no such method.
    """

    wasm: bytes
    did: str
    messages: tuple[PlannedMessage, ...]
    query: PlannedMessage | None
    module: Module


def assemble(program: WasmProgram, prices: PriceList, info: str = "{}") -> Canister:
    """Build the canister. `info` is the JSON that its method `info` replies.

    Raises:
        TosaicError: an argument or a reply is larger than a message carries.
    """
    _check_payloads(program, prices)
    messages = Messages(program, prices, info)
    query = messages.planned_query()
    if query and query.instructions(prices) > prices.limits["query_instructions"]:
        query = None
    exports = messages.exports
    if query is None:
        exports.pop("canister_query infer_query", None)
    did = interface_text(program.inputs, program.outputs, query is not None)
    custom = {_CANDID_SECTION: did.encode()}
    module = Module(messages.memory_pages, exports, messages.table, messages.data, custom)
    return Canister(module.encode(), did, tuple(messages.planned()), query, module)


def _check_payloads(program: WasmProgram, prices: PriceList) -> None:
    for what, tensors, limit in (
        ("inputs", program.inputs, prices.limits["ingress_bytes"]),
        ("outputs", program.outputs, prices.limits["reply_bytes"]),
    ):
        size = sum(tensor.border_bytes for tensor in tensors)
        if size > limit:
            raise TosaicError(
                f"the {what} of the model have {size:,} bytes and a message carries at most {limit:,}",
                f"make the {what} smaller, for example with a smaller batch or image",
            )
