"""Where the weights lie: in memory, and in the same order in chunks that other programs have as well.

The network stores a module in chunks, named by their content. So that programs with the same weights share chunks,
a chunk of weights is to depend on little else:

- A weight of a chunk or more begins a chunk: all chunks that it fills hold nothing else.
- The others of 128 KiB or more follow one another in the order of their first use, so what comes later changes nothing
  before it. Some begin a chunk, too, and what decides is their own content: they do in one of 4 MiB. Behind such a
  weight all is again as in any other program with the same weights, whatever came before.
- Smaller ones, in the order of their first use, fill what is left free before such a beginning. So they lie close
  together, in few pages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.module import DataSegment

ALIGNMENT = 16
"""Bytes to which every buffer is aligned: a vector."""
_BYTES_PER_BEGINNING = 4 << 20
_SMALL_BYTES = 128 << 10


@dataclass(eq=False)
class _Weight:
    """One content. `alone`: it lies in pages of its own."""

    raw: np.ndarray
    digest: bytes
    alone: bool = False
    address: int = -1

    @property
    def room(self) -> int:
        return aligned(self.raw.nbytes, self.alignment)

    @property
    def alignment(self) -> int:
        return PAGE_BYTES if self.alone else ALIGNMENT

    def is_small(self, chunk_bytes: int) -> bool:
        return self.room < min(_SMALL_BYTES, chunk_bytes) and not self.alone

    def begins_chunk(self, chunk_bytes: int) -> bool:
        if self.room >= chunk_bytes:
            return True
        return int.from_bytes(self.digest[:4], "big") * _BYTES_PER_BEGINNING < self.room << 32


@dataclass
class _Gap:
    """Free bytes between two weights."""

    start: int
    end: int


@dataclass
class WeightImage:
    """The constants of a program, each content once: first all are added, then they are placed."""

    start: int = 0
    end: int = 0
    _by_content: dict[bytes, _Weight] = field(default_factory=dict)
    _by_array: dict[tuple, tuple[_Weight, np.ndarray]] = field(default_factory=dict)
    _gaps: list[_Gap] = field(default_factory=list)

    def add(self, array: np.ndarray, alone: bool = False) -> None:
        """Add an array's bytes; `alone` keeps everything else out of their pages."""
        key = _key(array)
        if key not in self._by_array:
            raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            digest = hashlib.sha256(raw.data).digest()
            self._by_array[key] = (self._by_content.setdefault(digest, _Weight(raw, digest)), array)
        self._by_array[key][0].alone |= alone

    def place(self, start: int, chunk_bytes: int) -> None:
        """Give every weight its address; `start` begins a page."""
        self.start = self.end = start
        weights = list(self._by_content.values())
        for weight in weights:
            if not weight.is_small(chunk_bytes):
                weight.address = self._in_order(weight, chunk_bytes)
        for weight in weights:
            if weight.is_small(chunk_bytes):
                weight.address = self._in_gap(weight)

    def address(self, array: np.ndarray) -> int:
        """The address of an array that was added."""
        return self._by_array[_key(array)][0].address

    @property
    def data(self) -> tuple[DataSegment, ...]:
        """All weights by their address."""
        placed = sorted(self._by_content.values(), key=lambda weight: weight.address)
        return tuple(DataSegment(weight.address, weight.raw.data) for weight in placed)

    def _in_order(self, weight: _Weight, chunk_bytes: int) -> int:
        """Behind all others, at the beginning of a chunk if it begins one."""
        alignment = max(weight.alignment, chunk_bytes if weight.begins_chunk(chunk_bytes) else 1)
        address = self.start + aligned(self.end - self.start, alignment)
        if address > self.end:
            self._gaps.append(_Gap(self.end, address))
        self.end = address + weight.room
        return address

    def _in_gap(self, weight: _Weight) -> int:
        """Behind the small one before it, or in the next gap that holds it, or behind all others."""
        while self._gaps and self._gaps[0].start + weight.room > self._gaps[0].end:
            self._gaps.pop(0)
        gap = self._gaps[0] if self._gaps else _Gap(self.end, self.end)
        gap.start += weight.room
        self.end = max(self.end, gap.start)
        return gap.start - weight.room


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    """The size, or the next larger one that is a multiple."""
    return -(-size // alignment) * alignment


def _key(array: np.ndarray) -> tuple:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype
