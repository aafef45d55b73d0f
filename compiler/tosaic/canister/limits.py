"""What a canister uses of the network's limits: those for its module, and those for its messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tosaic.canister.assemble import Canister
from tosaic.canister.planned_message import STEP, PlannedMessage
from tosaic.limits import LESS_MEMORY, FunctionSize, module_usage
from tosaic.prices import PriceList
from tosaic.wasm.decode import BinaryModule
from tosaic_passes.limit_usage import LimitUsage


def canister_usage(canister: Canister, limit_instructions: int, prices: PriceList) -> list[LimitUsage]:
    """What the canister uses of each limit; `limit_instructions` holds for its update messages."""
    functions = [FunctionSize(f.operators, f.complexity) for f in canister.module.functions()]
    module = BinaryModule.parse(canister.wasm)
    return [
        *module_usage(canister.wasm, module, functions, prices),
        *_message_usage(canister, limit_instructions, prices),
    ]


def _message_usage(canister: Canister, limit_instructions: int, prices: PriceList) -> list[LimitUsage]:
    messages = [*canister.messages, *canister.uploads]
    updates = [message for message in messages if message.kind != "query"]
    queries = [message for message in messages if message.kind == "query"]
    queries += [canister.query] if canister.query else []
    limits = prices.limits
    update, dearest = _dearest([*updates, *canister.fetches], prices)
    query, dearest_query = _dearest(queries, prices)
    return [
        LimitUsage(
            f"instructions of a message ({dearest})", update, limit_instructions, f"give --limit {update}"
        ),
        LimitUsage(
            f"instructions of a query ({dearest_query})", query, limits["query_instructions"], LESS_MEMORY
        ),
        LimitUsage("bytes of an argument", _received(messages), limits["ingress_bytes"], LESS_MEMORY),
        LimitUsage("bytes of a reply", _replied(updates), limits["reply_bytes"], LESS_MEMORY),
        LimitUsage("bytes of a query's reply", _replied(queries), limits["query_reply_bytes"], LESS_MEMORY),
    ]


def _dearest(messages: Iterable[PlannedMessage], prices: PriceList) -> tuple[int, str]:
    """The instructions and the name of the dearest message."""
    return max(((message.instructions(prices), message.name) for message in messages), default=(0, "none"))


def _received(messages: Sequence[PlannedMessage]) -> int:
    """The longest argument that comes from outside."""
    received = [m.received_bytes - len(m.name) for m in messages if m.received_bytes and m.name != STEP]
    return max(received, default=0)


def _replied(messages: Sequence[PlannedMessage]) -> int:
    return max((message.replied_bytes for message in messages), default=0)
