"""Folds over axes of an operand: sums, products, extrema, and the logical ones, for a vector of results at once.

The order of every fold is fixed by its shape: element after element, starting at the neutral element; or, where
`across` folds along the innermost dimension, four partial results over the elements 0, 4, 8..., 1, 5, 9..., and
so on, joined as (0 + 1) + (2 + 3), then what is left of the elements one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tosaic.errors import TosaicError
from tosaic.wasm.function import Function
from tosaic.wasm.lanes import BOOL, FLOAT, INT32, INT64, KINDS
from tosaic.wasm.math import splat_f32, splat_i32, splat_i64
from tosaic.wasm.nest import Axis, emit_loops, load_at, pointer_loop

_MOST_UNROLLED = 64
_UNROLL = 16
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


def fold_axes(
    f: Function,
    fold: Fold,
    axes: Sequence[Axis],
    element: str,
    lanes: int,
    pointer: int,
    offset: int,
    step: int,
) -> None:
    """Push the fold over all elements of the axes, the last axis fastest, for `lanes` results `step` bytes apart."""
    count = math.prod(axis.size for axis in axes)
    if count <= _MOST_UNROLLED:
        fold.neutral(f)
        for place in _offsets(axes):
            load_at(f, element, lanes, pointer, offset + place, step)
            fold.combine(f)
        return
    start, accumulator = f.local("i32"), f.local("v128")
    f.get(pointer)
    f.i32(offset)
    f.op("i32.add")
    f.set(start)
    fold.neutral(f)
    f.set(accumulator)

    def accumulate(places: Sequence[int]) -> None:
        f.get(accumulator)
        for place in places:
            load_at(f, element, lanes, start, place, step)
            fold.combine(f)
        f.set(accumulator)

    *outer, inner = axes
    emit_loops(f, outer, [start], lambda: (_unrolled(f, inner.size, inner.steps[0], start, accumulate),))
    f.get(accumulator)
    f.release(start, accumulator)


def fold_across(
    f: Function,
    fold: Fold,
    size: int,
    stride: int,
    element: str,
    lanes: int,
    pointer: int,
    offset: int,
    step: int,
) -> None:
    """Push the fold of `size` elements `stride` bytes apart for `lanes` results whose rows are `step` bytes apart.

    The lanes of a vector run along the row.
    """
    vectors = size // _LANES
    accumulators = [f.local("v128") for _ in range(lanes)]
    start = f.local("i32")
    f.get(pointer)
    f.i32(offset)
    f.op("i32.add")
    f.set(start)
    for accumulator in accumulators:
        fold.neutral(f)
        f.set(accumulator)

    def accumulate(places: Sequence[int]) -> None:
        for row, accumulator in enumerate(accumulators):
            f.get(accumulator)
            for place in places:
                load_at(f, element, _LANES, start, place + row * step, stride)
                fold.combine(f)
            f.set(accumulator)

    moved = _unrolled(f, vectors, _LANES * stride, start, accumulate, _UNROLL // 2)
    join_lanes(f, fold, accumulators)
    for index in range(vectors * _LANES, size):
        load_at(f, element, lanes, start, index * stride - moved, step)
        fold.combine(f)
    f.release(start, *accumulators)


def _unrolled(
    f: Function,
    count: int,
    step: int,
    pointer: int,
    emit: Callable[[Sequence[int]], None],
    unroll: int = _UNROLL,
) -> int:
    """Emit for `count` places `step` bytes apart, `unroll` a trip; how far the pointer is moved in the end."""
    trips = count // unroll
    if trips <= 1:
        emit([i * step for i in range(count)])
        return 0
    with pointer_loop(f, trips, (step * unroll,), (pointer,)) as advance:
        emit([i * step for i in range(unroll)])
        advance((0,))
    if left := count % unroll:
        emit([i * step for i in range(left)])
    return trips * unroll * step


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


def _offsets(axes: Sequence[Axis]) -> list[int]:
    places = [0]
    for axis in axes:
        places = [place + i * axis.steps[0] for place in places for i in range(axis.size)]
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
