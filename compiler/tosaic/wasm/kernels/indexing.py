"""Gather and scatter of rows: values [N, K, C], indices [N, W].

Constant indices that run in steps become strided copies. Otherwise each index is read and checked: one that lies
outside of the values ends the message, since it must neither read nor write other memory. How many pages a gather
touches does not depend on the indices (`page_touches`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import (
    Access,
    Expression,
    Kernel,
    KernelOptions,
    KernelRequest,
    Sample,
    View,
    whole_accesses,
)
from tosaic.wasm.kernels.page_touches import TopUp, note_bytes, touch_all
from tosaic.wasm.kernels.staging import touched_runs
from tosaic.wasm.kernels.vector_nest import (
    Plan,
    Work,
    aligned,
    best_plan,
    build_kernel,
    emit_nest,
    stream_inputs,
)
from tosaic.wasm.nest import Axis, emit_loops, start_pointers

_MOST_RUNS = 24
_LONGEST_PERIOD = 8


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """`gather`, with an epilogue on what it takes, `row_gather` and `scatter`."""
    if request.op == "scatter":
        return _scatter(request, prices, options)
    if request.op == "row_gather":
        return _row_gather(request, prices, options)
    indices = request.inputs[1].array
    if indices is None:
        return _gather_unknown_rows(request, prices, options)
    accesses = (Access(0, _taken(request.inputs[0].view, indices)), *whole_accesses(request)[1:])
    runs = _runs(indices)
    if runs is None:
        return Kernel(_gather_by_index(request, prices, options), accesses)
    works = [_strided(request, run) for run in runs]
    without_indices = tuple(access for access in accesses if access.operand != 1)
    return replace(build_kernel(request, works, prices, options), accesses=without_indices)


def _gather_unknown_rows(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """Indices that only a run knows: always the same number of pages is touched."""
    table, notes = request.inputs[0], len(request.inputs) + 1
    accesses = whole_accesses(request)
    top_up = TopUp.cheapest(table, request.inputs[1].view.size, (0, notes, notes + 1), prices)
    f = _gather_by_index(request, prices, options, top_up)
    if top_up is None:
        touch_all(f, 0, accesses[0].runs)
        return Kernel(f, accesses)
    accesses = (*accesses[1:], Access(notes, ((0, note_bytes(top_up.pages)),), write=True))
    assert table.array is not None
    return Kernel(f, accesses, {0: table.array}, sample=Sample(0, top_up.touched))


def _gather_by_index(
    request: KernelRequest, prices: PriceList, options: KernelOptions, top_up: TopUp | None = None
) -> Function:
    views, output = [operand.view for operand in request.inputs], request.outputs[0]
    others = {k: aligned(views[k], output.shape) for k in stream_inputs(request.epilogue)} | {
        len(views): output
    }
    inputs = [_row(others.get(k, view)) for k, view in enumerate(views)]
    f = Function("gather", prices, params=("i32",) * (len(views) + (1 if top_up is None else 3)))
    with top_up.noting(f) if top_up else nullcontext() as note:
        _Rows(f, views[0].shape[1], views[0].strides[1], note).emit(
            views[1],
            {0: _along_rows(views[0])} | {k: view.strides[:2] for k, view in others.items()},
            indexed=0,
            work=lambda bases: Work(
                _on_input(request.epilogue, output.element), inputs, _row(output), bases=bases
            ),
            plan=lambda work: best_plan(work, prices, options),
        )
    return f


def _scatter(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """All of the values, then the rows that replace some of them.

    Values that are `in_place` already belong to a loop that has written all of them before its first trip, so that
    their pages count as touched whichever the rows are.
    """
    values, indices, rows = (operand.view for operand in request.inputs)
    output = request.outputs[0]
    f = Function("scatter", prices, params=("i32",) * 4)
    if not request.attributes.get("in_place", False):
        copy = Work(_on_input(None, output.element), [values], output, bases={1: 3})
        emit_nest(f, copy, best_plan(copy, prices, options))
    _Rows(f, output.shape[1], output.strides[1]).emit(
        indices,
        {3: _along_rows(output), 2: rows.strides[:2]},
        indexed=3,
        work=lambda bases: Work(
            _on_input(None, output.element), [_row(rows)], _row(output), bases={0: bases[2], 1: bases[3]}
        ),
        plan=lambda work: best_plan(work, prices, options),
    )
    return Kernel(f, whole_accesses(request))


def _row_gather(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """Blocks of `row_count` adjacent rows, each from the index on."""
    values, indices = (operand.view for operand in request.inputs)
    output, count = request.outputs[0], request.attributes["row_count"]
    f = Function("row_gather", prices, params=("i32",) * 3)
    _Rows(f, values.shape[1] - count + 1, values.strides[1]).emit(
        indices,
        {0: _along_rows(values), 2: (output.strides[0], count * output.strides[1])},
        indexed=0,
        work=lambda bases: Work(
            _on_input(None, output.element),
            [_rows(values, count), _row(indices)],
            _rows(output, count),
            bases=bases,
        ),
        plan=lambda work: best_plan(work, prices, options),
    )
    accesses = whole_accesses(request)
    touch_all(f, 0, accesses[0].runs)
    return Kernel(f, accesses)


def _rows(view: View, count: int) -> View:
    return View(view.element, (count, view.shape[-1]), view.strides[-2:])


def _row(view: View) -> View:
    return View(view.element, view.shape[-1:], view.strides[-1:])


def _along_rows(view: View) -> tuple[int, int]:
    """Steps of an operand whose rows are chosen by index: only the batch moves it."""
    return (view.strides[0], 0)


@dataclass
class _Rows:
    """The loops over the indices; `size` rows `stride` bytes apart may be chosen. `note` is told which are."""

    f: Function
    size: int
    stride: int
    note: Callable[[int], None] | None = None

    def emit(
        self,
        indices: View,
        steps: Mapping[int, Sequence[int]],
        indexed: int,
        work: Callable[[Mapping[int, int]], Work],
        plan: Callable[[Work], Plan],
    ) -> None:
        """Emit `work(bases)` for every index; `bases` are locals with the operands' addresses for that index.

        `steps` gives the steps of operands, in parameters of the same number; operand `indexed` is moved to the
        row that is chosen, the others by their steps.
        """
        f, row = self.f, self.f.local("i32")
        pointers = start_pointers(f, [*steps, 1], [0] * (len(steps) + 1))
        strides = [*steps.values(), indices.strides]
        axes = [Axis(n, tuple(s[i] for s in strides)) for i, n in enumerate(indices.shape) if n > 1]
        bases = dict(zip(steps, pointers))
        base, index = bases[indexed], pointers[-1]
        row_work = work(bases | {indexed: row})
        row_plan = plan(row_work)

        def body() -> tuple[int, ...]:
            self._choose(row, index, base)
            if self.note:
                self.note(row)
            emit_nest(f, row_work, row_plan)
            return (0,) * len(pointers)

        emit_loops(f, axes, pointers, body)
        f.release(row, *pointers)

    def _choose(self, row: int, index: int, base: int) -> None:
        """row = base + index * stride, or the end of the message."""
        f = self.f
        f.get(index)
        f.memory("i32.load")
        f.tee(row)
        f.i32(self.size)
        f.op("i32.ge_u")
        with f.if_(taken=False):
            f.op("unreachable")
        f.get(row)
        f.i32(self.stride)
        f.op("i32.mul")
        f.get(base)
        f.op("i32.add")
        f.set(row)


def _on_input(epilogue: Expression | None, element: str) -> Expression:
    """The epilogue with input 0 as the kernel's own value."""
    if epilogue is None:
        return Expression((("input", (0,), ()),), (element,))
    nodes = tuple(("input", (0,), ()) if node[0] == "result" else node for node in epilogue.nodes)
    return replace(epilogue, nodes=nodes)


