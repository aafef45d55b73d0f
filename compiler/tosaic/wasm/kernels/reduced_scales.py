"""Rescales to i8 at the end of a product in the form that packs several vectors at once (`requantization.py`).

That form takes shifts from 33 to 39. Larger ones go with smaller multipliers: the same divided by a power of two,
where it divides, and else the nearest number that gives the same result for every sum that can occur. Both sides are
steps that never fall, so they agree everywhere if they agree on both sides of every step of one of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tosaic.wasm.kernel import Expression, KernelRequest, Operand, View
from tosaic.wasm.kernels.bounds import SUMMED_AXES, result_bound
from tosaic.wasm.kernels.requantization import REQUANTIZE, Packing, Step
from tosaic.wasm.kernels.streams import LANES
from tosaic.wasm.lanes import INT_RANGES, max_lanes, unsigned

_SHIFTS = range(33, 40)
_WORD_BITS, _FACTOR_BITS = 32, 15
_HALF_WORD = 1 << 31
_AWAY = 1 << 30
"""What double rounding adds to a product with the sign of the sum."""
_LOW, _HIGH = INT_RANGES["i8"]
_FLIP = ("v128.xor", 0x80)
_OPERATORS = {"maximum": "i8x16.max_s", "minimum": "i8x16.min_s", "bitwise_xor": "v128.xor"}
_NEIGHBOURS = (0, -1, 1)

Node = tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...]]


def with_reduced_scales(request: KernelRequest) -> tuple[KernelRequest, dict[int, np.ndarray]]:
    """The request with its last rescale in that form, if it can be, and what the memory holds for the scales."""
    rescale = _last_rescale(request)
    if rescale is None:
        return request, {}
    multiplier, shift = (_by_column(request, argument) for argument in rescale.arguments[1:3])
    if multiplier is None or shift is None or multiplier.min() < 0 or shift.min() < _SHIFTS.start:
        return request, {}
    multiplier, shift = np.broadcast_arrays(multiplier, shift)
    scale = Scale(multiplier, shift, _AWAY if rescale.double_round else 0)
    reduced = scale.reduced(_largest_sum(request, rescale), rescale.levels)
    return (request, {}) if reduced is None else _rewritten(request, rescale, reduced)


# The end of the expression


@dataclass(frozen=True)
class _Rescale:
    """A rescale of sums, the node `index` of an expression, and the operations on bytes behind it."""

    index: int
    arguments: tuple[int, ...]
    double_round: bool
    zero_point: int
    is_unsigned: bool
    steps: tuple[Step, ...]

    @property
    def levels(self) -> np.ndarray:
        """The scaled sums, the zero point not yet added, at which the saturated result rises."""
        low, high = (0, _HIGH - _LOW) if self.is_unsigned else (_LOW, _HIGH)
        return np.arange(low + 1, high + 1, dtype=np.int64) - self.zero_point

    @property
    def packing(self) -> Packing:
        """Signed bytes with the lowest zero point are unsigned ones with zero point 0, flipped: one addition less."""
        if self.is_unsigned or self.zero_point != _LOW:
            return Packing(self.zero_point, self.is_unsigned, self.steps)
        flips_back = self.steps[:1] == (_FLIP,)
        return Packing(0, True, self.steps[1:] if flips_back else (_FLIP, *self.steps))


def _last_rescale(request: KernelRequest) -> _Rescale | None:
    """The rescale to i8 behind which an expression only bounds and flips bytes by constants, None if there is none."""
    expression = request.epilogue
    if expression is None or request.op not in SUMMED_AXES or request.outputs[0].element != "i8":
        return None
    if max_lanes((request.result, *expression.elements)) < LANES:
        return None
    uses, index = _uses(expression), len(expression.nodes) - 1
    steps: tuple[Step, ...] = ()
    while expression.nodes[index][0] != "rescale":
        found = _byte_steps(expression, index)
        if found is None:
            return None
        index, steps = found[0], (*found[1], *steps)
        if uses[index] != 1 or expression.elements[index] != "i8":
            return None
    return _described(expression, index, steps)


def _byte_steps(expression: Expression, index: int) -> tuple[int, tuple[Step, ...]] | None:
    """A node that changes bytes by constants, as the node of these bytes and the steps."""
    op, arguments, attributes = expression.nodes[index]
    if op == "clamp":
        low, high = (int(dict(attributes)[name]) for name in ("min_val", "max_val"))
        bounds = (("i8x16.max_s", low, _LOW), ("i8x16.min_s", high, _HIGH))
        return arguments[0], tuple((operator, bound) for operator, bound, end in bounds if bound != end)
    if op not in _OPERATORS:
        return None
    numbers = [_number(expression, argument) for argument in arguments]
    for value, number in zip(arguments, reversed(numbers)):
        if number is not None:
            return value, ((_OPERATORS[op], number & 0xFF),)
    return None


def _described(expression: Expression, index: int, steps: tuple[Step, ...]) -> _Rescale | None:
    """None for a rescale of other numbers than sums, or one that rounds in another way."""
    _, arguments, attributes = expression.nodes[index]
    flags = dict(attributes)
    rounding = flags.get("rounding_mode", "SINGLE_ROUND")
    zero_points = [_number(expression, argument) for argument in arguments[3:]] or [0, 0]
    is_unsigned = flags.get("output_unsigned", False)
    if (
        expression.elements[arguments[0]] != "i32"
        or flags.get("input_unsigned", False)
        or rounding not in ("SINGLE_ROUND", "DOUBLE_ROUND")
        or zero_points[0] != 0
        or zero_points[1] is None
    ):
        return None
    double_round = rounding == "DOUBLE_ROUND" and flags.get("scale32", True)
    zero_point = unsigned(zero_points[1], "i8") if is_unsigned else zero_points[1]
    return _Rescale(index, arguments, double_round, zero_point, is_unsigned, steps)


def _number(expression: Expression, index: int) -> int | None:
    op, _, attributes = expression.nodes[index]
    return int(dict(attributes)["value"]) if op == "constant" else None


def _uses(expression: Expression) -> Counter:
    return Counter(
        argument
        for op, arguments, _ in expression.nodes
        if op not in ("input", "local")
        for argument in arguments
    )


def _by_column(request: KernelRequest, index: int) -> np.ndarray | None:
    """A constant of one number, or of one for each column and of no other use, as i64; None for anything else."""
    expression = request.epilogue
    assert expression is not None
    number = _number(expression, index)
    if number is not None:
        return np.array([number])
    op, arguments, _ = expression.nodes[index]
    reads = [node[1][0] for node in expression.nodes if node[0] == "input"]
    if op != "input" or _uses(expression)[index] != 1 or reads.count(arguments[0]) != 1:
        return None
    operand = request.inputs[arguments[0]]
    if operand.array is None or any(operand.view.strides[:-1]):
        return None
    last = operand.array.shape[-1] if operand.view.strides[-1] else 1
    found = operand.array.reshape(-1, operand.array.shape[-1])[0, :last]
    return found.astype(np.int64) if last in (1, request.outputs[0].shape[-1]) else None


def _largest_sum(request: KernelRequest, rescale: _Rescale) -> int:
    """A bound of what is rescaled."""
    assert request.epilogue is not None
    bound = result_bound(request) if request.epilogue.nodes[rescale.arguments[0]][0] == "result" else None
    return min(_HALF_WORD, _HALF_WORD if bound is None else bound)


# The scales


@dataclass(frozen=True)
class Scale:
    """((x * multiplier + rounding) >> shift), one or one for each column (i64 arrays of one shape).

    The rounding is half of what is shifted out, plus `away` with the sign of x.
    """

    multiplier: np.ndarray
    shift: np.ndarray
    away: int = 0

    @property
    def half(self) -> np.ndarray:
        return 1 << self.shift - 1

    def of(self, sums: np.ndarray) -> np.ndarray:
        """The scaled sums, an array [..., columns]."""
        away = np.where(sums < 0, -self.away, self.away)
        return (sums * self.multiplier + self.half + away) >> self.shift

    def first_sums(self, levels: np.ndarray) -> np.ndarray:
        """The least sums [level, column] whose scaled value is at least the level, for multipliers from 1."""
        wanted = (levels[:, None] << self.shift) - self.half
        negative, positive = (-((away - wanted) // self.multiplier) for away in (-self.away, self.away))
        return np.where(negative < 0, negative, np.maximum(positive, 0) if self.away else positive)

    def reduced(self, largest_sum: int, levels: np.ndarray) -> Scale | None:
        """A scale that does the same with shifts of at most 39, None if there is none.

        The same: for all sums up to the largest (in magnitude), as far as the levels tell.
        """
        shift = np.minimum(self.shift, _SHIFTS[-1])
        if self.away:  # the amount is one for all columns, so they drop equally many bits
            shift = self.shift - max(0, int(self.shift.max()) - _SHIFTS[-1])
        dropped = self.shift - shift
        if shift.min() < _SHIFTS[0]:
            return None
        found = Scale(self.multiplier >> dropped, shift, self.away >> int(dropped.max()))
        open_ = (self.multiplier & ((1 << dropped) - 1)) != 0
        nearest = (self.multiplier + ((1 << dropped) >> 1)) >> dropped
        for offset in _NEIGHBOURS:
            if not open_.any():
                break
            candidate = replace(found, multiplier=np.maximum(nearest + offset, 1))
            agrees = open_ & self._agrees(candidate, largest_sum, levels)
            found = replace(found, multiplier=np.where(agrees, candidate.multiplier, found.multiplier))
            open_ &= ~agrees
        return None if open_.any() else found

    def _agrees(self, other: Scale, largest_sum: int, levels: np.ndarray) -> np.ndarray:
        """For each column, whether another scale gives the same."""
        first = other.first_sums(levels)
        lowest, highest = -largest_sum, min(largest_sum, _HALF_WORD - 1)
        inside = np.clip(first, lowest, highest)
        rises = (first > highest) | (self.of(inside) >= levels[:, None])
        before = np.clip(first - 1, lowest, highest)
        stays = (first <= lowest) | (self.of(before) < levels[:, None])
        return (rises & stays).all(axis=0)


# The request


def _rewritten(
    request: KernelRequest, rescale: _Rescale, scale: Scale
) -> tuple[KernelRequest, dict[int, np.ndarray]]:
    """The expression ends in the requantisation; scales that differ by column are in memory, others in the code."""
    expression = request.epilogue
    assert expression is not None
    nodes, elements = list(expression.nodes[: rescale.index]), list(expression.elements[: rescale.index])
    inputs, packed = list(request.inputs), {}
    multiplier = scale.multiplier.astype(np.int32)
    factor = np.left_shift(1, _FACTOR_BITS + _WORD_BITS - scale.shift).astype(np.int16)
    scales: list[tuple[np.ndarray, str]] = [(multiplier, "i32"), (factor, "i16")]
    for node, (array, element) in zip(rescale.arguments[1:3], scales):
        elements[node] = element
        if (array == array[0]).all():
            nodes[node] = _constant(element, int(array[0]))
            continue
        if nodes[node][0] == "constant":
            return request, {}
        k = nodes[node][1][0]
        packed[k] = _padded(array)
        inputs[k] = Operand(_columns_view(element, inputs[k].view, packed[k].size))
    last: Node = (
        REQUANTIZE,
        rescale.arguments[:3],
        (("packing", replace(rescale.packing, away=scale.away)),),
    )
    expression = Expression((*nodes, last), (*elements, "i8"))
    return replace(request, inputs=tuple(inputs), epilogue=expression), packed


def _constant(element: str, value: int) -> Node:
    return "constant", (), (("element", element), ("value", value))


def _padded(array: np.ndarray) -> np.ndarray:
    """Room behind the last column for a whole vector of i16 that begins with any vector of columns."""
    return np.pad(array, (0, -array.size % LANES + LANES))


def _columns_view(element: str, view: View, columns: int) -> View:
    dense = View.contiguous(element, (columns,))
    return View(element, (*view.shape[:-1], columns), (*(0 for _ in view.shape[:-1]), *dense.strides))
