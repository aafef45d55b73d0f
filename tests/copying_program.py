"""The smallest program for tests of canisters: y = x, by a memory.copy in each segment."""

from __future__ import annotations

import json

import numpy as np

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors.candid import TensorType
from tosaic.wasm.function import Function
from tosaic.wasm.program import BorderTensor, SegmentCode, WasmProgram

X = PAGE_BYTES


def copying_program(prices: PriceList, segments: int = 1, size: int = 4) -> WasmProgram:
    """x and y are `size` numbers in float32."""
    pages = -(-4 * size // PAGE_BYTES)
    y, mask = X + pages * PAGE_BYTES, (1 << pages) - 1
    f = Function("copy", prices)
    for immediate in (y, X, 4 * size):
        f.i32(immediate)
    f.memory_copy(4 * size)
    code = SegmentCode("copy", f, mask << X // PAGE_BYTES, mask << y // PAGE_BYTES, True, 0)
    tensors = [BorderTensor(name, "float32", "f32", (size,), at) for name, at in (("x", X), ("y", y))]
    memory = y + pages * PAGE_BYTES
    return WasmProgram((tensors[0],), (tensors[1],), (code,) * segments, (), 4096, memory, 0, 0)


def tensor_types(size: int = 4) -> tuple[TensorType, TensorType]:
    return TensorType("float32", (size,), "x"), TensorType("float32", (size,), "y")


def numbers(size: int = 4) -> np.ndarray:
    return np.arange(size, dtype=np.float32)


def prices_with(**limits: int) -> PriceList:
    """The network's prices with other limits."""
    document = json.loads(json.dumps(PriceList.load().document))
    document["limits"] |= limits
    return PriceList(document)
