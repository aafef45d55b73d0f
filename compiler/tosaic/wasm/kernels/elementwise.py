"""The general loop nest: an expression over operands with any strides.

Broadcast operands have strides of 0, transposed, sliced and reversed ones strides of their own, so copies of every
kind are the expression that is its input. One axis is taken as lanes of vectors; the vectors of a row, or several
short rows, are unrolled. Which axis and how many is decided by the emitted cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.expression import emit
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import (
    ELEMENT_BYTES,
    Expression,
    Kernel,
    KernelOptions,
    KernelRequest,
    View,
    whole_accesses,
)
from tosaic.wasm.lanes import (
    INT64,
    KINDS,
    load_lanes,
    load_raw,
    max_lanes,
    reverse_lanes,
    store_lanes,
    store_raw,
)
from tosaic.wasm.nest import Axis, axes_of, emit_loops, merge, pointer_loop, start_pointers

_UNROLLS = (1, 2, 4, 8, 16)
_VECTOR_BYTES = 16


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """The epilogue (or a copy of the only input) for every element of the output."""
    expression = request.epilogue or copy_expression(
        request.inputs[0].view.element, request.outputs[0].element
    )
    function = best_function(
        lambda plan: _whole_function(request, expression, prices, plan),
        plans(expression, [operand.view for operand in request.inputs], request.outputs[0]),
        prices,
        options,
    )
    return Kernel(function, whole_accesses(request), exact=function.exact)


def copy_expression(source: str, target: str) -> Expression:
    if source != target:
        raise TosaicError(f"a copy from {source} to {target} changes the element type", "use a cast")
    return Expression((("input", (0,), ()),), (source,))


@dataclass(frozen=True)
class Plan:
    """One way to run a nest: axes from the outermost to the one whose elements are lanes, and vectors a trip."""

    axes: tuple[Axis, ...]
    shifts: tuple[int, ...]
    unroll: int


def plans(expression: Expression, inputs: Sequence[View], output: View) -> list[Plan]:
    """Candidates. Operands are the inputs that are read element by element, then the output."""
    streams = [aligned(inputs[k], output.shape) for k in stream_inputs(expression)] + [output]
    axes, shifts = _forward(axes_of(output.shape, [view.strides for view in streams]), len(streams))
    merged = merge(axes) or [Axis(1, (0,) * len(streams))]
    sizes = [view.element_bytes for view in streams]
    lane_axes = [i for i, axis in enumerate(merged) if any(s == e for s, e in zip(axis.steps, sizes))]
    candidates = sorted({*lane_axes, len(merged) - 1}, reverse=True)
    orders = [(*merged[:i], *merged[i + 1 :], merged[i]) for i in candidates]
    return [Plan(order, shifts, unroll) for order in orders for unroll in _UNROLLS]


def best_function(
    emit_plan, candidates: Iterable[Plan], prices: PriceList, options: KernelOptions
) -> Function:
    """The cheapest function over `calls_per_install` calls and one install, within the budgets.

    Plans come in groups of rising `unroll`; a group ends when a larger one no longer pays.
    """
    best, best_price, last_axes, last_price = None, None, None, None
    for plan in candidates:
        if plan.axes == last_axes and last_price is None:
            continue
        function = emit_plan(plan)
        price = function.cost * options.calls_per_install + function.operators * prices.compile_per_operator
        stop = plan.axes == last_axes and price >= last_price
        last_axes, last_price = plan.axes, None if stop else price
        fits = function.local_count <= options.locals and function.byte_size <= options.function_bytes
        if best is None or (fits and price < best_price):
            best, best_price = function, price
    assert best is not None
    return best


def stream_inputs(expression: Expression) -> list[int]:
    """The inputs that are read element by element, in order."""
    return sorted({arguments[0] for op, arguments, _ in expression.nodes if op == "input"})


def aligned(view: View, shape: Sequence[int]) -> View:
    """The view with the output's shape: size 1 becomes a stride of 0, missing outer dimensions are added."""
    missing = len(shape) - len(view.shape)
    own = zip(view.shape, view.strides, shape[missing:])
    strides = []
    for size, stride, wanted in own:
        if size not in (1, wanted):
            raise ValueError(f"a view of shape {view.shape} does not broadcast to {tuple(shape)}")
        strides.append(0 if size == 1 else stride)
    return View(view.element, tuple(shape), (0,) * missing + tuple(strides))


