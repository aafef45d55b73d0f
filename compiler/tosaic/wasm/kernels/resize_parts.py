"""What resizing by phases and by pixels have in common: positions along an axis, and the weighted sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.wasm.kernel import Expression, KernelRequest
from tosaic.wasm.lanes import FLOAT, KINDS

Leaf = tuple[str, tuple[int, ...], tuple[tuple[str, object], ...]]
"""A node of an expression."""


@dataclass(frozen=True)
class Position:
    """Where an output index stands: its two neighbours among the inputs, and how far it is from the first."""

    first: int
    second: int
    remainder: int


@dataclass(frozen=True)
class Phase:
    """Outputs `start`, `start` + `period`... (count of them) and the position of the first; inputs move by `step`."""

    start: int
    period: int
    count: int
    step: int
    position: Position


@dataclass(frozen=True)
class ResizedAxis:
    """Rows or columns: sizes of input and output, the scale as a fraction, the offset in 1 / numerator."""

    size: int
    count: int
    numerator: int
    denominator: int
    offset: int
    nearest: bool

    def position(self, index: int) -> Position:
        whole, remainder = divmod(index * self.denominator + self.offset, self.numerator)
        first, second = (min(max(place, 0), self.size - 1) for place in (whole, whole + 1))
        if self.nearest:
            first = second = second if 2 * remainder >= self.numerator else first
            remainder = 0
        return Position(first, second, remainder)

    def phases(self) -> list[Phase]:
        """The outputs in runs of equal remainders and equal distances."""
        common = math.gcd(self.numerator, self.denominator)
        period, step = self.numerator // common, self.denominator // common
        found = []
        for phase in range(min(period, self.count)):
            start = phase
            while start < self.count:
                position = self.position(start)
                moves = self._moves(start + period, position, step) if start + period < self.count else 0
                distance = step if moves else 0
                count = 1
                while self._continues(start + count * period, position, count * distance):
                    count += 1
                found.append(Phase(start, period, count, distance, position))
                start += count * period
        return found

    def _moves(self, index: int, position: Position, step: int) -> bool:
        return self.position(index).first == position.first + step

    def _continues(self, index: int, position: Position, distance: int) -> bool:
        if index >= self.count:
            return False
        here = self.position(index)
        return (here.first, here.second) == (position.first + distance, position.second + distance)


def resized_axis(request: KernelRequest, dimension: int) -> ResizedAxis:
    scale, offset = request.attributes["scale"], request.attributes["offset"]
    return ResizedAxis(
        request.inputs[0].view.shape[1 + dimension],
        request.outputs[0].shape[1 + dimension],
        scale[2 * dimension],
        scale[2 * dimension + 1],
        offset[dimension],
        "NEAREST" in request.attributes["mode"],
    )


def weighted_sum(
    request: KernelRequest, corners: Sequence[int], weights: Sequence[Leaf | None]
) -> Expression:
    """The weighted sum of the corner inputs, then the epilogue on it."""
    element, result = request.inputs[0].view.element, request.result
    nodes: list[Leaf] = []
    elements: list[str] = []

    def add(node: Leaf, of: str) -> int:
        nodes.append(node)
        elements.append(of)
        return len(nodes) - 1

    if "NEAREST" in request.attributes["mode"]:
        total = add(("input", (corners[0],), ()), element)
    else:
        wide = "f32" if KINDS[result] == FLOAT else result
        total = -1
        for corner, weight in zip(corners, weights):
            if weight is None:
                continue
            value = add(("input", (corner,), ()), element)
            value = add(("cast", (value,), ()), wide) if element != wide else value
            term = add(("mul", (value, add(weight, wide)), ()), wide)
            total = term if total < 0 else add(("add", (total, term), ()), wide)
        total = add(("cast", (total,), ()), result) if wide != result else total
    return _with_epilogue(nodes, elements, total, request.epilogue)


def _with_epilogue(
    nodes: list[Leaf], elements: list[str], result: int, epilogue: Expression | None
) -> Expression:
    """Append an epilogue whose own value is node `result`."""
    if epilogue is None:
        return Expression(tuple(nodes), tuple(elements))
    index: list[int] = []
    for (op, arguments, attributes), element in zip(epilogue.nodes, epilogue.elements):
        if op == "result":
            index.append(result)
            continue
        inner = arguments if op in ("input", "constant") else tuple(index[a] for a in arguments)
        nodes.append((op, inner, attributes))
        elements.append(element)
        index.append(len(nodes) - 1)
    if index[-1] != len(nodes) - 1:
        nodes.append(("identity", (index[-1],), ()))
        elements.append(epilogue.elements[-1])
    return Expression(tuple(nodes), tuple(elements))
