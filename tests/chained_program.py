"""Programs written by hand for tests of canisters: a sum in any number of segments, and a copy of any dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy)
import numpy as np

from tosaic.prices import PriceList
from tosaic.replica import Response
from tosaic.replica.message import Reject
from tosaic.tensors.candid import TensorType, decode, encode
from tosaic.wasm.function import Function
from tosaic.wasm.program import BorderTensor, SegmentCode, WasmProgram

PRICES = PriceList.load()
X, N, Y, M = 1 << 16, (2 << 16) - 8, 3 << 16, (3 << 16) + 4096
"""Addresses: x: float32[4], n: int64[2] (which straddles two pages), y: float32[4], m: int64[2]."""
POISON = 1e9
"""In x[k] it makes segment k trap."""

ARGUMENT = encode([np.array([1.5, 2.0, -3.0, 0.25], np.float32), np.array([7, -(1 << 31)], np.int64)])
RESULTS = [TensorType("float32", (4,), "y"), TensorType("int64", (2,), "m")]


def pages(*places: tuple[int, int]) -> int:
    return sum(1 << p for p in {p >> 16 for a, n in places for p in (a, a + n - 1)})


def segment(k: int) -> SegmentCode:
    """y = x and m = n in segment 0, y += x and m ^= n (i32) in later ones."""
    f = Function(f"segment_{k}", PRICES)
    f.i32(0)
    f.memory("f32.load", X + 4 * min(k, 3))
    f.f32(POISON)
    f.op("f32.eq")
    with f.if_(taken=False):
        f.op("unreachable")
    for source, target, load, store, add in (
        (X, Y, "v128.load", "v128.store", "f32x4.add"),
        (N, M, "v128.load64_zero", "v128.store", "v128.xor"),
    ):
        f.i32(target)
        f.i32(0)
        f.memory(load, source)
        if k:
            f.i32(0)
            f.memory("v128.load", target)
            f.op(add)
        f.memory(store)
    written = pages((Y, 16), (M, 16))
    return SegmentCode(f.name, f, pages((X, 16), (N, 8)) | (written if k else 0), written, True, 0)


def program(segments: int) -> WasmProgram:
    return WasmProgram(
        (BorderTensor("x", "float32", "f32", (4,), X), BorderTensor("n", "int64", "i32", (2,), N)),
        (BorderTensor("y", "float32", "f32", (4,), Y), BorderTensor("m", "int64", "i32", (2,), M)),
        tuple(segment(k) for k in range(segments)),
        (), 4096, 4 << 16, 0, 0,
    )  # fmt: skip


def expected(segments: int) -> list[np.ndarray]:
    x, n = decode(ARGUMENT, [TensorType("float32", (4,)), TensorType("int64", (2,))])
    y = x
    for _ in range(segments - 1):
        y = y + x
    return [y, n if segments % 2 else n * 0]


def check(response: Response, segments: int) -> None:
    for found, right in zip(decode(response.reply, RESULTS), expected(segments)):
        np.testing.assert_array_equal(found, right)


def rejection(response: Response) -> str:
    assert isinstance(response.result, Reject)
    return response.result.text


VALUES = {
    ("uint8", "i32"): [0, 255, 7], ("uint8", "i8"): [0, 255, 7], ("int8", "i16"): [-128, 127, 0],
    ("uint16", "i16"): [0, 65535, 1], ("uint16", "i32"): [0, 65535, 1], ("uint64", "i32"): [0, 2**32 - 1, 1],
    ("uint32", "i32"): [0, 2**32 - 1, 1], ("int64", "i64"): [-(2**63), 2**63 - 1, 1],
    ("int64", "i48"): [-(2**47), 2**47 - 1, 1],
    ("int64", "i32"): [-(2**31), 2**31 - 1, 1], ("int4", "i8"): [-8, 7, 0], ("uint4", "i8"): [0, 15, 3],
    ("bool", "i1"): [1, 0, 1], ("float64", "f32"): [1.5, -2.0, 0.1], ("float16", "f16"): [1.5, -2.0, 3.0],
    ("bfloat16", "bf16"): [1.5, -2.0, 3.0], ("float8_e4m3fn", "f8E4M3FN"): [1.5, -2.0, 3.0],
}  # fmt: skip


def copying(dtype: str, element: str, size: int) -> WasmProgram:
    """A program whose one result is its one argument."""
    return copying_all([BorderTensor("x", dtype, element, (size,), X)], ["y"])


def copying_all(inputs: Sequence[BorderTensor], outputs: Sequence[str]) -> WasmProgram:
    """A program whose results, with these names, are its arguments; all lie within a page from `X`."""
    f = Function("copy", PRICES)
    results = tuple(replace(t, name=name, address=t.address + Y - X) for t, name in zip(inputs, outputs))
    reads = writes = 0
    for given, result in zip(inputs, results):
        for immediate in (result.address, given.address, given.memory_bytes):
            f.i32(immediate)
        f.memory_copy(given.memory_bytes)
        reads |= pages((given.address, given.memory_bytes))
        writes |= pages((result.address, result.memory_bytes))
    code = SegmentCode("copy", f, reads, writes, True, 0)
    return WasmProgram(tuple(inputs), results, (code,), (), 4096, 5 << 16, 0, 0)
