"""Models that fetch shared weights from a store, in the replica: what is uploaded, what the fetch takes.

    python benchmarks/sharing.py [--only a,b] [--write]

Each network is compiled with its weights to be uploaded: as it is, under a limit of a third of what it takes, and with
a new head for as many classes. One store serves the three canisters. It fails where a message takes something else than
predicted, or where a canister answers something else than the one that holds its weights in the module. --write puts
the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import networks
import numpy as np
import onnx
from reuse import with_new_head
from run import write
from tables import table

from tosaic import driver
from tosaic.artifact.contents import Compilation
from tosaic.canister import client
from tosaic.canister.store import Store, assemble_store
from tosaic.canister.store.client import StoreClient, by_digest
from tosaic.options import CompileOptions
from tosaic.prices import PriceList
from tosaic.replica import InstalledCanister, Message, Replica
from tosaic.tensors.candid import TensorType

PRICES = PriceList.load()
HEADERS = (
    "model", "canister", "chunks", "put into the store", "M cycles", "messages of the fetch", "M instructions",
    "of the store", "M cycles of the fetch", "M cycles to upload instead",
)  # fmt: skip


def rows(name: str) -> Iterator[Sequence[str]]:
    model = networks.NETWORKS[name]()
    store = assemble_store(PRICES)
    replica = Replica(PRICES)
    keeper = StoreClient(replica.install(store.wasm))
    for number, (what, changed, limit) in enumerate(_variants(model)):
        options = CompileOptions(limit_instructions=limit, weights="uploaded")
        compilation = driver.compile_to_canister(changed, options)
        canister = replica.install(compilation.canister.wasm)
        sizes = _fill(keeper, compilation)
        keeper.allow(canister.id)
        messages = client.fetch_chunks(canister, keeper.canister.id)
        _check_fetch(messages, compilation, store, keeper.status().chunks)
        _check_answer(changed, limit, compilation, canister)
        puts = sum(store.put_chunk(size, keeper.status().chunks).cycles(PRICES) for size in sizes)
        yield [
            "" if number else name, what, str(len(compilation.canister.weights)), str(len(sizes)), _millions(puts),
            *_fetch_cells(messages, compilation, store, keeper.status().chunks),
        ]  # fmt: skip


def _variants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto, int | None]]:
    yield "as it is", model, None
    messages = driver.compile_to_canister(model, CompileOptions()).canister.messages
    limit = sum(message.instructions(PRICES) for message in messages) // 3
    yield "another limit", model, limit
    classes = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    yield f"a new head of {classes} classes", with_new_head(model, classes, classes)[0], None


def _fill(keeper: StoreClient, compilation: Compilation) -> list[int]:
    """Upload what the store lacks; the bytes of each chunk."""
    chunks = by_digest(chunk.data for chunk in compilation.canister.weights)
    return [len(chunks[digest]) for digest in keeper.upload(chunks)]


def _check_fetch(messages: Sequence[Message], compilation: Compilation, store: Store, count: int) -> None:
    own, given = _parts(messages)
    predicted = [message.instructions(PRICES) for message in compilation.canister.fetches]
    sizes = [len(chunk.data) for chunk in compilation.canister.weights]
    giving = [store.get_chunk(size, count).instructions(PRICES) for size in sizes]
    if [m.metered for m in own] != predicted or [m.metered for m in given] != giving:
        raise SystemExit("a fetch took something else than was predicted")


def _check_answer(
    model: onnx.ModelProto, limit: int | None, compilation: Compilation, canister: InstalledCanister
) -> None:
    """The canister answers what one answers that holds the weights in its module."""
    whole = driver.compile_to_canister(model, CompileOptions(limit_instructions=limit))
    other = Replica(PRICES).install(whole.canister.wasm)
    answers = [_answer(compilation, canister), _answer(whole, other)]
    if not np.array_equal(*answers):
        raise SystemExit("fetched weights give other results than those in the module")


def _answer(compilation: Compilation, canister: InstalledCanister) -> np.ndarray:
    program, random = compilation.wasm_program, np.random.default_rng(0)
    inputs, outputs = (
        [TensorType(t.dtype, t.shape, t.name) for t in tensors]
        for tensors in (program.inputs, program.outputs)
    )
    arrays = [random.standard_normal(t.shape).astype(t.dtype) for t in inputs]
    return client.infer(canister, inputs, outputs, arrays, PRICES).outputs[0]


def _fetch_cells(
    messages: Sequence[Message], compilation: Compilation, store: Store, count: int
) -> list[str]:
    own, given = _parts(messages)
    giving = [store.get_chunk(len(chunk.data), count) for chunk in compilation.canister.weights]
    start = PRICES.cycles["per_update_message"]
    cycles = sum(m.cycles(PRICES) for m in compilation.canister.fetches)
    cycles += sum(start + m.instructions(PRICES) for m in giving)
    uploads = sum(message.cycles(PRICES) for message in compilation.canister.uploads)
    return [
        str(len(own)), _millions(sum(m.metered for m in own)), _millions(sum(m.metered for m in given)),
        _millions(cycles), _millions(uploads),
    ]  # fmt: skip


def _parts(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The messages of the model's canister, and those of the store."""
    own = [message for message in messages if message.name != "get_chunk"]
    return own, [message for message in messages if message.name == "get_chunk"]


def _millions(number: int) -> str:
    return f"{number / 1e6:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="resnet18", help="names of networks, comma-separated")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    given = parser.parse_args()
    text = table(HEADERS, [row for name in given.only.split(",") for row in rows(name)])
    print(text)
    if given.write:
        write(text, "sharing", "python benchmarks/sharing.py --write")


if __name__ == "__main__":
    main()
