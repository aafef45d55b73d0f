"""How a kernel walks through its operands: one address per operand, moved along the axes of the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tosaic.wasm.function import Function

LEFT, RIGHT, BIAS, OUTPUT = range(4)
"""The first streams: the operands that a product walks through. Those of the epilogue's inputs follow."""

LANES = 4
"""Output columns (channels) of a vector."""


@dataclass(frozen=True)
class Axis:
    """An axis of the output: its size, and how many bytes each stream moves per index."""

    size: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Pieces of equal size side by side: index of the first element, number of pieces, elements in each."""

    first: int
    count: int
    width: int


def collapsed(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The same walk with as few axes as possible."""
    found: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        if found and all(a == axis.size * b for a, b in zip(found[-1].steps, axis.steps)):
            found[-1] = Axis(found[-1].size * axis.size, axis.steps)
        else:
            found.append(axis)
    return tuple(found)


def nearly_equal(size: int, largest: int) -> list[Group]:
    """`size` elements in as few pieces of at most `largest` as possible, no two differing by more than one."""
    count = math.ceil(size / largest)
    width, wider = divmod(size, count)
    groups = [Group(0, wider, width + 1), Group(wider * (width + 1), count - wider, width)]
    return [group for group in groups if group.count]


def nest(f: Function, axes: Sequence[Axis], body: Callable[[], None]) -> None:
    """Loops over the axes, outermost first. The locals 0, 1, ... hold the streams' addresses; they are restored."""
    if not axes:
        body()
        return
    axis, *inner = axes
    with f.stepped(OUTPUT, axis.steps[OUTPUT], axis.size):
        nest(f, inner, body)
        for stream, step in enumerate(axis.steps):
            if stream != OUTPUT:
                f.add_to(stream, step)
    for stream, step in enumerate(axis.steps):
        f.add_to(stream, -step * axis.size)


def load_words(f: Function, address: int, offset: int, count: int) -> None:
    """Push the 1 to 4 words at the address in the first lanes of a vector, reading nothing behind them."""
    if count == 3:
        f.get(address)
    f.get(address)
    f.memory(
        {4: "v128.load", 3: "v128.load64_zero", 2: "v128.load64_zero", 1: "v128.load32_zero"}[count], offset
    )
    if count == 3:
        f.memory("v128.load32_lane", offset + 8, 2)
