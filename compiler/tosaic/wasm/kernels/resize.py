"""Nearest and bilinear resizing of NHWC tensors (TOSA RESIZE).

Output index o stands over input position (o * denominator + offset) / numerator. The positions repeat their fractions
with a period: outputs of one phase read inputs at equal distances with the same weights, so each phase is a strided
nest with constant weights. Scales whose period is long compute positions and weights as they go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tosaic.prices import PriceList
from tosaic.wasm.kernel import Access, Kernel, KernelOptions, KernelRequest, View, whole_accesses
from tosaic.wasm.kernels.resize_parts import Leaf, Phase, Position, ResizedAxis, resized_axis, weighted_sum
from tosaic.wasm.kernels.resize_walk import Walk
from tosaic.wasm.kernels.staging import touched_runs
from tosaic.wasm.kernels.vector_nest import (
    Work,
    aligned,
    build_kernel,
    stream_inputs,
)
from tosaic.wasm.lanes import FLOAT, KINDS

_MOST_WORKS = 64


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """`resize`; float results are v00 w00 + v01 w01 + v10 w10 + v11 w11, summed in this order."""
    rows, columns = resized_axis(request, 0), resized_axis(request, 1)
    source = Access(0, _read_bytes(request, rows, columns))
    phases = [(r, c) for r in rows.phases() for c in columns.phases()]
    if len(phases) <= _MOST_WORKS:
        works = [_phase_work(request, rows, columns, r, c) for r, c in phases]
        kernel = build_kernel(request, works, prices, options)
        return replace(kernel, accesses=(source, *kernel.accesses[1:]))
    function = Walk(request, rows, columns, prices, options).emit()
    return Kernel(function, (source, *whole_accesses(request)[1:]))


def _read_bytes(
    request: KernelRequest, rows: ResizedAxis, columns: ResizedAxis
) -> tuple[tuple[int, int], ...]:
    """The bytes of the input rows and columns that some output reads."""
    view = request.inputs[0].view
    used = []
    for axis in (rows, columns):
        positions = [axis.position(i) for i in range(axis.count)]
        used.append(sorted({p.first for p in positions} | {p.second for p in positions}))
    return touched_runs(view, [range(view.shape[0]), *used, range(view.shape[3])])


def _phase_work(
    request: KernelRequest, rows: ResizedAxis, columns: ResizedAxis, row: Phase, column: Phase
) -> Work:
    views, output = [operand.view for operand in request.inputs], request.outputs[0]
    shape = (output.shape[0], row.count, column.count, output.shape[3])

    def of_phase(view: View, rows: int, columns: int) -> View:
        n, y, x, c = view.strides
        return View(view.element, shape, (n, y * rows, x * columns, c))

    def first(view: View, y: int, x: int) -> int:
        return y * view.strides[1] + x * view.strides[2]

    last = len(views)
    inputs, offsets = list(views), {last + 4: first(output, row.start, column.start)}
    for k in stream_inputs(request.epilogue):
        other = aligned(views[k], output.shape)
        inputs[k] = of_phase(other, row.period, column.period)
        offsets[k] = first(other, row.start, column.start)
    corners = _corners(row.position, column.position)
    for k, (y, x) in enumerate(corners, last):
        inputs.append(of_phase(views[0], row.step, column.step))
        offsets[k] = first(views[0], y, x)
    weights = _constant_weights(request, rows, columns, row.position.remainder, column.position.remainder)
    return Work(
        weighted_sum(request, range(last, last + 4), weights),
        inputs,
        of_phase(output, row.period, column.period),
        offsets,
        bases=dict.fromkeys(range(last, last + 4), 0) | {last + 4: last},
    )


def _corners(row: Position, column: Position) -> list[tuple[int, int]]:
    return [(y, x) for y in (row.first, row.second) for x in (column.first, column.second)]


def _constant_weights(
    request: KernelRequest, rows: ResizedAxis, columns: ResizedAxis, y: int, x: int
) -> list[Leaf | None]:
    """The weight of each corner as a constant node; None where it is zero."""
    pairs: list[tuple[Any, Any]] = [(rows.numerator - y, y), (columns.numerator - x, x)]
    if KINDS[request.result] == FLOAT:
        fractions = [
            np.float32(y) / np.float32(rows.numerator),
            np.float32(x) / np.float32(columns.numerator),
        ]
        pairs = [(np.float32(1) - fraction, fraction) for fraction in fractions]
    products = [a * b for a in pairs[0] for b in pairs[1]]
    as_number = float if KINDS[request.result] == FLOAT else int
    return [("constant", (), (("value", as_number(product)),)) if product else None for product in products]