# Constant indices


@dataclass(frozen=True)
class _Run:
    """Outputs `first`, `first` + `period`... (count of them) take the rows `start`, `start` + `step`..."""

    first: int
    period: int
    count: int
    start: int
    step: int


def _runs(indices: np.ndarray) -> list[_Run] | None:
    """The indices as few arithmetic runs, interleaved where that helps; None if they are not alike or too many."""
    if (indices != indices[:1]).any():
        return None
    row = [int(index) for index in indices[0]]
    candidates = [_interleaved(row, period) for period in range(1, min(_LONGEST_PERIOD, len(row)) + 1)]
    fewest = min(candidates, key=len)
    return fewest if len(fewest) <= _MOST_RUNS else None


def _interleaved(row: Sequence[int], period: int) -> list[_Run]:
    found = []
    for phase in range(period):
        places = row[phase::period]
        at = 0
        while at < len(places):
            step = places[at + 1] - places[at] if at + 1 < len(places) else 0
            end = at + 1
            while end < len(places) and places[end] - places[end - 1] == step:
                end += 1
            found.append(_Run(phase + at * period, period, end - at, places[at], step))
            at = end
    return found


def _strided(request: KernelRequest, run: _Run) -> Work:
    views, output = [operand.view for operand in request.inputs], request.outputs[0]
    batch, _, channels = output.shape
    shape = (batch, run.count, channels)
    inputs, offsets = list(views), {0: run.start * views[0].strides[1]}
    inputs[0] = View(views[0].element, shape, _stretched(views[0], run.step))
    for k in stream_inputs(request.epilogue):
        other = aligned(views[k], output.shape)
        inputs[k] = View(other.element, shape, _stretched(other, run.period))
        offsets[k] = run.first * other.strides[1]
    offsets[len(views)] = run.first * output.strides[1]
    target = View(output.element, shape, _stretched(output, run.period))
    return Work(_on_input(request.epilogue, output.element), inputs, target, offsets)


def _stretched(view: View, factor: int) -> tuple[int, ...]:
    return (view.strides[0], view.strides[1] * factor, view.strides[2])


def _taken(values: View, indices: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The bytes of all rows that are taken."""
    batch, size, channels = values.shape
    if indices.min() < 0 or indices.max() >= size:
        raise TosaicError(f"a constant index of tosa.gather lies outside of its {size} rows")
    batches = [[n] for n in range(batch)] if (indices != indices[:1]).any() else [range(batch)]
    rows = [sorted(set(indices[batch[0]].tolist())) for batch in batches]
    return tuple(
        run
        for chosen, batch in zip(rows, batches)
        for run in touched_runs(values, [batch, chosen, range(channels)])
    )
