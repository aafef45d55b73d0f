"""The right operand of a contraction in the order in which its tiles read it: panel by panel, tap by tap.

A panel holds the columns of one tile, padded with zeros to whole vectors. Constants are packed when the kernel is
built, other operands into scratch memory by the kernel itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tosaic.wasm.function import Function
from tosaic.wasm.kernels.contraction import panels
from tosaic.wasm.kernels.staging import Conversion
from tosaic.wasm.kernels.streams import LANES
from tosaic.wasm.kernels.tile import Arithmetic
from tosaic.wasm.lanes import load_lanes, store_lanes


@dataclass(frozen=True)
class RightOperand:
    """Where the right operand's elements lie: (size, bytes apart) of batches, taps (outermost first) and columns.

    `run` is the number of innermost taps that are adjacent on the left; pairs of taps are formed within a run.
    """

    batches: tuple[tuple[int, int], ...]
    taps: tuple[tuple[int, int], ...]
    columns: tuple[int, int]
    run: int


def packed_bytes(operand: RightOperand, arithmetic: Arithmetic) -> int:
    batches = math.prod(size for size, _ in operand.batches)
    taps = math.prod(size for size, _ in operand.taps) // operand.run * -(-operand.run // arithmetic.width)
    return batches * taps * math.ceil(operand.columns[0] / LANES) * arithmetic.right_bytes


def pack(right: np.ndarray, run: int, width: int, vectors: int) -> np.ndarray:
    """A constant [batches, taps, columns] in panels of at most `vectors`, `width` taps of a run side by side."""
    batches, taps, columns = right.shape
    pairs = math.ceil(run / width)
    padded = np.zeros((batches, taps // run, pairs * width, math.ceil(columns / LANES) * LANES), right.dtype)
    padded[:, :, :run, :columns] = right.reshape(batches, taps // run, run, columns)
    padded = padded.reshape(batches, taps // run * pairs, width, -1).transpose(0, 1, 3, 2)
    parts = []
    for batch in padded:
        for group in panels(columns, vectors):
            for panel in range(group.count):
                first = (group.first + panel * group.width) * LANES
                parts.append(batch[:, first : first + group.width * LANES].reshape(-1))
    return np.concatenate(parts)


def emit_pack(
    f: Function,
    source: int,
    target: int,
    operand: RightOperand,
    vectors: int,
    conversion: Conversion,
    width: int,
) -> None:
    """Pack the operand at the address in local `source` to that in `target`. Lanes behind the last column keep
    what they hold: nothing that is stored depends on them."""

    def columns() -> None:
        for group in panels(operand.columns[0], vectors):
            start = group.first * LANES * operand.columns[1]
            f.add_to(source, start)
            with f.stepped(source, group.width * LANES * operand.columns[1], group.count):
                _loops(f, source, operand.taps, partial(panel, group.width, group.lanes))
            f.add_to(source, -start - group.count * group.width * LANES * operand.columns[1])

    def panel(count: int, lanes: int) -> None:
        for vector in range(count):
            _pack_vector(
                f, source, target, operand, vector, lanes if vector == count - 1 else LANES, conversion
            )
        f.add_to(target, count * 16)

    if width != 1:
        raise ValueError("pairs of taps are packed when the kernel is built")
    _loops(f, source, operand.batches, columns)


def _loops(f: Function, source: int, axes: Sequence[tuple[int, int]], body) -> None:
    if not axes:
        body()
        return
    (size, stride), *inner = axes
    if size == 1:
        _loops(f, source, inner, body)
        return
    with f.counted(size):
        _loops(f, source, inner, body)
        f.add_to(source, stride)
    f.add_to(source, -size * stride)


def _pack_vector(
    f: Function,
    source: int,
    target: int,
    operand: RightOperand,
    vector: int,
    lanes: int,
    conversion: Conversion,
) -> None:
    stride = operand.columns[1]
    first = 0
    while first < lanes:
        count = next(w for w in (4, 2, 1) if w <= lanes - first)
        offset = (vector * LANES + first) * stride
        value = partial(load_lanes, f, conversion.source, count, partial(f.get, source), offset, stride)
        store_lanes(f, "f32", count, partial(f.get, target), value, vector * 16 + first * 4)
        first += count