def emit_nest(
    f: Function,
    expression: Expression,
    inputs: Sequence[View],
    output: View,
    plan: Plan,
    input_parameters: Sequence[int],
    output_parameter: int,
) -> None:
    """Emit the nest into a function that may do other work as well; parameters keep their values."""
    streams = stream_inputs(expression)
    pointers = start_pointers(f, [*(input_parameters[k] for k in streams), output_parameter], plan.shifts)
    views = [aligned(inputs[k], output.shape) for k in streams] + [output]
    _Nest(f, expression, plan, views, streams, pointers, input_parameters).emit()
    f.release(*pointers)


def _whole_function(
    request: KernelRequest, expression: Expression, prices: PriceList, plan: Plan
) -> Function:
    count = len(request.inputs)
    f = Function("elementwise", prices, params=("i32",) * (count + 1))
    inputs = [operand.view for operand in request.inputs]
    emit_nest(f, expression, inputs, request.outputs[0], plan, range(count), count)
    return f


def _forward(axes: list[Axis], operands: int) -> tuple[list[Axis], tuple[int, ...]]:
    """Turn axes along which the output runs backwards; also how far that moves each operand's first element."""
    shifts = [0] * operands
    turned = []
    for axis in axes:
        if axis.steps[-1] < 0:
            shifts = [shift + step * (axis.size - 1) for shift, step in zip(shifts, axis.steps)]
            axis = Axis(axis.size, tuple(-step for step in axis.steps))
        turned.append(axis)
    return turned, tuple(shifts)


@dataclass(frozen=True)
class _Piece:
    """A vector of a row: its first element and its number of lanes."""

    start: int
    lanes: int


