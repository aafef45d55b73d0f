"""Arithmetic on views: what an op that only moves data does to the strides of a tensor that stays where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tosaic.wasm.kernel import View


@dataclass(frozen=True)
class Window:
    """A view and the distance in bytes from the address of its buffer to its first element."""

    view: View
    offset: int = 0

    @classmethod
    def whole(cls, element: str, shape: Sequence[int]) -> Window:
        """A buffer of its own, row-major."""
        return cls(View.contiguous(element, tuple(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return self.view.strides

    def with_dims(self, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> Window:
        view = View(self.view.element, tuple(shape), tuple(strides))
        return Window(view, self.offset + offset)

    def slice(self, start: Sequence[int], size: Sequence[int]) -> Window:
        return self.with_dims(size, self.strides, sum(b * s for b, s in zip(start, self.strides)))

    def transpose(self, perms: Sequence[int]) -> Window:
        return self.with_dims([self.shape[p] for p in perms], [self.strides[p] for p in perms])

    def reverse(self, axis: int) -> Window:
        strides = list(self.strides)
        last = (self.shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
        return self.with_dims(self.shape, strides, last)

    def reshape(self, shape: Sequence[int]) -> Window | None:
        """None if the new shape does not divide the runs of this view."""
        strides = _reshaped_strides(self.shape, self.strides, shape)
        return None if strides is None else self.with_dims(shape, strides)

    def tile(self, multiples: Sequence[int]) -> Window | None:
        """None unless only dimensions of size 1 are repeated."""
        if any(m > 1 and size > 1 for m, size in zip(multiples, self.shape)):
            return None
        strides = [0 if m > 1 else stride for m, stride in zip(multiples, self.strides)]
        return self.with_dims([size * m for size, m in zip(self.shape, multiples)], strides)

    def broadcast(self, shape: Sequence[int]) -> Window:
        """Repeated along dimensions of size 1 to a shape of the same rank."""
        strides = [
            stride if size == wanted else 0 for size, wanted, stride in zip(self.shape, shape, self.strides)
        ]
        return self.with_dims(shape, strides)

    def with_element(self, element: str) -> Window:
        return Window(replace(self.view, element=element), self.offset)


_MOVES: Mapping[str, Callable[[Window, Mapping[str, Any]], Window | None]] = {
    "identity": lambda window, _: window,
    "reshape": lambda window, attributes: window.reshape(attributes["shape"]),
    "transpose": lambda window, attributes: window.transpose(attributes["perms"]),
    "slice": lambda window, attributes: window.slice(attributes["start"], attributes["size"]),
    "reverse": lambda window, attributes: window.reverse(attributes["axis"]),
    "tile": lambda window, attributes: window.tile(attributes["multiples"]),
}
MOVEMENTS = frozenset(_MOVES)
"""Ops with one operand whose result may be a view of it."""


def moved(op: str, window: Window, attributes: Mapping[str, Any]) -> Window | None:
    """The result of a movement as a view of its operand; None where only a copy can give it."""
    return _MOVES[op](window, attributes)


def tiled(window: Window, multiples: Sequence[int]) -> Window:
    """A source in the shape (multiple, size, multiple, size, ...) that repeats it as `tosa.tile` does."""
    shape = [n for pair in zip(multiples, window.shape) for n in pair]
    strides = [n for stride in window.strides for n in (0, stride)]
    return window.with_dims(shape, strides)


def _reshaped_strides(
    shape: Sequence[int], strides: Sequence[int], target: Sequence[int]
) -> list[int] | None:
    """Strides of the target shape over the same elements in the same order, None if there are none."""
    runs = _runs(shape, strides)
    found: list[int] = []
    for size in reversed(target):
        if size == 1:
            found.append(0)
            continue
        while runs and runs[-1][0] == 1:
            runs.pop()
        if not runs or runs[-1][0] % size:
            return None
        length, stride = runs.pop()
        found.append(stride)
        runs.append((length // size, stride * size))
    return _fill_unit_strides(target, found[::-1])


def _runs(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Dimensions as (size, stride), neighbours merged where the outer one continues the inner one."""
    runs: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides):
        if size == 1:
            continue
        if runs and runs[-1][1] == stride * size:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    return runs


def _fill_unit_strides(shape: Sequence[int], strides: list[int]) -> list[int]:
    """Give dimensions of size 1 the stride that a dense layout would have, as far as that is possible."""
    step = 0
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            strides[axis] = step
        step = strides[axis] * shape[axis] or step
    return strides
