"""Copies into scratch memory, made before a kernel's main loops: zero borders, wider elements, packed columns.

A staged operand is dense. Its elements are those that are multiplied: f32, or i16 or i32 with the zero point already
subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES, View
from tosaic.wasm.kernels.tile import ZERO
from tosaic.wasm.lanes import Push, load_lanes, store_lanes

_STRAIGHT_VECTORS = 16  # longest copy without a loop
_LOOP_VECTORS = 8


@dataclass(frozen=True)
class Conversion:
    """From the element type in memory to the staged one, `zero_point` subtracted (integers only)."""

    source: str
    staged: str
    zero_point: int = 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of elements that one step can convert, largest first."""
        if self.source == self.staged:
            most = 16 // ELEMENT_BYTES[self.source]
            return tuple(most >> i for i in range(most.bit_length()))
        return (8, 1) if self.staged == "i16" else (4, 2, 1)

    def emit(
        self, f: Function, source: int, source_offset: int, target: int, offset: int, width: int
    ) -> None:
        """Convert `width` adjacent elements."""
        if self.source == self.staged:
            self._copy(f, source, source_offset, target, offset, width)
        elif self.staged == "i16":
            self._widen_i8(f, source, source_offset, target, offset, width)
        else:
            load = partial(self.push, f, width, partial(f.get, source), source_offset)
            store_lanes(f, self.staged, width, partial(f.get, target), load, offset)

    def push(self, f: Function, width: int, address: Push, offset: int, step: int | None = None) -> None:
        """Push `width` (1, 2 or 4) elements, `step` bytes apart, as f32 or i32 lanes."""
        load_lanes(f, self.source, width, address, offset, step)
        if self.zero_point:
            f.v128(self.zero_point.to_bytes(4, "little", signed=True) * 4)
            f.op("i32x4.sub")

    def _copy(
        self, f: Function, source: int, source_offset: int, target: int, offset: int, width: int
    ) -> None:
        load, store = _MOVES[width * ELEMENT_BYTES[self.source]]
        f.get(target)
        f.get(source)
        f.memory(load, source_offset)
        f.memory(store, offset)

    def _widen_i8(
        self, f: Function, source: int, source_offset: int, target: int, offset: int, width: int
    ) -> None:
        f.get(target)
        f.get(source)
        f.memory("v128.load8x8_s" if width == 8 else "i32.load8_s", source_offset)
        if self.zero_point and width == 8:
            f.v128(self.zero_point.to_bytes(2, "little", signed=True) * 8)
            f.op("i16x8.sub")
        elif self.zero_point:
            f.i32(self.zero_point)
            f.op("i32.sub")
        f.memory("v128.store" if width == 8 else "i32.store16", offset)


_MOVES = {16: ("v128.load", "v128.store"), 8: ("i64.load", "i64.store"), 4: ("i32.load", "i32.store"),
          2: ("i32.load16_u", "i32.store16"), 1: ("i32.load8_u", "i32.store8")}  # fmt: skip


@dataclass(frozen=True)
class Border:
    """One axis of a padded copy: elements copied, bytes between them at the source, zero elements around them."""

    size: int
    stride: int
    before: int = 0
    after: int = 0


def emit_padded_copy(
    f: Function, source: int, target: int, axes: Sequence[Border], conversion: Conversion
) -> None:
    """Copy a tensor from the address in local `source` to that in `target`, which ends behind the copy.

    The copy is contiguous with the axes in the given order, zero borders included.
    """
    _copy_axes(f, source, target, _merged(axes, ELEMENT_BYTES[conversion.source]), conversion)


def _merged(axes: Sequence[Border], element_bytes: int) -> list[Border]:
    found: list[Border] = []
    for axis in axes:
        outer = found[-1] if found else None
        if outer and not axis.before and not axis.after and outer.stride == axis.size * axis.stride:
            scaled = (outer.size * axis.size, axis.stride, outer.before * axis.size, outer.after * axis.size)
            found[-1] = Border(*scaled)
        else:
            found.append(axis)
    if found[-1].stride != element_bytes and found[-1].size > 1:
        found.append(Border(1, element_bytes))
    return found


