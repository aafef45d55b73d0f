"""Reductions along one axis: sum, product, maximum, minimum, any, all, and the index of the maximum.

Elementwise ops that only a reduction reads are computed while it folds (the prologue), in the same order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tosaic.prices import PriceList
from tosaic.wasm.expression import emit as emit_expression
from tosaic.wasm.float_formats import round_to
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Expression, Kernel, KernelOptions, KernelRequest, View
from tosaic.wasm.kernels.fold import UNROLL, Load, Place, fold_across, fold_axes, fold_for, plain
from tosaic.wasm.kernels.streams import LANES
from tosaic.wasm.kernels.vector_nest import Own, Work, build_kernel, stream_inputs
from tosaic.wasm.lanes import FLOAT, INT64, KINDS, low_words, max_lanes
from tosaic.wasm.math import splat_i32, splat_i64
from tosaic.wasm.nest import Axis, load_at, pointer_loop

_LEAST_ACROSS = 8
"""Rows of fewer elements are folded one by one even along the innermost dimension."""

_ARGMAX_UNROLL = 8


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """`reduce_*`, whose output keeps the axis with size 1, and `argmax`, whose output drops it."""
    expression = request.epilogue or result_expression(request.outputs[0].element)
    inputs = [operand.view for operand in request.inputs]
    own = _index_of_maximum(request) if request.op == "argmax" else _fold(request)
    work = Work(expression, inputs, request.outputs[0], own=own)
    return build_kernel(request, [work], prices, options)


def result_expression(element: str) -> Expression:
    """What a kernel stores that has no epilogue: its own value."""
    return Expression((("result", (), ()),), (element,))


def _fold(request: KernelRequest) -> Own:
    """The fold of an operand in memory, or of what the prologue computes."""
    prologue, axis = request.prologue, request.attributes["axis"]
    sources = tuple(stream_inputs(prologue)) if prologue else (0,)
    views = tuple(request.inputs[k].view for k in sources)
    elements = prologue.elements if prologue else (views[0].element,)
    load = _computed(prologue, sources, views) if prologue else plain(views[0].element)
    fold = fold_for(
        request.op.removeprefix("reduce_"), elements[-1], request.attributes.get("nan_mode", "PROPAGATE")
    )
    shape = views[0].shape
    along = Axis(shape[axis], tuple(view.strides[axis] for view in views))
    innermost = all(n == 1 for n in shape[axis + 1 :])
    across = innermost and along.size >= _LEAST_ACROSS and max_lanes(elements) == LANES

    def emit(f: Function, lanes: int, places: Sequence[Place]) -> None:
        if across:
            fold_across(f, fold, along, load, lanes, places)
        elif prologue:
            fold_axes(f, fold, [along], load, lanes, places, most_unrolled=UNROLL)
        else:
            fold_axes(f, fold, [along], load, lanes, places)
        round_to(f, elements[-1])

    return Own(sources, tuple(_at_first(view, axis) for view in views), emit, elements)


def _computed(prologue: Expression, sources: Sequence[int], views: Sequence[View]) -> Load:
    """Elements that the prologue computes from its inputs, `sources` among those of the kernel."""

    def load(f: Function, lanes: int, places: Sequence[Place]) -> None:
        def load_input(k: int) -> None:
            at = sources.index(k)
            load_at(f, views[at].element, lanes, *places[at])

        emit_expression(f, prologue, lanes, load_input)

    return load


def _at_first(view: View, axis: int) -> View:
    shape = (*view.shape[:axis], 1, *view.shape[axis + 1 :])
    return replace(view, shape=shape)


def _without_axis(view: View, axis: int) -> View:
    shape, strides = list(view.shape), list(view.strides)
    del shape[axis], strides[axis]
    return View(view.element, tuple(shape), tuple(strides))


def _index_of_maximum(request: KernelRequest) -> Own:
    """The index of the first maximum; a NaN counts as the maximum (PROPAGATE) or is passed over (IGNORE)."""
    view, axis = request.inputs[0].view, request.attributes["axis"]
    element, size, stride = view.element, view.shape[axis], view.strides[axis]
    result = request.result or request.outputs[0].element
    nan_mode = request.attributes.get("nan_mode", "PROPAGATE")

    def emit(f: Function, lanes: int, places: Sequence[Place]) -> None:
        ((pointer, offset, step),) = places
        _Argmax(f, element, lanes, step, nan_mode).run(pointer, offset, size, stride)
        if KINDS[result] != KINDS[element] == INT64:
            low_words(f)
        elif KINDS[result] == INT64 != KINDS[element]:
            f.op("i64x2.extend_low_i32x4_s")

    return Own((0,), (_without_axis(view, axis),), emit)


class _Argmax:
    """Keeps the best value and its index in lanes while it walks along the axis."""

    def __init__(self, f: Function, element: str, lanes: int, step: int, nan_mode: str) -> None:
        self.f, self.element, self.lanes, self.step = f, element, lanes, step
        self.is_float, self.ignores_nan = KINDS[element] == FLOAT, nan_mode == "IGNORE"
        self.shape, self.splat = ("i64x2", splat_i64) if KINDS[element] == INT64 else ("i32x4", splat_i32)
        self.x, self.best, self.index, self.base, self.mask = (f.local("v128") for _ in range(5))

    def run(self, pointer: int, offset: int, size: int, stride: int) -> None:
        f, start = self.f, self.f.local("i32")
        f.get(pointer)
        f.i32(offset)
        f.op("i32.add")
        f.set(start)
        load_at(f, self.element, self.lanes, start, 0, self.step)
        f.set(self.best)
        for local in (self.index, self.base):
            self.splat(f, 0)
            f.set(local)
        trips = (size - 1) // _ARGMAX_UNROLL
        if trips > 1:
            with pointer_loop(f, trips, (stride * _ARGMAX_UNROLL,), (start,)) as advance:
                self._compare_range(start, range(1, _ARGMAX_UNROLL + 1), stride)
                f.get(self.base)
                self.splat(f, _ARGMAX_UNROLL)
                f.op(f"{self.shape}.add")
                f.set(self.base)
                advance((0,))
        done = trips * _ARGMAX_UNROLL if trips > 1 else 0
        self._compare_range(start, range(1, size - done), stride)
        f.get(self.index)
        f.release(start, self.x, self.best, self.index, self.base, self.mask)

    def _compare_range(self, start: int, indices: range, stride: int) -> None:
        for i in indices:
            self._compare(start, i, i * stride)

    def _compare(self, start: int, i: int, offset: int) -> None:
        f = self.f
        load_at(f, self.element, self.lanes, start, offset, self.step)
        f.tee(self.x)
        f.get(self.best)
        self._is_better()
        f.set(self.mask)
        self._choose(lambda: f.get(self.x), self.best)
        self._choose(lambda: self._push_index(i), self.index)

    def _is_better(self) -> None:
        """(x, best) -> mask."""
        f = self.f
        if not self.is_float:
            f.op(f"{self.shape}.gt_s")
        elif self.ignores_nan:  # better, or the first number after NaN
            f.op("f32x4.gt")
            for local in (self.x, self.x, self.best, self.best):
                f.get(local)
            f.op("f32x4.ne")
            f.set(self.mask)
            f.op("f32x4.eq")
            f.get(self.mask)
            f.op("v128.and")
            f.op("v128.or")
        else:  # not less or equal, unless the best is NaN already
            f.op("f32x4.le")
            f.get(self.best)
            f.get(self.best)
            f.op("f32x4.ne")
            f.op("v128.or")
            f.op("v128.not")

    def _choose(self, push, target: int) -> None:
        """target = mask ? pushed : target."""
        f = self.f
        push()
        f.get(target)
        f.get(self.mask)
        f.op("v128.bitselect")
        f.set(target)

    def _push_index(self, i: int) -> None:
        self.f.get(self.base)
        self.splat(self.f, i)
        self.f.op(f"{self.shape}.add")
