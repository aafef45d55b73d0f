"""The ops of a kernel as one expression, of which any window can be computed by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from tosaic_passes.tile_movement import MOVEMENT_RULES
from tosaic_passes.tile_windows import (
    WINDOW_RULES,
    Demand,
    Part,
    Rule,
    Sizes,
    Untiled,
    Window,
    shape_of,
    whole,
)

_CONSTANTS = ("tosa.const", "tosa.const_shape")
_RULES: Mapping[str, Rule] = {**WINDOW_RULES, **MOVEMENT_RULES}


@dataclass(frozen=True, eq=False)
class Expression:
    """The ops of a kernel that compute one result; what else they read is given."""

    ops: tuple[ir.Operation, ...]
    result: ir.Value

    @classmethod
    def of(cls, ops: Sequence[ir.Operation]) -> Expression | None:
        """The expression that the ops are, None if they give more than one result."""
        known = KnownValues()
        inner = [op for op in ops if not _is_folded(op, known)]
        read_outside = [
            result
            for op in inner
            for result in op.results
            if any(use.owner.operation not in inner for use in result.uses)
        ]
        one = len(read_outside) == 1 and read_outside[0].owner == inner[-1]
        return cls(tuple(inner), read_outside[0]) if one else None

    def reads(self, window: Window) -> set[tuple[ir.Value, Window]] | None:
        """What is read from outside for a window of the result; None if the window cannot be computed alone."""
        pending, seen, found = [(self.result, window)], set(), set()
        while pending:
            entry = pending.pop()
            if entry in seen:
                continue
            seen.add(entry)
            value, part = entry
            if not self.computes(value):
                found.add(entry)
                continue
            needed = demand(value.owner, part)
            if needed is None:
                return None
            pending += [(v, p) for v, p in zip(value.owner.operands, needed[0]) if isinstance(p, tuple)]
        return found

    def computes(self, value: ir.Value) -> bool:
        """Whether the value is computed in here."""
        return not isinstance(value.owner, ir.Block) and value.owner in self.ops

    def build(self, window: Window) -> ir.Value:
        """The ops that compute a window of the result, at the insertion point; there must be such."""
        return self._build(self.result, window, {})

    def _build(
        self, value: ir.Value, window: Window, built: dict[tuple[ir.Value, Window], ir.Value]
    ) -> ir.Value:
        """A window of a value: computed if the expression computes the value, else sliced."""
        if (value, window) not in built:
            if self.computes(value):
                built[value, window] = self._compute(value, window, built)
            else:
                built[value, window] = value if window == whole(value) else slice_of(value, window)
        return built[value, window]

    def _compute(self, value: ir.Value, window: Window, built: dict) -> ir.Value:
        return rebuilt(value.owner, window, lambda operand, part: self._build(operand, part, built))


def rebuilt(op: ir.Operation, window: Window, operand_of: Callable[[ir.Value, Window], ir.Value]) -> ir.Value:
    """The op for a window of its result, at the insertion point; `operand_of` gives windows of its operands."""
    needed = demand(op, window)
    assert needed is not None
    parts, changed = needed
    operands = [
        _operand(operand, part, operand_of)
        for operand, part in zip(op.operands, parts)
        if part is not Untiled.ABSENT
    ]
    kept = {name: attribute for name, attribute in op.attributes.items() if not name.startswith("ic.")}
    result = _with_shape(op.results[0], window)
    return ir.Operation.create(op.name, [result], operands, kept | changed, loc=op.location).results[0]


def _operand(operand: ir.Value, part: Part, operand_of: Callable[[ir.Value, Window], ir.Value]) -> ir.Value:
    if isinstance(part, Sizes):
        return _const_shape(part.values)
    return operand if isinstance(part, Untiled) else operand_of(operand, part)


def slice_of(value: ir.Value, window: Window) -> ir.Value:
    """A window of a value by `tosa.slice`."""
    start, size = (_const_shape([part[i] for part in window]) for i in (0, 1))
    return ir.Operation.create("tosa.slice", [_with_shape(value, window)], [value, start, size]).results[0]


def concat_of(parts: Sequence[ir.Value], axis: int, location: ir.Location) -> ir.Value:
    """The parts behind one another along an axis, by `tosa.concat` where there are several."""
    if len(parts) == 1:
        return parts[0]
    first = ir.RankedTensorType(parts[0].type)
    shape = list(first.shape)
    shape[axis] = sum(shape_of(part)[axis] for part in parts)
    attribute = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), axis)
    type = ir.RankedTensorType.get(shape, first.element_type)
    return ir.Operation.create("tosa.concat", [type], parts, {"axis": attribute}, loc=location).results[0]


def demand(op: ir.Operation, window: Window) -> Demand | None:
    """What `op` needs to compute a window of its result; None if it cannot, or if its kind is never tiled."""
    rule = _RULES.get(op.name.removeprefix("tosa."))
    return rule(op, window) if rule and len(op.results) == 1 else None


class KnownValues:
    """The values that are known before the program runs: constants, and what is computed from constants alone.

    Answers are kept, so no op may be erased meanwhile.
    """

    def __init__(self) -> None:
        self._answers: dict[ir.Value, bool] = {}

    def __contains__(self, value: ir.Value) -> bool:
        answers, pending = self._answers, [value]
        while pending:
            if pending[-1] not in answers:
                operands = _operands(pending[-1])
                unanswered = [operand for operand in operands if operand not in answers]
                if unanswered:
                    pending += unanswered
                    continue
                computed = bool(operands) and all(answers[operand] for operand in operands)
                answers[pending[-1]] = computed or _is_given(pending[-1])
            pending.pop()
        return answers[value]


def is_constant(value: ir.Value) -> bool:
    """Whether a value is known before the program runs."""
    return value in KnownValues()


def _operands(value: ir.Value) -> Sequence[ir.Value]:
    return () if isinstance(value.owner, ir.Block) else list(value.owner.operands)


def _is_given(value: ir.Value) -> bool:
    return not isinstance(value.owner, ir.Block) and value.owner.name in _CONSTANTS


def _is_folded(op: ir.Operation, known: KnownValues) -> bool:
    return bool(op.operands) and all(operand in known for operand in op.operands)


def _const_shape(sizes: Sequence[int]) -> ir.Value:
    values = ir.DenseElementsAttr.get(np.array(sizes, np.int64), type=ir.IndexType.get())
    type = ir.Type.parse(f"!tosa.shape<{len(sizes)}>")
    return ir.Operation.create("tosa.const_shape", [type], [], {"values": values}).results[0]


def _with_shape(value: ir.Value, window: Window) -> ir.Type:
    element = ir.RankedTensorType(value.type).element_type
    return ir.RankedTensorType.get([size for _, size in window], element)
