"""The smallest program for tests of canisters: y = x, by a memory.copy in each segment."""

from __future__ import annotations

import json

import numpy as np

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.tensors.candid import TensorType
from tosaic.wasm.function import Function
from tosaic.wasm.program import BorderTensor, SegmentCode, WasmProgram

X, Y = PAGE_BYTES, 2 * PAGE_BYTES


def copying_program(prices: PriceList, segments: int = 1, size: int = 4) -> WasmProgram:
    """x and y are `size` numbers in float32, less than a page."""
    f = Function("copy", prices)
    for immediate in (Y, X, 4 * size):
        f.i32(immediate)
    f.memory_copy(4 * size)
    code = SegmentCode("copy", f, 1 << X // PAGE_BYTES, 1 << Y // PAGE_BYTES, True, 0)
    x, y = (BorderTensor(name, "float32", "f32", (size,), at) for name, at in (("x", X), ("y", Y)))
    return WasmProgram((x,), (y,), (code,) * segments, (), 4096, 3 * PAGE_BYTES, 0, 0)


def tensor_types(size: int = 4) -> tuple[TensorType, TensorType]:
    return TensorType("float32", (size,), "x"), TensorType("float32", (size,), "y")


def numbers(size: int = 4) -> np.ndarray:
    return np.arange(size, dtype=np.float32)


def prices_with(**limits: int) -> PriceList:
    """The network's prices with other limits."""
    document = json.loads(json.dumps(PriceList.load().document))
    document["limits"] |= limits
    return PriceList(document)
