"""The general loop nest: an expression for every element of an output, over operands with any strides.

Broadcast operands have strides of 0, transposed, sliced and reversed ones strides of their own, so copies of every
kind are the expression that is its input. One axis is taken as lanes of vectors; the vectors of a row, or several
short rows, are unrolled. Which axis and how many is decided by the emitted cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

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
from tosaic.wasm.kernels.fold import Place
from tosaic.wasm.lanes import (
    STORAGE,
    max_lanes,
    store_lanes,
    store_raw,
    store_saturates,
)
from tosaic.wasm.nest import (
    Axis,
    address_at,
    axes_of,
    emit_loops,
    load_at,
    merge,
    pointer_loop,
    start_pointers,
)

_UNROLLS = (1, 2, 4, 8, 16)
_VECTOR_BYTES = 16
_LOCALS_OF_CALLER = 64
"""More than any kernel passes on as bases; candidates are only measured."""


@dataclass(frozen=True)
class Own:
    """A value that the kernel computes itself for each output element, from operands `sources`.

    Each of the `views` has the output's shape: its strides say how far the first byte that the value depends on moves
    with the output's indices. `emit(f, lanes, places)` pushes the values of `lanes` output elements, in wide form;
    the places are those bytes of all sources. `elements` are the types of values on the way.
    """

    sources: tuple[int, ...]
    views: tuple[View, ...]
    emit: Callable[[Function, int, Sequence[Place]], None]
    elements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """A piece of work: an expression for every element of a view of the output.

    Operand k, the inputs and then the output, is seen from `offsets[k]` bytes behind the address in local `bases[k]`
    (by default both are k: the parameters of a kernel with one output).
    """

    expression: Expression
    inputs: Sequence[View]
    output: View
    offsets: Mapping[int, int] = field(default_factory=dict)
    own: Own | None = None
    bases: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def input_streams(self) -> list[int]:
        """The inputs that the expression reads element by element."""
        return stream_inputs(self.expression)

    @cached_property
    def operands(self) -> list[int]:
        """The operand of each stream: the inputs, the sources of the own value, the output."""
        own = () if self.own is None else self.own.sources
        return [*self.input_streams, *own, len(self.inputs)]

    @cached_property
    def streams(self) -> list[View]:
        """The view of each stream, all in the shape of the output."""
        own = () if self.own is None else self.own.views
        return [*(aligned(self.inputs[k], self.output.shape) for k in self.input_streams), *own, self.output]

    @cached_property
    def elements(self) -> tuple[str, ...]:
        own = () if self.own is None else (*(view.element for view in self.own.views), *self.own.elements)
        return (*self.expression.elements, *own)


@dataclass(frozen=True)
class Plan:
    """One way to run a nest: axes from the outermost to the one whose elements are lanes, and vectors a trip."""

    axes: tuple[Axis, ...]
    shifts: tuple[int, ...]
    unroll: int


def build_kernel(
    request: KernelRequest,
    works: Sequence[Work],
    prices: PriceList,
    options: KernelOptions,
    exact: bool = True,
) -> Kernel:
    """A kernel that does several pieces of work in order and touches all of its operands."""
    params = ("i32",) * (len(request.inputs) + len(request.outputs))
    plans = [best_plan(work, prices, options) for work in works]
    function = Function(request.op, prices, params)
    for work, plan in zip(works, plans):
        emit_nest(function, work, plan)
    if function.byte_size > options.function_bytes and len(works) > 1:
        function = _in_parts(request.op, works, plans, prices, params)
    function.exact &= exact
    return Kernel(function, whole_accesses(request), exact=function.exact)


def _in_parts(
    name: str, works: Sequence[Work], plans: Sequence[Plan], prices: PriceList, params: tuple[str, ...]
) -> Function:
    """A function that calls one function for each piece of work."""
    function = Function(name, prices, params)
    for work, plan in zip(works, plans):
        part = Function(name, prices, params)
        emit_nest(part, work, plan)
        for param in range(len(params)):
            function.get(param)
        function.call(part)
    return function


def best_plan(work: Work, prices: PriceList, options: KernelOptions) -> Plan:
    """The cheapest plan over `calls_per_install` calls and one install, within the budgets.

    For each order of the axes the unrolling is raised as long as that pays.
    """
    best, best_price = None, 0
    for axes, shifts in _orders(work):
        last_price = None
        for unroll in _UNROLLS:
            plan = Plan(axes, shifts, unroll)
            function = Function("candidate", prices, params=("i32",) * _LOCALS_OF_CALLER)
            emit_nest(function, work, plan)
            price = function.cost * options.calls_per_install
            price += function.operators * prices.compile_per_operator
            fits = function.local_count <= options.locals and function.byte_size <= options.function_bytes
            if best is None or (fits and price < best_price):
                best, best_price = plan, price
            if not fits or (last_price is not None and price >= last_price):
                break
            last_price = price
    assert best is not None
    return best


def emit_nest(f: Function, work: Work, plan: Plan) -> None:
    """Emit the work; parameters keep their values."""
    shifts = [shift + work.offsets.get(k, 0) for k, shift in zip(work.operands, plan.shifts)]
    pointers = start_pointers(f, [work.bases.get(k, k) for k in work.operands], shifts)
    _Nest(f, work, plan, pointers).emit()
    f.release(*pointers)


def _orders(work: Work) -> list[tuple[tuple[Axis, ...], tuple[int, ...]]]:
    """Axes with each promising one as lanes, and how far the first elements are moved."""
    streams = work.streams
    axes, shifts = _forward(axes_of(work.output.shape, [view.strides for view in streams]), len(streams))
    merged = merge(axes) or [Axis(1, (0,) * len(streams))]
    sizes = [view.element_bytes for view in streams]
    lane_axes = [i for i, axis in enumerate(merged) if any(s == e for s, e in zip(axis.steps, sizes))]
    candidates = sorted({*lane_axes, len(merged) - 1}, reverse=True)
    return [((*merged[:i], *merged[i + 1 :], merged[i]), shifts) for i in candidates]


def stream_inputs(expression: Expression | None) -> list[int]:
    """The inputs that an expression reads element by element (look-up tables are not)."""
    nodes = expression.nodes if expression else ()
    return sorted({arguments[0] for op, arguments, _ in nodes if op == "input"})


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
    work: Work
    plan: Plan
    pointers: Sequence[int]
    _held: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        work = self.work
        self.views = work.streams
        self.output = len(self.views) - 1
        self.element = work.output.element
        self.is_copy = len(work.expression.nodes) == 1 and work.expression.nodes[0][0] in (
            "input",
            "constant",
        )
        size = ELEMENT_BYTES[self.element]
        self.lanes = _VECTOR_BYTES // size if self.is_copy else max_lanes((*work.elements, self.element))
        *outer, self.lane_axis = self.plan.axes
        self.full = self.lane_axis.size // self.lanes
        self.tail = _tail(self.full * self.lanes, self.lane_axis.size, self.lanes)
        self.pieces = self.full + len(self.tail)
        self.rows_axis = outer.pop() if outer and self.pieces * 2 <= self.plan.unroll else None
        self.outer = outer

    def emit(self) -> None:
        emit_loops(self.f, self.outer, self.pointers, self._inner, self._hold_constant_inputs)
        self.f.release(*self._held.values())

    def _inner(self) -> tuple[int, ...]:
        """The innermost loop: over several short rows at once, or over the vectors of one row."""
        if self.rows_axis is not None:
            axis = self.rows_axis
            rows = max(1, self.plan.unroll // self.pieces)
            return self._unrolled(axis.size, rows, axis.steps, self._row_at, [])
        steps = tuple(step * self.lanes for step in self.lane_axis.steps)
        return self._unrolled(self.full, self.plan.unroll, steps, self._vector_at, self.tail)

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
        for number in range(self.full):
            self._piece(_Piece(number * self.lanes, self.lanes), base)
        for piece in self.tail:
            self._piece(piece, base)

    def _vector_at(self, index: int, moved: Sequence[int]) -> None:
        self._piece(_Piece(index * self.lanes, self.lanes), tuple(-m for m in moved))

    def _piece(self, piece: _Piece, base: Sequence[int]) -> None:
        """Load, compute and store one vector whose row starts `base` bytes behind the pointers."""
        offsets = [b + piece.start * step for b, step in zip(base, self.lane_axis.steps)]
        address, offset = address_at(self.f, self.pointers[self.output], offsets[self.output])
        step = self.lane_axis.steps[self.output]
        if self.is_copy:
            size = ELEMENT_BYTES[self.element]
            store_raw(self.f, size, piece.lanes, address, lambda: self._copied(offsets, piece), offset, step)
        else:
            value = lambda: self._value(offsets, piece.lanes)  # noqa: E731
            store_lanes(self.f, self.element, piece.lanes, address, value, offset, step)

    def _copied(self, offsets: Sequence[int], piece: _Piece) -> None:
        """Push raw elements: those of the only input, or the constant."""
        op, _, attributes = self.work.expression.nodes[0]
        if op == "input":
            self._load(0, offsets[0], piece.lanes)
        else:
            value: np.ndarray = np.array(dict(attributes)["value"]).astype(STORAGE[self.element])
            self.f.v128(value.tobytes() * (_VECTOR_BYTES // value.itemsize))

    def _value(self, offsets: Sequence[int], lanes: int) -> None:
        """Push the value of the expression."""
        streams, own = self.work.input_streams, self.work.own

        def load_input(k: int) -> None:
            self._load(streams.index(k), offsets[streams.index(k)], lanes)

        def load_result() -> None:
            sources = range(len(streams), self.output)
            places = [Place(self.pointers[k], offsets[k], self.lane_axis.steps[k]) for k in sources]
            own.emit(self.f, lanes, places)  # type: ignore[union-attr]

        emit(
            self.f, self.work.expression, lanes, load_input, load_result if own else None,
            table_address=lambda k: self.f.get(self.work.bases.get(k, k)),
            store_saturates=store_saturates(self.element, lanes, self.lane_axis.steps[self.output]),
        )  # fmt: skip

    def _load(self, stream: int, offset: int, lanes: int) -> None:
        """Push lanes of an input."""
        if stream in self._held:
            self.f.get(self._held[stream])
            return
        element, step = self.views[stream].element, self.lane_axis.steps[stream]
        load_at(self.f, element, lanes, self.pointers[stream], offset, step, raw=self.is_copy)

    def _hold_constant_inputs(self, depth: int) -> None:
        """Load the inputs that no inner axis moves into locals, as soon as they are fixed."""
        inner = [*self.outer[depth:], *([self.rows_axis] if self.rows_axis else []), self.lane_axis]
        if sum(axis.size for axis in inner) <= self.lanes:
            return
        for stream in range(len(self.work.input_streams)):
            if stream not in self._held and not any(axis.steps[stream] for axis in inner):
                self._load(stream, 0, self.lanes)
                self._held[stream] = self.f.local("v128")
                self.f.set(self._held[stream])


def _tail(start: int, size: int, lanes: int) -> list[_Piece]:
    """The end of a row from element `start` on, too short for a full vector, in ever smaller powers of two."""
    pieces = []
    while start < size:
        while lanes > size - start:
            lanes //= 2
        pieces.append(_Piece(start, lanes))
        start += lanes
    return pieces
