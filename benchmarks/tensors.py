"""What a tensor costs in each format: bytes, time to encode and decode, and instructions to decode in a canister.

    python benchmarks/tensors.py [--write]

The tensor is an image, float32[1, 3, 224, 224], named "image"; times are of float32[1, 16, 512, 512] (16 MiB), the
best of several, and depend on the machine. Decoding ends with a copy to an array of the reader's own, so that a view
of the message is not taken for work done. In the canister the message has a known layout: whatever is not data is
compared, the data are copied to their place; instructions are metered in the replica, page touches apart. --write puts
the table into docs/tensors.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cbor2
import numpy as np
from tables import table
from torch_mlir import ir

from tosaic.artifact.modules import new_context, to_bytecode
from tosaic.canister.entry import Entry, Region
from tosaic.canister.wire import Framing, Wire
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.replica import Replica
from tosaic.tensors.formats import FORMATS, Format
from tosaic.wasm.module import Module
from tosaic.wasm.program import BorderTensor

DOCUMENT = Path(__file__).parent.parent / "docs" / "tensors.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
NAME, SHAPE, LARGE_SHAPE = "image", (1, 3, 224, 224), (1, 16, 512, 512)
REPEATS = 7


@dataclass(frozen=True)
class Codec:
    """One way to write a tensor, and to read it into an array; `decode` is None where nothing here can."""

    name: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray] | None
    has_raw_data: bool = True


def random_tensor(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def own_codec(format: Format) -> Codec:
    def encode(array: np.ndarray) -> bytes:
        return b"".join(format.write({NAME: array}))

    def decode(data: bytes) -> np.ndarray:
        return next(iter(format.read(memoryview(data)).values()))

    return Codec(format.suffix, encode, decode)


def mlir_module(array: np.ndarray) -> bytes:
    """MLIR bytecode of a module that holds the tensor as a resource."""
    with new_context(), ir.Location.unknown():
        module = ir.Module.create()
        kind = ir.RankedTensorType.get(array.shape, ir.F32Type.get())
        flat = np.ascontiguousarray(array)
        module.operation.attributes[NAME] = ir.DenseResourceElementsAttr.get_from_buffer(flat, NAME, kind)
        return to_bytecode(module)


def baselines() -> list[Codec]:
    """What is used where typed arrays are not."""
    return [
        Codec("MLIR bytecode, a resource", mlir_module, None),
        Codec(
            "CBOR, an array of numbers (cbor2)",
            lambda array: cbor2.dumps({NAME: array.ravel().tolist()}, canonical=True),
            lambda data: np.array(cbor2.loads(data)[NAME], np.float32),
            has_raw_data=False,
        ),
        Codec(
            "JSON",
            lambda array: json.dumps({NAME: array.ravel().tolist()}).encode(),
            lambda data: np.array(json.loads(data)[NAME], np.float32),
            has_raw_data=False,
        ),
    ]


def best_seconds(work: Callable[[], object]) -> float:
    """The fastest of several runs; slow work runs only as often as takes a few seconds."""
    found, started = [], time.perf_counter()
    while len(found) < REPEATS and (not found or time.perf_counter() - started < 5):
        before = time.perf_counter()
        work()
        found.append(time.perf_counter() - before)
    return min(found)


def speeds(codec: Codec) -> tuple[float, float | None]:
    """GB/s of tensor data, encoded and decoded."""
    array = random_tensor(LARGE_SHAPE)
    data = codec.encode(array)
    encoded = array.nbytes / best_seconds(lambda: codec.encode(array)) / 1e9
    if codec.decode is None:
        return encoded, None
    decode, target = codec.decode, np.empty_like(array).ravel()
    assert np.array_equal(decode(data).ravel(), array.ravel())
    seconds = best_seconds(lambda: np.copyto(target, decode(data).ravel()))
    return encoded, array.nbytes / seconds / 1e9


def canister_instructions(codec: Codec, prices: PriceList) -> int | None:
    """What a canister's method takes that reads the image from its argument; None if the data do not end it."""
    array = random_tensor(SHAPE)
    data = codec.encode(array)
    if not data.endswith(array.tobytes()):
        return None
    tensor = BorderTensor(NAME, "float32", "f32", SHAPE, PAGE_BYTES)
    framing = Framing((tensor,), (data[: -array.nbytes],))
    return _metered(framing, data, prices) - _metered(Framing((), (b"",)), b"", prices)


def _metered(framing: Framing, argument: bytes, prices: PriceList) -> int:
    cold = Region(16 * PAGE_BYTES)
    wire = Wire("decode", "a tensor", framing, Framing((), (b"",)), Region(0, PAGE_BYTES), cold)
    entry = Entry.new("decode", prices)
    wire.check(entry)
    wire.copy(entry)
    entry.system("msg_reply")
    module = Module(32, {"canister_update decode": entry.function}, data=cold.data)
    (message,) = Replica(prices).install(module.encode()).update("decode", argument).messages
    return message.metered - message.page_touch


def row(codec: Codec, prices: PriceList) -> list[str]:
    array = random_tensor(SHAPE)
    data = codec.encode(array)
    offset = data.find(array.tobytes())
    encoded, decoded = speeds(codec)
    instructions = canister_instructions(codec, prices)
    return [
        codec.name,
        f"{len(data) - array.nbytes:,}",
        f"{offset} ({offset & -offset})" if offset >= 0 else "",
        f"{encoded:.2g}",
        f"{decoded:.2g}" if decoded else "",
        f"{instructions:,}" if instructions else "",
        f"{instructions / array.nbytes:.3f}" if instructions else "",
    ]


def measured(prices: PriceList) -> str:
    titles = [
        "format", "bytes besides the data", "data begin at (aligned to)", "encode GB/s", "decode GB/s",
        "instructions in a canister", "per byte",
    ]  # fmt: skip
    codecs = [*map(own_codec, FORMATS), *baselines()]
    return table(titles, [row(codec, prices) for codec in codecs])


def write(text: str) -> None:
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/tensors.md")
    given = parser.parse_args()
    text = measured(PriceList.load())
    print(text)
    if given.write:
        write(text)


if __name__ == "__main__":
    main()
