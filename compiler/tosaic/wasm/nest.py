"""Loop nests over strided operands: axes, their merging, and loops that move one pointer per operand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES
from tosaic.wasm.lanes import INT64, KINDS, Push, load_lanes, load_raw, reverse_lanes
from tosaic.wasm.opcodes import leb128_unsigned


@dataclass(frozen=True)
class Axis:
    """A dimension of the iteration: its size, and the step of each operand in bytes."""

    size: int
    steps: tuple[int, ...]


def axes_of(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> list[Axis]:
    """Dimensions above size 1, outermost first; `strides` has one row per operand."""
    return [Axis(size, tuple(row[i] for row in strides)) for i, size in enumerate(shape) if size != 1]


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbouring axes become one where every operand walks on through the border between them."""
    merged: list[Axis] = []
    for axis in axes:
        outer = merged[-1] if merged else None
        if outer and all(o == i * axis.size for o, i in zip(outer.steps, axis.steps)):
            merged[-1] = Axis(outer.size * axis.size, axis.steps)
        else:
            merged.append(axis)
    return merged


def start_pointers(f: Function, parameters: Sequence[int], shifts: Sequence[int]) -> list[int]:
    """Locals with the operands' addresses plus constants."""
    pointers = []
    for parameter, shift in zip(parameters, shifts):
        pointer = f.local("i32")
        f.get(parameter)
        if shift:
            f.i32(shift)
            f.op("i32.add")
        f.set(pointer)
        pointers.append(pointer)
    return pointers


Body = Callable[[], tuple[int, ...]]


def emit_loops(
    f: Function,
    axes: Sequence[Axis],
    pointers: Sequence[int],
    body: Body,
    on_entry: Callable[[int], None] = lambda depth: None,
    depth: int = 0,
) -> tuple[int, ...]:
    """Run `body` for every index of `axes` with the pointers at their places; how far they are moved in the end.

    `body` tells how far it moves the pointers itself. `on_entry(d)` may emit code inside of the first d loops,
    before the next one starts.
    """
    on_entry(depth)
    if depth == len(axes):
        return body()
    axis = axes[depth]
    with pointer_loop(f, axis.size, axis.steps, pointers) as advance:
        inner = emit_loops(f, axes, pointers, body, on_entry, depth + 1)
        advance(inner)
    return tuple(step * axis.size for step in axis.steps)


@contextmanager
def pointer_loop(
    f: Function, trips: int, steps: Sequence[int], pointers: Sequence[int]
) -> Iterator[Callable[[Sequence[int]], None]]:
    """A loop of `trips` trips that advances pointers by `steps` a trip; a pointer that moves ends it.

    Yields a function to call at the end of the body with how far the body has moved the pointers already.
    """
    control = next((k for k, step in enumerate(steps) if step), None)
    end = f.local("i32")
    if control is None:
        f.i32(trips)
    else:
        f.get(pointers[control])
        f.i32(steps[control] * trips)
        f.op("i32.add")
    f.set(end)

    def advance(moved: Sequence[int]) -> None:
        for k, (pointer, step, done) in enumerate(zip(pointers, steps, moved)):
            if k != control:
                f.add_to(pointer, step - done)
        if control is None:
            f.get(end)
            f.i32(1)
            f.op("i32.sub")
            f.tee(end)
        else:
            f.get(pointers[control])
            if change := steps[control] - moved[control]:
                f.i32(change)
                f.op("i32.add")
                f.tee(pointers[control])
            f.get(end)
            f.op("i32.ne")
        f.op("br_if", leb128_unsigned(0))

    with f.loop(trips):
        yield advance
    f.release(end)


def address_at(f: Function, pointer: int, offset: int) -> tuple[Push, int]:
    """How to push a base address, and the constant offset from it (which may not be negative)."""
    if offset >= 0:
        return lambda: f.get(pointer), offset

    def push() -> None:
        f.get(pointer)
        f.i32(offset)
        f.op("i32.add")

    return push, 0


def load_at(
    f: Function, element: str, lanes: int, pointer: int, offset: int, step: int, raw: bool = False
) -> None:
    """Push lanes that lie `step` bytes apart from `pointer` + `offset` on, both maybe negative.

    A backward run is loaded forwards and reversed. `raw` elements are not widened.
    """
    backward = step < 0 and lanes > 1
    if backward:
        offset, step = offset + step * (lanes - 1), -step
    push, offset = address_at(f, pointer, offset)
    if raw:
        load_raw(f, ELEMENT_BYTES[element], lanes, push, offset, step)
    else:
        load_lanes(f, element, lanes, push, offset, step)
    if backward:
        reverse_lanes(f, ELEMENT_BYTES[element] if raw else 8 if KINDS[element] == INT64 else 4, lanes)
