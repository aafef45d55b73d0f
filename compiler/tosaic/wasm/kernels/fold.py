"""Folds over axes of an operand: sums, products, extrema, and the logical ones, for a vector of results at once.

The order of every fold is fixed by its shape: element after element, starting at the neutral element; or, where
`across` folds along the innermost dimension, four partial results over the elements 0, 4, 8..., 1, 5, 9..., and
so on, joined as (0 + 1) + (2 + 3), then what is left of the elements one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tosaic.errors import TosaicError
from tosaic.wasm.function import Function
from tosaic.wasm.lanes import BOOL, FLOAT, INT32, INT64, KINDS
from tosaic.wasm.math import splat_f32, splat_i32, splat_i64
from tosaic.wasm.nest import Axis, emit_loops, load_at, pointer_loop

_MOST_UNROLLED = 64
UNROLL = 16
_LANES = 4

Combine = Callable[[Function], None]


@dataclass(frozen=True)
class Fold:
    """`combine` takes two vectors from the stack and leaves one; `neutral` pushes the vector to start from."""

    combine: Combine
    neutral: Callable[[Function], None]


def fold_for(operation: str, element: str, nan_mode: str = "PROPAGATE") -> Fold:
    """The fold "sum", "product", "max", "min", "any" or "all" on elements of this type (floats in f32)."""
    key = (operation, KINDS[element])
    if operation in ("max", "min") and KINDS[element] == FLOAT and nan_mode == "IGNORE":
        key = (f"{operation} number", FLOAT)
    if key not in _FOLDS:
        raise TosaicError(f"tosa.reduce_{operation} on {element} has no kernel")
    return _FOLDS[key]


class Place(NamedTuple):
    """Elements of an operand, `step` bytes apart, from `offset` (maybe negative) behind the address in a local on."""

    pointer: int
    offset: int
    step: int

    def moved(self, by: int) -> Place:
        return self._replace(offset=self.offset + by)


Load = Callable[[Function, int, Sequence[Place]], None]
"""Pushes so many elements of what is folded, from the places of all operands that they are computed from."""


def plain(element: str) -> Load:
    """The elements of one operand as they are."""
    return lambda f, lanes, places: load_at(f, element, lanes, *places[0])


def fold_axes(
    f: Function,
    fold: Fold,
    axes: Sequence[Axis],
    load: Load,
    lanes: int,
    places: Sequence[Place],
    most_unrolled: int = _MOST_UNROLLED,
) -> None:
    """Push the fold over all elements of the axes, the last axis fastest, for `lanes` results.

    The steps of the axes are those of the operands, whose first elements are at `places`. So many elements at most are
    folded without a loop.
    """
    if math.prod(axis.size for axis in axes) <= most_unrolled:
        fold.neutral(f)
        for offsets in _offsets(axes, len(places)):
            load(f, lanes, [place.moved(by) for place, by in zip(places, offsets)])
            fold.combine(f)
        return
    starts, accumulator = _start(f, places), f.local("v128")
    fold.neutral(f)
    f.set(accumulator)

    def accumulate(found: Sequence[Sequence[int]]) -> None:
        f.get(accumulator)
        for offsets in found:
            at = [Place(start, by, place.step) for start, by, place in zip(starts, offsets, places)]
            load(f, lanes, at)
            fold.combine(f)
        f.set(accumulator)

    *outer, inner = axes
    emit_loops(f, outer, starts, lambda: _unrolled(f, inner.size, inner.steps, starts, accumulate))
    f.get(accumulator)
    f.release(*starts, accumulator)


def fold_across(f: Function, fold: Fold, axis: Axis, load: Load, lanes: int, places: Sequence[Place]) -> None:
    """Push the fold over an axis for `lanes` results, whose rows are the steps of `places` apart.

    The lanes of a vector run along the row.
    """
    accumulators = [f.local("v128") for _ in range(lanes)]
    starts = _start(f, places)
    for accumulator in accumulators:
        fold.neutral(f)
        f.set(accumulator)

    def accumulate(found: Sequence[Sequence[int]]) -> None:
        for row, accumulator in enumerate(accumulators):
            f.get(accumulator)
            for offsets in found:
                along = zip(starts, offsets, axis.steps, places)
                load(f, _LANES, [Place(start, by + row * p.step, step) for start, by, step, p in along])
                fold.combine(f)
            f.set(accumulator)

    vectors = axis.size // _LANES
    moved = _unrolled(f, vectors, [_LANES * s for s in axis.steps], starts, accumulate, UNROLL // 2)
    join_lanes(f, fold, accumulators)
    for index in range(vectors * _LANES, axis.size):
        left = zip(starts, axis.steps, moved, places)
        load(f, lanes, [Place(start, index * step - done, p.step) for start, step, done, p in left])
        fold.combine(f)
    f.release(*starts, *accumulators)


def _start(f: Function, places: Sequence[Place]) -> list[int]:
    """Locals with the addresses of places."""
    starts = []
    for place in places:
        starts.append(f.local("i32"))
        f.get(place.pointer)
        f.i32(place.offset)
        f.op("i32.add")
        f.set(starts[-1])
    return starts


def _unrolled(
    f: Function,
    count: int,
    steps: Sequence[int],
    pointers: Sequence[int],
    emit: Callable[[Sequence[Sequence[int]]], None],
    unroll: int = UNROLL,
) -> tuple[int, ...]:
    """Emit for `count` places `steps` bytes apart, `unroll` a trip; how far the pointers are moved in the end."""

    def offsets(units: int) -> list[list[int]]:
        return [[i * step for step in steps] for i in range(units)]

    trips = count // unroll
    if trips <= 1:
        emit(offsets(count))
        return (0,) * len(steps)
    with pointer_loop(f, trips, [step * unroll for step in steps], pointers) as advance:
        emit(offsets(unroll))
        advance((0,) * len(steps))
    if left := count % unroll:
        emit(offsets(left))
    return tuple(trips * unroll * step for step in steps)


def join_lanes(f: Function, fold: Fold, rows: Sequence[int]) -> None:
    """Push the folds of the four lanes of each of up to 4 rows: row r in lane r."""
    pairs = [(rows[i], rows[min(i + 1, len(rows) - 1)]) for i in range(0, len(rows), 2)]
    halves = []
    for a, b in pairs:
        _fold_neighbours(f, fold, a, b)
        halves.append(f.local("v128"))
        f.set(halves[-1])
    _fold_neighbours(f, fold, halves[0], halves[-1])
    f.release(*halves)


def _fold_neighbours(f: Function, fold: Fold, a: int, b: int) -> None:
    """Push the folds of lanes 0 and 1, and 2 and 3, of a, then of b."""
    for first in (0, 1):
        f.get(a)
        f.get(b)
        f.shuffle([4 * (lane + first) + byte for lane in (0, 2, 4, 6) for byte in range(4)])
    fold.combine(f)


def _offsets(axes: Sequence[Axis], operands: int) -> list[tuple[int, ...]]:
    """How far each operand is moved for each index of the axes."""
    places = [(0,) * operands]
    for axis in axes:
        steps = [tuple(i * step for step in axis.steps) for i in range(axis.size)]
        places = [tuple(p + s for p, s in zip(place, step)) for place in places for step in steps]
    return places


def _operator(name: str) -> Combine:
    return lambda f: f.op(name)


def _select_i64(compare: str) -> Combine:
    """The extremum of two i64 vectors."""

    def combine(f: Function) -> None:
        a, b = f.local("v128"), f.local("v128")
        f.set(b)
        f.set(a)
        for local in (a, b, a, b):
            f.get(local)
        f.op(compare)
        f.op("v128.bitselect")
        f.release(a, b)

    return combine


def _f32(value: float) -> Callable[[Function], None]:
    return lambda f: splat_f32(f, value)


def _i32(value: int) -> Callable[[Function], None]:
    return lambda f: splat_i32(f, value)


def _i64(value: int) -> Callable[[Function], None]:
    return lambda f: splat_i64(f, value)


_FOLDS = {
    ("sum", FLOAT): Fold(_operator("f32x4.add"), _f32(-0.0)),
    ("sum", INT32): Fold(_operator("i32x4.add"), _i32(0)),
    ("sum", INT64): Fold(_operator("i64x2.add"), _i64(0)),
    ("product", FLOAT): Fold(_operator("f32x4.mul"), _f32(1.0)),
    ("product", INT32): Fold(_operator("i32x4.mul"), _i32(1)),
    ("product", INT64): Fold(_operator("i64x2.mul"), _i64(1)),
    ("max", FLOAT): Fold(_operator("f32x4.max"), _f32(-math.inf)),
    ("max number", FLOAT): Fold(_operator("f32x4.pmax"), _f32(-math.inf)),
    ("max", INT32): Fold(_operator("i32x4.max_s"), _i32(-(1 << 31))),
    ("max", INT64): Fold(_select_i64("i64x2.gt_s"), _i64(-(1 << 63))),
    ("min", FLOAT): Fold(_operator("f32x4.min"), _f32(math.inf)),
    ("min number", FLOAT): Fold(_operator("f32x4.pmin"), _f32(math.inf)),
    ("min", INT32): Fold(_operator("i32x4.min_s"), _i32((1 << 31) - 1)),
    ("min", INT64): Fold(_select_i64("i64x2.lt_s"), _i64((1 << 63) - 1)),
    ("any", BOOL): Fold(_operator("v128.or"), _i32(0)),
    ("all", BOOL): Fold(_operator("v128.and"), _i32(-1)),
}
