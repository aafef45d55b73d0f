"""What users of a compiled canister do: upload the weights; send the inputs, call `infer`, take the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tosaic.canister.chunks import CHUNKS, PUT_CHUNK
from tosaic.canister.cost_log import LAST_COST
from tosaic.canister.fetch import FETCH_CHUNKS, fetch_argument
from tosaic.canister.messages import INFER, INFER_CBOR
from tosaic.canister.parts import GET, PUT, get_argument, needs_parts, parts_of, put_argument
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS
from tosaic.replica.message import Message, Response
from tosaic.replica.pocket_ic import PocketIcCanister
from tosaic.replica.replica import InstalledCanister
from tosaic.tensors import candid, cbor
from tosaic.tensors.candid import TensorType
from tosaic.tensors.dtypes import dtype_of


@dataclass(frozen=True)
class Inference:
    """The outputs in the order of the model, and every message that was executed for them."""

    outputs: list[np.ndarray]
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Cost:
    """What the network counted for an inference: instructions in all, and of each of its first update messages."""

    instructions: int
    messages: tuple[int, ...]


def infer(
    canister: InstalledCanister | PocketIcCanister,
    inputs: Sequence[TensorType],
    outputs: Sequence[TensorType],
    arrays: Sequence[np.ndarray],
    prices: PriceList,
    caller: bytes = ANONYMOUS,
) -> Inference:
    """One inference on these arrays, which have the dtypes and shapes of `inputs`.

    Raises:
        TosaicError: an array is of another dtype or shape, or the canister rejects a call.
    """
    _check(inputs, arrays)
    messages: list[Message] = []

    def answer(response: Response) -> bytes:
        messages.extend(response.messages)
        return response.reply

    in_parts = needs_parts([t.bytes for t in inputs], prices.limits["ingress_bytes"])
    if in_parts:
        for argument in _put_arguments(arrays, prices.limits["chunk_bytes"]):
            answer(canister.update(PUT, argument, caller))
    reply = answer(canister.update(INFER, candid.encode([] if in_parts else arrays), caller))
    if not needs_parts([t.bytes for t in outputs], prices.limits["reply_bytes"]):
        return Inference(candid.decode(reply, outputs), tuple(messages))
    data = [bytearray() for _ in outputs]
    for number, part in enumerate(parts_of([t.bytes for t in outputs], prices.limits["chunk_bytes"])):
        (blob,) = candid.decode_values(answer(canister.query(GET, get_argument(number), caller)))
        data[part.tensor] += np.asarray(blob).tobytes()
    found = [candid.tensor_of(bytes(d), type) for d, type in zip(data, outputs)]
    return Inference(found, tuple(messages))


def infer_cbor(
    canister: InstalledCanister | PocketIcCanister,
    inputs: Sequence[TensorType],
    outputs: Sequence[TensorType],
    arrays: Sequence[np.ndarray],
    caller: bytes = ANONYMOUS,
) -> Inference:
    """One inference on these arrays, which have the dtypes and shapes of `inputs`, by one item of CBOR.

    Raises:
        TosaicError: an array is of another dtype or shape, or the canister has no such method or rejects the call.
    """
    _check(inputs, arrays)
    item = b"".join(cbor.write_cbor({type.name: array for type, array in zip(inputs, arrays)}))
    response = canister.update(INFER_CBOR, candid.encode([np.frombuffer(item, np.uint8)]), caller)
    (blob,) = candid.decode_values(response.reply)
    found = cbor.read_cbor(memoryview(np.asarray(blob).tobytes()))
    return Inference([found[type.name] for type in outputs], response.messages)


def last_cost(canister: InstalledCanister | PocketIcCanister, caller: bytes = ANONYMOUS) -> Cost:
    """What the canister says of the last inference that was finished; 0 and nothing before the first one.

    Raises:
        TosaicError: the canister rejects the call.
    """
    reply = canister.query(LAST_COST, candid.encode([]), caller).reply
    instructions, messages = map(np.asarray, candid.decode_values(reply))
    return Cost(int(instructions), tuple(messages.tolist()))


def missing_chunks(canister: InstalledCanister | PocketIcCanister) -> list[int]:
    """The chunks of the weights that the canister still lacks."""
    _, present = candid.decode_values(canister.query(CHUNKS, candid.encode([])).reply)
    return np.flatnonzero(np.asarray(present) == 0).tolist()


def put_chunk(
    canister: InstalledCanister | PocketIcCanister,
    number: int,
    data: bytes | memoryview,
    controller: bytes = ANONYMOUS,
) -> tuple[Message, ...]:
    """Upload a chunk of the weights; the messages that were executed.

    Raises:
        TosaicError: the canister refuses it.
    """
    response = canister.update(PUT_CHUNK, put_argument(number, bytes(data)), controller)
    _ = response.reply
    return response.messages


def fetch_chunks(
    canister: InstalledCanister, store: bytes, controller: bytes = ANONYMOUS
) -> tuple[Message, ...]:
    """Let the canister fetch the chunks that it lacks from a store; the messages that were executed.

    Raises:
        TosaicError: the canister or the store refuses; what has arrived stays.
    """
    response = canister.update(FETCH_CHUNKS, fetch_argument(store), controller)
    _ = response.reply
    return response.messages


def _put_arguments(arrays: Sequence[np.ndarray], part_bytes: int) -> list[bytes]:
    data = [candid.tensor_bytes(array) for array in arrays]
    return [
        put_argument(number, data[part.tensor][part.offset : part.offset + part.size])
        for number, part in enumerate(parts_of([len(d) for d in data], part_bytes))
    ]


def _check(types: Sequence[TensorType], arrays: Sequence[np.ndarray]) -> None:
    for type, array in zip(types, arrays, strict=True):
        if (array.dtype, array.shape) != (dtype_of(type.dtype), type.shape):
            raise TosaicError(
                f"input '{type.name}' is {array.dtype}{list(array.shape)} and must be {type.dtype}{list(type.shape)}"
            )