def _copy_axes(f: Function, source: int, target: int, axes: Sequence[Border], conversion: Conversion) -> None:
    axis, *inner = axes
    inside = math.prod(a.size + a.before + a.after for a in inner) * ELEMENT_BYTES[conversion.staged]
    emit_zeros(f, target, axis.before * inside)
    if inner and axis.size:
        with f.stepped(source, axis.stride, axis.size):
            _copy_axes(f, source, target, inner, conversion)
        f.add_to(source, -axis.size * axis.stride)
    elif not inner:
        _copy_run(f, source, target, axis.size, conversion)
    emit_zeros(f, target, axis.after * inside)


def _copy_run(f: Function, source: int, target: int, count: int, conversion: Conversion) -> None:
    """Copy adjacent elements; the target's address moves on, the source's does not."""
    from_bytes, to_bytes = ELEMENT_BYTES[conversion.source], ELEMENT_BYTES[conversion.staged]
    width = conversion.widths[0]
    trips, rest = divmod(count, width * _LOOP_VECTORS)
    if count <= width * _STRAIGHT_VECTORS:
        trips, rest = 0, count
    if trips:
        with f.stepped(target, width * _LOOP_VECTORS * to_bytes, trips):
            for i in range(_LOOP_VECTORS):
                conversion.emit(f, source, i * width * from_bytes, target, i * width * to_bytes, width)
            f.add_to(source, width * _LOOP_VECTORS * from_bytes)
    for first, piece in _pieces(rest, conversion.widths):
        conversion.emit(f, source, first * from_bytes, target, first * to_bytes, piece)
    f.add_to(target, rest * to_bytes)
    f.add_to(source, -trips * width * _LOOP_VECTORS * from_bytes)


def emit_zeros(f: Function, target: int, size: int) -> None:
    """Clear `size` bytes from the address in `target`, which moves behind them."""
    trips, rest = divmod(size, 16 * _LOOP_VECTORS)
    if size <= 16 * _STRAIGHT_VECTORS:
        trips, rest = 0, size
    if trips:
        with f.stepped(target, 16 * _LOOP_VECTORS, trips):
            for i in range(_LOOP_VECTORS):
                _store_zero(f, target, 16 * i, 16)
    for first, piece in _pieces(rest, (16, 8, 4, 2, 1)):
        _store_zero(f, target, first, piece)
    f.add_to(target, rest)


def _store_zero(f: Function, target: int, offset: int, size: int) -> None:
    push: dict[int, Callable[[], None]] = {16: partial(f.v128, ZERO), 8: partial(f.i64, 0)}
    f.get(target)
    push.get(size, partial(f.i32, 0))()
    f.memory(_MOVES[size][1], offset)


def _pieces(count: int, widths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, width) of consecutive pieces, as wide as possible."""
    first = 0
    for width in widths:
        while count - first >= width:
            yield first, width
            first += width


def touched_runs(view: View, indices: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """The bytes of the elements with the given (ascending) indices along each axis, gaps below a page closed."""
    if not all(indices):
        return ()
    runs = [(0, view.element_bytes)]
    for chosen, stride in sorted(zip(indices, view.strides), key=lambda axis: abs(axis[1])):
        if len(runs) == 1 and stride:
            runs = _joined([(i * stride + runs[0][0], runs[0][1]) for i in chosen])
        else:
            runs = [
                (i * stride + offset, length)
                for i in (chosen if stride else chosen[:1])
                for offset, length in runs
            ]
    return tuple(_joined(sorted(runs)))


def _joined(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found = [runs[0]]
    for offset, length in runs[1:]:
        start, extent = found[-1]
        if offset - (start + extent) < PAGE_BYTES:
            found[-1] = (start, max(extent, offset + length - start))
        else:
            found.append((offset, length))
    return found
