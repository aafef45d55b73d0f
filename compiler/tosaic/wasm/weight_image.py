"""Where the weights lie: in memory, and in the same order in chunks that other programs have as well.

The network stores a module in chunks, named by their content. So that programs with the same weights share chunks,
a chunk of weights is to depend on little else:

- A weight of a chunk or more begins a chunk: all chunks that it fills hold nothing else.
- The others follow one another in the order of their first use, so what comes later changes nothing before it. Of
  those of a page or more some begin a chunk, too, and what decides is their own content: they do in one of 4 MiB.
  Behind such a weight all is again as in any other program with the same weights, whatever came before.
- What is left free before such a beginning is filled with weights of less than a page. So is what is left free
  before a table that lies in pages of its own.
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

    def begins_chunk(self, chunk_bytes: int) -> bool:
        if self.room < PAGE_BYTES or self.room >= chunk_bytes:
            return self.room >= chunk_bytes
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
        for weight in self._by_content.values():
            weight.address = self._in_gap(weight)
            if weight.address < 0:
                weight.address = self._at_end(weight, chunk_bytes)

    def address(self, array: np.ndarray) -> int:
        """The address of an array that was added."""
        return self._by_array[_key(array)][0].address

    @property
    def data(self) -> tuple[DataSegment, ...]:
        """All weights by their address."""
        placed = sorted(self._by_content.values(), key=lambda weight: weight.address)
        return tuple(DataSegment(weight.address, weight.raw.data) for weight in placed)

    def _in_gap(self, weight: _Weight) -> int:
        """The start of the last gap that holds a small weight, or -1."""
        fitting = (gap for gap in reversed(self._gaps) if gap.start + weight.room <= gap.end)
        gap = None if weight.room >= PAGE_BYTES else next(fitting, None)
        if gap is None:
            return -1
        gap.start += weight.room
        return gap.start - weight.room

    def _at_end(self, weight: _Weight, chunk_bytes: int) -> int:
        alignment = max(weight.alignment, chunk_bytes if weight.begins_chunk(chunk_bytes) else 1)
        address = self.start + aligned(self.end - self.start, alignment)
        if address > self.end:
            self._gaps.append(_Gap(self.end, address))
        self.end = address + weight.room
        return address


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    """The size, or the next larger one that is a multiple."""
    return -(-size // alignment) * alignment


def _key(array: np.ndarray) -> tuple:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype
