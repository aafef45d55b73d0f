"""The program as WebAssembly: one function a segment, constant addresses, and the memory around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES
from tosaic.wasm.module import DataSegment


@dataclass(frozen=True)
class BorderTensor:
    """An input or output of the model at a fixed address.

    `dtype` is the ONNX dtype that callers see (numpy or ml_dtypes spelling), `element` the MLIR spelling of what the
    kernels work on. The bytes at `address` always lie densely in row-major order, aligned to 16, and `room`
    suffices for both: the entry code copies an argument to `address` and narrows it there, front to back, and
    widens a result there, back to front. A bool is a byte that is 0 or 1.
    """

    name: str
    dtype: str
    element: str
    shape: tuple[int, ...]
    address: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def border_bytes(self) -> int:
        """Bytes of the tensor as callers see it."""
        return self.size * border_itemsize(self.dtype)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the tensor as the kernels see it."""
        return self.size * ELEMENT_BYTES[self.element]

    @property
    def room(self) -> int:
        """Bytes from `address` on that belong to the tensor while it is converted."""
        return max(self.border_bytes, self.memory_bytes)


@dataclass(frozen=True, eq=False)
class SegmentCode:
    """A segment: `function` takes and returns nothing, its tensors are where the memory plan put them.

    `function.cost` is the price of one call without page touches; `reads` and `writes` are bit masks of the pages
    (bit n: bytes from n * 65536) that a call touches. Where `exact` is False all of these are upper bounds.
    `live_bytes` is what later segments and the reply still need from memory when this one has run.
    """

    name: str
    function: Function
    reads: int
    writes: int
    exact: bool
    macs: int
    live_bytes: int = 0


@dataclass(frozen=True, eq=False)
class WasmProgram:
    """Everything of a canister but its entry points.

    The bytes [0, control_bytes) are free for the entry code: its constants and its state. They share their page
    with tensors in constant use, since a touched page is paid for once a message.
    """

    inputs: tuple[BorderTensor, ...]
    outputs: tuple[BorderTensor, ...]
    segments: tuple[SegmentCode, ...]
    data: tuple[DataSegment, ...]
    control_bytes: int
    memory_bytes: int
    arena_bytes: int
    weight_bytes: int

    @property
    def memory_pages(self) -> int:
        return -(-self.memory_bytes // PAGE_BYTES)

    @property
    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return sum(segment.macs for segment in self.segments)

    @property
    def instructions(self) -> int:
        """Instructions of all segments, without page touches and messages."""
        return sum(segment.function.cost for segment in self.segments)


_BORDER_ITEMSIZE: Mapping[str, int] = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def border_itemsize(dtype: str) -> int:
    """Bytes of one element of an ONNX dtype at the border."""
    return _BORDER_ITEMSIZE.get(dtype) or np.dtype(dtype).itemsize
