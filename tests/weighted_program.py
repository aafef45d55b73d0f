"""A small program with weights in many small chunks, under prices by which no module holds weights."""

from __future__ import annotations

import json

import numpy as np

from tosaic.prices import PriceList
from tosaic.replica import InstalledCanister
from tosaic.tensors.candid import TensorType, decode, encode
from tosaic.wasm.function import Function
from tosaic.wasm.module import DataSegment
from tosaic.wasm.program import BorderTensor, SegmentCode, WasmProgram


def small_modules() -> PriceList:
    """The network's prices with chunks of 960 bytes and modules that hold no weights."""
    document = json.loads(json.dumps(PriceList.load().document))
    limits = document["limits"]
    limits["module_bytes"] = limits["code_section_bytes"] + limits["custom_section_bytes"] + 3000
    limits["chunk_bytes"] = 960
    return PriceList(document)


PRICES = small_modules()
X, Y, WEIGHTS = 1 << 16, 2 << 16, 3 << 16
FIRST, GAP, SECOND = 65_600, 16, 1_000
"""Two weights: 70 chunks, one over the end of a page, one over the gap; the last is shorter."""
COUNT = -(-(FIRST + GAP + SECOND) // 960)
ARGUMENT = encode([np.ones(4, np.float32)])


def weights(seed: int = 0, head: int = 0) -> tuple[bytes, bytes]:
    """The second weight is the head's: other seeds of it leave the first as it is."""
    return np.random.default_rng(seed).bytes(FIRST), np.random.default_rng([seed, head]).bytes(SECOND)


def image(seed: int = 0, head: int = 0) -> bytes:
    """The weights as they lie in memory."""
    first, second = weights(seed, head)
    return first + bytes(GAP) + second


def program(segments: int = 1, seed: int = 0, head: int = 0) -> WasmProgram:
    """y = x xor the last 16 bytes of either weight."""
    f = Function("segment", PRICES)
    f.i32(Y)
    f.i32(X)
    f.memory("v128.load")
    for end in (FIRST, FIRST + GAP + SECOND):
        f.i32(WEIGHTS + end - 16)
        f.memory("v128.load")
        f.op("v128.xor")
    f.memory("v128.store")
    pages = 1 << (X >> 16) | 1 << (WEIGHTS + FIRST >> 16)
    code = SegmentCode("segment", f, pages, 1 << (Y >> 16), True, 0)
    first, second = weights(seed, head)
    size = FIRST + GAP + SECOND
    return WasmProgram(
        (BorderTensor("x", "float32", "f32", (4,), X),), (BorderTensor("y", "float32", "f32", (4,), Y),),
        (code,) * segments, (DataSegment(WEIGHTS, first), DataSegment(WEIGHTS + FIRST + GAP, second)),
        4096, WEIGHTS + size, 0, size,
    )  # fmt: skip


def expected(seed: int = 0, head: int = 0) -> bytes:
    """What the program gives for ARGUMENT."""
    first, second = (np.frombuffer(w[-16:], np.uint8) for w in weights(seed, head))
    return (np.ones(4, np.float32).view(np.uint8) ^ first ^ second).tobytes()


def result(installed: InstalledCanister) -> bytes:
    """What a canister of the program gives for ARGUMENT."""
    (y,) = decode(installed.update("infer", ARGUMENT).reply, [TensorType("float32", (4,), "y")])
    return y.tobytes()