@dataclass
class _Nest:
    f: Function
    expression: Expression
    plan: Plan
    views: Sequence[View]
    streams: Sequence[int]
    pointers: Sequence[int]
    input_parameters: Sequence[int]
    _held: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.is_copy = [node[0] for node in self.expression.nodes] == ["input"]
        self.elements = [view.element for view in self.views]
        size = ELEMENT_BYTES[self.elements[-1]]
        self.lanes = _VECTOR_BYTES // size if self.is_copy else max_lanes(self.expression.elements)
        *outer, self.lane_axis = self.plan.axes
        self.row = _pieces(self.lane_axis.size, self.lanes)
        self.rows_axis = outer.pop() if outer and len(self.row) * 2 <= self.plan.unroll else None
        self.outer = outer

    def emit(self) -> None:
        emit_loops(self.f, self.outer, self.pointers, self._inner, self._hold_constant_inputs)
        self.f.release(*self._held.values())

    def _inner(self) -> tuple[int, ...]:
        """The innermost loop: over several short rows at once, or over the vectors of one row."""
        if self.rows_axis is not None:
            axis = self.rows_axis
            rows = max(1, self.plan.unroll // len(self.row))
            return self._unrolled(axis.size, rows, axis.steps, self._row_at, [])
        full = [piece for piece in self.row if piece.lanes == self.lanes]
        tail = self.row[len(full) :]
        steps = tuple(step * self.lanes for step in self.lane_axis.steps)
        return self._unrolled(len(full), self.plan.unroll, steps, self._vector_at, tail)

    def _unrolled(
        self, units: int, per_trip: int, steps, emit_unit, tail: Sequence[_Piece]
    ) -> tuple[int, ...]:
        """`units` units, `per_trip` of them a trip, those left over and the tail behind the loop."""
        trips = units // per_trip
        moved = (0,) * len(steps)
        done = 0
        if trips > 1:
            stride = tuple(step * per_trip for step in steps)
            with pointer_loop(self.f, trips, stride, self.pointers) as advance:
                for unit in range(per_trip):
                    emit_unit(unit, (0,) * len(steps))
                advance((0,) * len(steps))
            moved = tuple(step * trips for step in stride)
            done = trips * per_trip
        for unit in range(done, units):
            emit_unit(unit, moved)
        for piece in tail:
            self._piece(piece, tuple(-m for m in moved))
        return moved

    def _row_at(self, index: int, moved: Sequence[int]) -> None:
        base = tuple(step * index - m for step, m in zip(self.rows_axis.steps, moved))  # type: ignore[union-attr]
        for piece in self.row:
            self._piece(piece, base)

    def _vector_at(self, index: int, moved: Sequence[int]) -> None:
        self._piece(_Piece(index * self.lanes, self.lanes), tuple(-m for m in moved))

    def _piece(self, piece: _Piece, base: Sequence[int]) -> None:
        """Load, compute and store one vector whose row starts `base` bytes behind the pointers."""
        f, last = self.f, len(self.views) - 1
        steps = self.lane_axis.steps
        offsets = [b + piece.start * step for b, step in zip(base, steps)]
        address, offset = self._address(last, offsets[last])
        if self.is_copy:
            store_raw(
                f, ELEMENT_BYTES[self.elements[last]], piece.lanes, address,
                lambda: self._load(0, offsets[0], piece.lanes), offset, steps[last],
            )  # fmt: skip
            return
        store_lanes(
            f, self.elements[last], piece.lanes, address,
            lambda: emit(
                f, self.expression, piece.lanes,
                lambda k: self._load(self.streams.index(k), offsets[self.streams.index(k)], piece.lanes),
                table_address=lambda k: f.get(self.input_parameters[k]),
            ),
            offset, steps[last],
        )  # fmt: skip

    def _load(self, stream: int, offset: int, lanes: int) -> None:
        """Push lanes of an input; a backward run is loaded forwards and reversed."""
        if stream in self._held:
            self.f.get(self._held[stream])
            return
        element, step = self.elements[stream], self.lane_axis.steps[stream]
        backward = step < 0 and lanes > 1
        if backward:
            offset, step = offset + step * (lanes - 1), -step
        address, offset = self._address(stream, offset)
        if self.is_copy:
            load_raw(self.f, ELEMENT_BYTES[element], lanes, address, offset, step)
        else:
            load_lanes(self.f, element, lanes, address, offset, step)
        if backward:
            wide = 8 if KINDS[element] == INT64 else 4
            reverse_lanes(self.f, ELEMENT_BYTES[element] if self.is_copy else wide, lanes)

    def _address(self, stream: int, offset: int):
        """How to push a base address, and the constant offset from it (which may not be negative)."""
        f, pointer = self.f, self.pointers[stream]
        if offset >= 0:
            return lambda: f.get(pointer), offset

        def push() -> None:
            f.get(pointer)
            f.i32(offset)
            f.op("i32.add")

        return push, 0

    def _hold_constant_inputs(self, depth: int) -> None:
        """Load the inputs that no inner axis moves into locals, as soon as they are fixed."""
        inner = [*self.outer[depth:], *([self.rows_axis] if self.rows_axis else []), self.lane_axis]
        if sum(axis.size for axis in inner) <= self.lanes:
            return
        for stream in range(len(self.streams)):
            if stream not in self._held and not any(axis.steps[stream] for axis in inner):
                self._load(stream, 0, self.lanes)
                self._held[stream] = self.f.local("v128")
                self.f.set(self._held[stream])


def _pieces(size: int, lanes: int) -> list[_Piece]:
    """A row as full vectors, then ever smaller powers of two."""
    pieces, start = [], 0
    while start < size:
        while lanes > size - start:
            lanes //= 2
        pieces.append(_Piece(start, lanes))
        start += lanes
    return pieces
