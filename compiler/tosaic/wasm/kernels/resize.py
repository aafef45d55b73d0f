"""Nearest and bilinear resizing of NHWC tensors (TOSA RESIZE).

Output index o stands over input position (o * denominator + offset) / numerator. The positions repeat their fractions
with a period: outputs of one phase read inputs at equal distances with the same weights, so each phase is a strided
nest with constant weights. Scales whose period is long compute positions and weights as they go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Access, Expression, Kernel, KernelOptions, KernelRequest, View, whole_accesses
from tosaic.wasm.kernels.staging import touched_runs
from tosaic.wasm.kernels.vector_nest import (
    Work,
    aligned,
    best_plan,
    build_kernel,
    emit_nest,
    stream_inputs,
)
from tosaic.wasm.lanes import FLOAT, INT64, KINDS
from tosaic.wasm.nest import start_pointers

_MOST_WORKS = 64


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """`resize`; float results are v00 w00 + v01 w01 + v10 w10 + v11 w11, summed in this order."""
    rows, columns = _axis(request, 0), _axis(request, 1)
    source = Access(0, _read_bytes(request, rows, columns))
    phases = [(r, c) for r in rows.phases() for c in columns.phases()]
    if len(phases) <= _MOST_WORKS:
        works = [_phase_work(request, rows, columns, r, c) for r, c in phases]
        kernel = build_kernel(request, works, prices, options)
        return replace(kernel, accesses=(source, *kernel.accesses[1:]))
    function = _Walk(request, rows, columns, prices, options).emit()
    return Kernel(function, (source, *whole_accesses(request)[1:]))


@dataclass(frozen=True)
class _Position:
    """Where an output index stands: its two neighbours among the inputs, and how far it is from the first."""

    first: int
    second: int
    remainder: int


@dataclass(frozen=True)
class _Phase:
    """Outputs `start`, `start` + `period`... (count of them) and the position of the first; inputs move by `step`."""

    start: int
    period: int
    count: int
    step: int
    position: _Position


@dataclass(frozen=True)
class _ResizedAxis:
    """Rows or columns: sizes of input and output, the scale as a fraction, the offset in 1 / numerator."""

    size: int
    count: int
    numerator: int
    denominator: int
    offset: int
    nearest: bool

    def position(self, index: int) -> _Position:
        whole, remainder = divmod(index * self.denominator + self.offset, self.numerator)
        first, second = (min(max(place, 0), self.size - 1) for place in (whole, whole + 1))
        if self.nearest:
            first = second = second if 2 * remainder >= self.numerator else first
            remainder = 0
        return _Position(first, second, remainder)

    def phases(self) -> list[_Phase]:
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
                found.append(_Phase(start, period, count, distance, position))
                start += count * period
        return found

    def _moves(self, index: int, position: _Position, step: int) -> bool:
        return self.position(index).first == position.first + step

    def _continues(self, index: int, position: _Position, distance: int) -> bool:
        if index >= self.count:
            return False
        here = self.position(index)
        return (here.first, here.second) == (position.first + distance, position.second + distance)


def _axis(request: KernelRequest, dimension: int) -> _ResizedAxis:
    scale, offset = request.attributes["scale"], request.attributes["offset"]
    return _ResizedAxis(
        request.inputs[0].view.shape[1 + dimension],
        request.outputs[0].shape[1 + dimension],
        scale[2 * dimension],
        scale[2 * dimension + 1],
        offset[dimension],
        "NEAREST" in request.attributes["mode"],
    )


def _read_bytes(
    request: KernelRequest, rows: _ResizedAxis, columns: _ResizedAxis
) -> tuple[tuple[int, int], ...]:
    """The bytes of the input rows and columns that some output reads."""
    view = request.inputs[0].view
    used = []
    for axis in (rows, columns):
        positions = [axis.position(i) for i in range(axis.count)]
        used.append(sorted({p.first for p in positions} | {p.second for p in positions}))
    return touched_runs(view, [range(view.shape[0]), *used, range(view.shape[3])])


# Phases


def _phase_work(
    request: KernelRequest, rows: _ResizedAxis, columns: _ResizedAxis, row: _Phase, column: _Phase
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
        _expression(request, range(last, last + 4), weights),
        inputs,
        of_phase(output, row.period, column.period),
        offsets,
        bases=dict.fromkeys(range(last, last + 4), 0) | {last + 4: last},
    )


def _corners(row: _Position, column: _Position) -> list[tuple[int, int]]:
    return [(y, x) for y in (row.first, row.second) for x in (column.first, column.second)]


_Leaf = tuple[str, tuple[int, ...], tuple[tuple[str, object], ...]]


def _constant_weights(
    request: KernelRequest, rows: _ResizedAxis, columns: _ResizedAxis, y: int, x: int
) -> list[_Leaf | None]:
    """The weight of each corner as a constant node; None where it is zero."""
    if KINDS[request.result] != FLOAT:
        pairs = [(rows.numerator - y, y), (columns.numerator - x, x)]
    else:
        fractions = [
            np.float32(y) / np.float32(rows.numerator),
            np.float32(x) / np.float32(columns.numerator),
        ]
        pairs = [(np.float32(1) - fraction, fraction) for fraction in fractions]
    products = [a * b for a in pairs[0] for b in pairs[1]]
    as_number = float if KINDS[request.result] == FLOAT else int
    return [("constant", (), (("value", as_number(product)),)) if product else None for product in products]


def _expression(
    request: KernelRequest, corners: Sequence[int], weights: Sequence[_Leaf | None]
) -> Expression:
    """The weighted sum of the corner inputs, then the epilogue on it."""
    element, result = request.inputs[0].view.element, request.result
    nodes: list[_Leaf] = []
    elements: list[str] = []

    def add(node: _Leaf, of: str) -> int:
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
    nodes: list[_Leaf], elements: list[str], result: int, epilogue: Expression | None
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


# Positions computed as they are needed


class _Walk:
    """Loops over the pixels of the output; each computes its corners and weights, then runs a nest of one row."""

    def __init__(
        self,
        request: KernelRequest,
        rows: _ResizedAxis,
        columns: _ResizedAxis,
        prices: PriceList,
        options: KernelOptions,
    ) -> None:
        self.request, self.rows, self.columns = request, rows, columns
        self.prices, self.options = prices, options
        self.f = Function("resize", prices, params=("i32",) * (len(request.inputs) + 1))
        self.source, self.output = request.inputs[0].view, request.outputs[0]
        self.integer = KINDS[request.result] != FLOAT
        self.bilinear = not rows.nearest
        self.weights = [self.f.local("v128") for _ in range(4)] if self.bilinear else []

    def emit(self) -> Function:
        f, batch = self.f, self.output.shape[0]
        streams = stream_inputs(self.request.epilogue)
        operands = {0: self.source} | {
            k: aligned(self.request.inputs[k].view, self.output.shape) for k in streams
        }
        operands[len(self.request.inputs)] = self.output
        pointers = dict(zip(operands, start_pointers(f, list(operands), [0] * len(operands))))
        corner_rows, corners = self._locals(2), self._locals(4)
        work = self._row_work(operands, pointers, corners)
        plan = best_plan(work, self.prices, self.options)
        moving = {k: pointer for k, pointer in pointers.items() if k}
        with f.counted(batch):
            with f.counted(self.rows.count) as y:
                remainder_y = self._place(y, self.rows, pointers[0], self.source.strides[1], corner_rows)
                with f.counted(self.columns.count) as x:
                    remainder_x = self._place_columns(x, corner_rows, corners)
                    self._weigh(remainder_y, remainder_x)
                    emit_nest(f, work, plan)
                    f.release(remainder_x)
                    self._advance(moving, operands, 2, 1)
                f.release(remainder_y)
                self._advance(moving, operands, 1, 2)
            self._advance(moving, operands, 0, 1)
            f.add_to(pointers[0], self.source.strides[0])
        return f

    def _locals(self, count: int) -> list[int]:
        return [self.f.local("i32") for _ in range(count)]

    def _row_work(self, operands: dict[int, View], pointers: dict[int, int], corners: list[int]) -> Work:
        """The channels of one pixel."""
        views = [operand.view for operand in self.request.inputs]
        last = len(views)
        inputs = [self._channels(operands.get(k, view)) for k, view in enumerate(views)]
        inputs += [self._channels(self.source)] * 4
        weights: list[_Leaf | None] = [("local", (local,), ()) for local in self.weights]
        bases = {k: pointers[k] for k in pointers if 0 < k < last}
        bases |= dict(enumerate(corners, last)) | {last + 4: pointers[last]}
        expression = _expression(self.request, range(last, last + 4), weights)
        return Work(expression, inputs, self._channels(self.output), bases=bases)

    def _channels(self, view: View) -> View:
        return View(view.element, view.shape[-1:], view.strides[-1:])

    def _advance(self, pointers: dict[int, int], operands: dict[int, View], axis: int, inner: int) -> None:
        """Move on along an axis of the output, back from the end of the next inner axis (2: columns)."""
        sizes = self.output.shape
        for k, pointer in pointers.items():
            strides = operands[k].strides
            back = strides[inner] * sizes[inner] if axis != 2 else 0
            self.f.add_to(pointer, strides[axis] - back)

    def _place(self, index: int, axis: _ResizedAxis, base: int, stride: int, targets: Sequence[int]) -> int:
        """Set `targets` to the addresses of both neighbours; the remainder in a new local."""
        f = self.f
        whole, remainder = f.local("i32"), f.local("i32")
        # A multiple of the numerator keeps the dividend from being negative.
        lift = max(0, -(axis.offset // axis.numerator))
        f.get(index)
        f.i32(axis.denominator)
        f.op("i32.mul")
        f.i32(axis.offset + lift * axis.numerator)
        f.op("i32.add")
        f.tee(remainder)
        f.get(remainder)
        f.i32(axis.numerator)
        f.op("i32.div_u")
        f.tee(whole)
        f.i32(axis.numerator)
        f.op("i32.mul")
        f.op("i32.sub")
        f.set(remainder)
        if axis.nearest:
            self._round(whole, remainder, axis.numerator)
        for target, ahead in zip(targets, (0, 1)):
            f.get(whole)
            f.i32(ahead - lift)
            f.op("i32.add")
            self._clamp(axis.size)
            f.i32(stride)
            f.op("i32.mul")
            f.get(base)
            f.op("i32.add")
            f.set(target)
        f.release(whole)
        return remainder

    def _place_columns(self, x: int, rows: Sequence[int], corners: Sequence[int]) -> int:
        """Addresses of the four corners: both columns in the upper row, then the same in the lower one."""
        f, stride = self.f, self.source.strides[2]
        remainder = self._place(x, self.columns, rows[0], stride, corners[:2])
        for upper, lower in zip(corners[:2], corners[2:]):
            f.get(upper)
            f.get(rows[1])
            f.op("i32.add")
            f.get(rows[0])
            f.op("i32.sub")
            f.set(lower)
        return remainder

    def _round(self, whole: int, remainder: int, numerator: int) -> None:
        """To the next place from half way on."""
        f = self.f
        f.get(whole)
        f.get(remainder)
        f.i32(1)
        f.op("i32.shl")
        f.i32(numerator)
        f.op("i32.ge_u")
        f.op("i32.add")
        f.set(whole)

    def _clamp(self, size: int) -> None:
        """Into 0 ... size - 1."""
        f = self.f
        place = f.local("i32")
        for bound, compare in ((0, "i32.gt_s"), (size - 1, "i32.lt_s")):
            f.tee(place)
            f.i32(bound)
            f.get(place)
            f.i32(bound)
            f.op(compare)
            f.op("select")
        f.release(place)

    def _weigh(self, remainder_y: int, remainder_x: int) -> None:
        """Set the weights of the corners."""
        if not self.bilinear:
            return
        parts = [
            self._parts(remainder, axis.numerator)
            for remainder, axis in ((remainder_y, self.rows), (remainder_x, self.columns))
        ]
        f, lanes = self.f, "i32" if self.integer else "f32"
        for weight, (a, b) in zip(self.weights, [(a, b) for a in parts[0] for b in parts[1]]):
            f.get(a)
            f.get(b)
            f.op(f"{lanes}.mul")
            if KINDS[self.request.result] == INT64:
                f.op("i64.extend_i32_s")
                f.op("i64x2.splat")
            else:
                f.op(f"{lanes}x4.splat")
            f.set(weight)
        f.release(*parts[0], *parts[1])

    def _parts(self, remainder: int, numerator: int) -> tuple[int, int]:
        """Locals with the weights of the first and the second neighbour along one axis."""
        f = self.f
        if self.integer:
            first, second = f.local("i32"), f.local("i32")
            f.i32(numerator)
            f.get(remainder)
            f.op("i32.sub")
            f.set(first)
            f.get(remainder)
            f.set(second)
            return first, second
        first, second = f.local("f32"), f.local("f32")
        f.get(remainder)
        f.op("f32.convert_i32_s")
        f.f32(numerator)
        f.op("f32.div")
        f.set(second)
        f.f32(1.0)
        f.get(second)
        f.op("f32.sub")
        f.set(first)
        return first, second
