"""Dimensions that an operation treats alike, merged: how ops on tensors of rank above 6 become ops that TOSA has.

A grouping is a list of runs of neighbouring axes; each run becomes one dimension.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

Groups = list[list[int]]


def merge(shape: Sequence[int], groups: Groups) -> tuple[int, ...]:
    """The shape with each run of axes as one dimension."""
    return tuple(math.prod(shape[axis] for axis in group) for group in groups)


def separate(rank: int, touched: Collection[int]) -> Groups:
    """The axes that an operation touches stand alone, the others go together."""
    groups: Groups = []
    for axis in range(rank):
        if groups and axis not in touched and axis - 1 not in touched:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def fitting(rank: int, touched: Sequence[int], most: int) -> tuple[list[int], list[int]]:
    """The first touched axes that an operation can take at once on at most so many dimensions, and the others."""
    count = len(touched)
    while len(separate(rank, touched[:count])) > most:
        count -= 1
    return list(touched[:count]), list(touched[count:])


def runs(flags: Sequence[bool]) -> Groups:
    """Neighbouring axes with equal flags."""
    axes = range(len(flags))
    return [list(group) for _, group in itertools.groupby(axes, key=lambda axis: flags[axis])]


def broadcast_alike(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> Groups:
    """Neighbouring axes of a result along which the same operands are repeated."""
    groups: Groups = []
    last: list[bool] | None = None
    for axis, size in enumerate(shape):
        repeated = [operand[axis] != size for operand in operands]
        if groups and (size == 1 or last is None or repeated == last):
            groups[-1].append(axis)
        else:
            groups.append([axis])
        last = last if size == 1 else repeated
    return groups


def moved_together(shape: Sequence[int], perm: Sequence[int]) -> Groups:
    """Axes that stay neighbours when transposed, in the order of the result; those of size 1 go anywhere."""
    kept = [axis for axis, size in enumerate(shape) if size != 1]
    following = dict(itertools.pairwise(kept))
    groups: Groups = []
    for axis in (axis for axis in perm if shape[axis] != 1):
        if groups and following.get(groups[-1][-1]) == axis:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups
