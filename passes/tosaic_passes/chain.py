"""A chain: kernels that run part by part, along one axis of each of their results, whatever they hand on to each other.

The axis of one value fixes those of its neighbours: rows of a convolution need rows of its input, rows of scores need
rows of queries and all keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from tosaic_passes.tile_expression import KnownValues, demand
from tosaic_passes.tile_windows import Untiled, Window, shape_of, whole

_VIEWS = frozenset("tosa.reshape tosa.reverse tosa.slice tosa.tile tosa.transpose".split())


class BrokenChainError(Exception):
    """An op cannot run along with a chain."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Ops in the order of execution, and the axis of each of their results that parts run along.

    `results` are what others read. `kept` are the values of which rows are kept until no part needs them any more; all
    others are moved anew by every part that reads them. `extent` is that of the shortest axis. Where `outer` names
    another axis of each result, the parts along `axis` are run for one index after the other along that. `following`
    are ops between the others that read results of the chain.
    """

    ops: tuple[ir.Operation, ...]
    following: tuple[ir.Operation, ...]
    axis: Mapping[ir.Value, int]
    outer: Mapping[ir.Value, int]
    results: tuple[ir.Value, ...]
    kept: frozenset[ir.Value]

    @classmethod
    def of(cls, axes: Axes, outer: Axes | None = None) -> Chain | None:
        """The chain of the ops that have an axis; None if there is none."""
        ops = [op for op in axes.ops if op.results[0] in axes.of]
        if not ops or (outer and any(op.results[0] not in outer.of for op in ops)):
            return None
        members = set(ops)
        for op in reversed(ops):  # what only moves data for others is theirs
            if is_view(op) and not any(use.owner.operation in members for use in op.results[0].uses):
                members.remove(op)
        ops = [op for op in ops if op in members]
        results = tuple(op.results[0] for op in ops if _read_by_others(op, members))
        kept = frozenset(op.results[0] for op in ops if not is_view(op)).union(results)
        axis = {op.results[0]: axes.of[op.results[0]] for op in ops}
        following = tuple(_readers(axes.ops, axis))
        return cls(tuple(ops), following, axis, outer.of if outer else {}, results, kept) if kept else None

    @property
    def extent(self) -> int:
        return min(shape_of(value)[self.axis[value]] for value in self.kept)

    @property
    def outer_extent(self) -> int:
        return min((shape_of(value)[self.outer[value]] for value in self.kept if self.outer), default=1)


def _readers(ops: Sequence[ir.Operation], values: Iterable[ir.Value]) -> Iterator[ir.Operation]:
    """The ops that read some of the values, or what others of them compute, but compute none of the values."""
    chain = set(values)
    reached = set(chain)
    for op in ops:
        if not chain.issuperset(op.results) and not reached.isdisjoint(op.operands):
            reached.update(op.results)
            yield op


def _read_by_others(op: ir.Operation, members: set[ir.Operation]) -> bool:
    return any(use.owner.operation not in members for use in op.results[0].uses)


class Axes:
    """The axes along which the results of ops run in parts, found op by op in the order of execution.

    An op that reads nothing of the others, or whose result one of them reads as a whole, has none: it runs before them.
    """

    def __init__(self, rules: PartialAxes, axis: int) -> None:
        """`axis` is that of the result of the first op that is appended."""
        self.of: dict[ir.Value, int] = {}
        self.ops: list[ir.Operation] = []
        self._rules = rules
        self._computed: set[ir.Value] = set()
        self._begin: int | None = axis

    def append(self, op: ir.Operation) -> None:
        """Let the parts go on with an op. Raises BrokenChainError if they cannot."""
        self.ops.append(op)
        self._computed.update(op.results)
        if self._begin is not None:
            axis, self._begin = self._begin, None
            self._fix(op.results[0], axis)
            return
        if not any(value in self.of for value in op.operands):
            return
        if len(op.results) != 1:
            raise BrokenChainError
        for axis in range(len(shape_of(op.results[0]))):
            needs = self._rules.of(op, axis)
            if needs and all(
                self.of.get(value, part) == part for value, part in zip(op.operands, needs.axes)
            ):
                self._fix(op.results[0], axis)
                return
        raise BrokenChainError

    def _fix(self, value: ir.Value, axis: int) -> None:
        """Let a value run along an axis, and with it what it is computed from."""
        if value not in self._computed or self.of.get(value) == axis:
            return
        needs = self._rules.of(value.owner.operation, axis)
        if needs is None or value in self.of:
            raise BrokenChainError
        self.of[value] = axis
        for operand, part in zip(value.owner.operands, needs.axes):
            if part is None:
                self._leave(operand)
            else:
                self._fix(operand, part)

    def _leave(self, value: ir.Value) -> None:
        """What is read as a whole is computed before, and all that it is computed from."""
        if value in self.of:
            raise BrokenChainError
        if value in self._computed:
            self._computed.difference_update(value.owner.results)
            for operand in value.owner.operands:
                self._leave(operand)


def is_view(op: ir.Operation) -> bool:
    """Whether the op only moves the data of one operand."""
    return op.name in _VIEWS


@dataclass(frozen=True)
class Needs:
    """What an op needs of each operand for a part of its result along some axis.

    `axes` has None for an operand that is needed as a whole. Of `overlapping` operands two parts read the same rows.
    """

    axes: tuple[int | None, ...]
    overlapping: tuple[bool, ...]


class PartialAxes:
    """The needs of ops, kept once found, and which values are known before the program runs."""

    def __init__(self) -> None:
        self.known = KnownValues()
        self._found: dict[tuple[ir.Value, int], Needs | None] = {}

    def of(self, op: ir.Operation, axis: int) -> Needs | None:
        """For a part of the result along an axis; None if no part can be computed alone."""
        if len(op.results) != 1:
            return None
        key = op.results[0], axis
        if key not in self._found:
            self._found[key] = _needs(op, axis, self.known)
        return self._found[key]


def _needs(op: ir.Operation, axis: int, known: KnownValues) -> Needs | None:
    if not isinstance(op.results[0].type, ir.RankedTensorType):
        return None
    window = list(whole(op.results[0]))
    for size in _part_sizes(window[axis][1]):
        window[axis] = (0, size)
        first = demand(op, tuple(window))
        window[axis] = (size, size)
        second = demand(op, tuple(window))
        if first is None or second is None:
            continue
        axes = [_axes_in_part(operand, part, axis, known) for operand, part in zip(op.operands, first[0])]
        if all(len(found) <= 1 for found in axes):
            overlapping = [
                bool(found) and _overlap(before, after, found[0])
                for found, before, after in zip(axes, first[0], second[0])
            ]
            return Needs(tuple(next(iter(found), None) for found in axes), tuple(overlapping))
    return None


def _overlap(first: object, second: object, axis: int) -> bool:
    return isinstance(first, tuple) and isinstance(second, tuple) and second[axis][0] < sum(first[axis])


def _axes_in_part(operand: ir.Value, part: object, axis: int, known: KnownValues) -> Sequence[int]:
    """The axes along which less than the whole is needed; what other parts read alone runs along like the result."""
    if part is Untiled.ABSENT:
        return [axis]
    if operand in known or not isinstance(part, tuple):
        return []
    return [i for i, (have, all_of_it) in enumerate(zip(part, whole(operand))) if have != all_of_it]


def _part_sizes(extent: int) -> Iterator[int]:
    """Sizes to try, each a divisor: an axis may be made of several that stay whole but for one."""
    if extent > 1:
        yield 1
    for factor in _prime_factors(extent):
        if factor < extent:
            yield extent // factor


def _prime_factors(number: int) -> Iterable[int]:
    found, factor = {}, 2
    while factor * factor <= number:
        if number % factor == 0:
            found[factor] = True
            number //= factor
        else:
            factor += 1
    return [*found, number] if number > 1 else list(found)


def rows_of(chain: Chain, value: ir.Value, rows: tuple[int, int], block: int) -> Window:
    """A value between two rows of its axis, at one index of its outer axis."""
    window = list(whole(value))
    if chain.outer:
        window[chain.outer[value]] = (block, 1)
    window[chain.axis[value]] = (rows[0], rows[1] - rows[0])
    return tuple(window)
