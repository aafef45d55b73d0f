"""Which part of its operands an op that only moves data needs for a part of its result (see `tile_windows`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch_mlir import ir

from tosaic_passes.tile_windows import (
    Demand,
    Part,
    Rule,
    Sizes,
    Untiled,
    Window,
    axis_of,
    others,
    shape_of,
    sizes_of,
    whole,
)


def _concat(op: ir.Operation, window: Window) -> Demand | None:
    """Of each operand what lies in the window."""
    axis, position = axis_of(op), 0
    start, size = window[axis]
    parts: list[Part] = []
    for operand in op.operands:
        extent = shape_of(operand)[axis]
        low, high = max(start - position, 0), min(start + size - position, extent)
        position += extent
        inside = (*window[:axis], (low, high - low), *window[axis + 1 :])
        parts.append(inside if low < high else Untiled.ABSENT)
    return parts, {}


def _pad(op: ir.Operation, window: Window) -> Demand | None:
    """What the window holds of the input, and what is left of the padding; a window of padding only is none."""
    padding = sizes_of(op.operands[1])
    if padding is None:
        return None
    parts, pads = [], []
    for axis, ((start, size), extent) in enumerate(zip(window, shape_of(op.operands[0]))):
        first = start - padding[2 * axis]
        low, high = max(first, 0), min(first + size, extent)
        if low >= high:
            return None
        parts.append((low, high - low))
        pads += [low - first, first + size - high]
    return others(op, tuple(parts), Sizes(tuple(pads))), {}


def _slice(op: ir.Operation, window: Window) -> Demand | None:
    """The slice of a slice."""
    starts = sizes_of(op.operands[1])
    if starts is None:
        return None
    source = tuple((first + start, size) for first, (start, size) in zip(starts, window))
    return [source, Sizes((0,) * len(window)), Sizes(tuple(size for _, size in window))], {}


def _reverse(op: ir.Operation, window: Window) -> Demand | None:
    axis = axis_of(op)
    start, size = window[axis]
    mirrored = (shape_of(op.operands[0])[axis] - start - size, size)
    return [(*window[:axis], mirrored, *window[axis + 1 :])], {}


def _tile(op: ir.Operation, window: Window) -> Demand | None:
    """Whole copies, or a part of one copy."""
    parts, multiples = [], []
    for (start, size), extent in zip(window, shape_of(op.operands[0])):
        if start % extent == 0 and size % extent == 0:
            parts.append((0, extent))
            multiples.append(size // extent)
        elif start // extent == (start + size - 1) // extent:
            parts.append((start % extent, size))
            multiples.append(1)
        else:
            return None
    return [tuple(parts), Sizes(tuple(multiples))], {}


def _transpose(op: ir.Operation, window: Window) -> Demand | None:
    perms = list(ir.DenseI32ArrayAttr(op.attributes["perms"]))
    return [tuple(window[perms.index(axis)] for axis in range(len(perms)))], {}


def _gather(op: ir.Operation, window: Window) -> Demand | None:
    values = whole(op.operands[0])
    return [(window[0], values[1], window[2]), window[:2]], {}


def _scatter(op: ir.Operation, window: Window) -> Demand | None:
    """By batches and channels: any index may mean any row."""
    if window[1] != whole(op.results[0])[1]:
        return None
    indices = whole(op.operands[1])[1]
    return [window, (window[0], indices), (window[0], indices, window[2])], {}


def _reshape(op: ir.Operation, window: Window) -> Demand | None:
    """Windows that are boxes in both shapes."""
    source = _same_elements(shape_of(op.results[0]), shape_of(op.operands[0]), window)
    return None if source is None else ([source, Sizes(tuple(size for _, size in window))], {})


def _same_elements(of: Sequence[int], to: Sequence[int], window: Window) -> Window | None:
    """The window of the shape `to` that holds the elements of a window of the shape `of`; None if it is no box.

    The dimensions of the two shapes are taken in the shortest groups with the same number of elements; in each the
    window must be one run of elements.
    """
    found: list[tuple[int, int]] = []
    first = other = 0
    while first < len(of) or other < len(to):
        end, other_end = _group(of, to, first, other)
        if of[first:end] == to[other:other_end]:
            found += window[first:end]
        else:
            run = _run(of[first:end], window[first:end])
            box = None if run is None else _box(to[other:other_end], *run)
            if box is None:
                return None
            found += box
        first, other = end, other_end
    return tuple(found)


def _group(of: Sequence[int], to: Sequence[int], first: int, other: int) -> tuple[int, int]:
    """The ends of the shortest groups from `first` and `other` on with as many elements; the last take all 1s."""
    end, other_end = min(first + 1, len(of)), min(other + 1, len(to))
    while (count := math.prod(of[first:end])) != (others := math.prod(to[other:other_end])):
        if count < others:
            end += 1
        else:
            other_end += 1
    if end == len(of) or other_end == len(to):
        return len(of), len(to)
    return end, other_end


def _run(shape: Sequence[int], window: Window) -> tuple[int, int] | None:
    """The (start, size) of a window as elements in row-major order; None if these are not one run."""
    start, size = 0, 1
    for (first, count), extent in zip(window, shape):
        if size > 1 and count != extent:
            return None
        start = start * extent + first
        size *= count
    return start, size


def _box(shape: Sequence[int], start: int, size: int) -> list[tuple[int, int]] | None:
    """A run of elements as a window; None if it is no box."""
    found: list[tuple[int, int]] = []
    for axis, extent in enumerate(shape):
        inner = math.prod(shape[axis + 1 :])
        first, rest = divmod(start, inner)
        if size > inner or inner == 1:
            if rest or size % inner or first + size // inner > extent:
                return None
            return [*found, (first, size // inner), *((0, n) for n in shape[axis + 1 :])]
        found.append((first, 1))
        start = rest
    return found


MOVEMENT_RULES: Mapping[str, Rule] = {
    "concat": _concat,
    "gather": _gather,
    "pad": _pad,
    "reshape": _reshape,
    "reverse": _reverse,
    "scatter": _scatter,
    "slice": _slice,
    "tile": _tile,
    "transpose": _transpose,
}
