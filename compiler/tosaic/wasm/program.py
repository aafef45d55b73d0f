"""The program as WebAssembly: one function a segment, constant addresses, and the memory around them.

graph -> clusters (grouping) -> kernel calls (layout) -> kernels -> addresses (memory_plan) -> segment functions
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tosaic.limits import LESS_MEMORY
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.calls import Call, Placed, call_counts, calls_of, loop_spans
from tosaic.wasm.function import Function
from tosaic.wasm.graph import Border, Graph
from tosaic.wasm.grouping import clusters
from tosaic.wasm.kernel import ELEMENT_BYTES, Kernel, KernelOptions, KernelRequest
from tosaic.wasm.kernels import build
from tosaic.wasm.layout import Layout, lay_out
from tosaic.wasm.look_ups import note_look_ups
from tosaic.wasm.memory_plan import MemoryPlan, Step, plan_memory
from tosaic.wasm.module import DataSegment
from tosaic.wasm.task_lists import TaskEmitter, divide_long_lists, tasks_of
from tosaic.wasm.touched_pages import TouchedPages
from tosaic.wasm.translate import multiply_adds, read
from tosaic_passes.limit_usage import LimitUsage, refuse_excesses
from tosaic_passes.program import Program

CONTROL_BYTES = 16384
"""Room for the entry code by default."""


@dataclass(frozen=True)
class BorderTensor:
    """An input or output of the model at a fixed address.

    `dtype` is the ONNX dtype that callers see (numpy or ml_dtypes spelling), `element` the MLIR spelling of what the
    kernels work on. The bytes at `address` always lie densely in row-major order, aligned to 16, and `room`
    suffices for both: the entry code copies an argument to `address` and narrows it there, front to back, and
    widens a result there, back to front. A bool is a byte that is 0 or 1.
    """

    name: str
    dtype: str
    element: str
    shape: tuple[int, ...]
    address: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def border_bytes(self) -> int:
        """Bytes of the tensor as callers see it."""
        return self.size * border_itemsize(self.dtype)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the tensor as the kernels see it."""
        return self.size * ELEMENT_BYTES[self.element]

    @property
    def room(self) -> int:
        """Bytes from `address` on that belong to the tensor while it is converted."""
        return max(self.border_bytes, self.memory_bytes)


@dataclass(frozen=True, eq=False)
class SegmentCode:
    """A segment: `function` takes and returns nothing, its tensors are where the memory plan put them.

    `function.cost` is the price of one call without page touches; `reads` and `writes` are bit masks of the pages
    (bit n: bytes from n * 65536) that a call touches. Where `exact` is False all of these are upper bounds.
    `live_bytes` is what later segments and the reply still need from memory when this one has run.
    """

    name: str
    function: Function
    reads: int
    writes: int
    exact: bool
    macs: int
    live_bytes: int = 0


@dataclass(frozen=True, eq=False)
class WasmProgram:
    """Everything of a canister but its entry points.

    The bytes [0, control_bytes) are free for the entry code: its constants and its state. They share their page
    with tensors in constant use, since a touched page is paid for once a message. `data` are the weights by address;
    `weight_bytes` is their room, gaps included.
    """

    inputs: tuple[BorderTensor, ...]
    outputs: tuple[BorderTensor, ...]
    segments: tuple[SegmentCode, ...]
    data: tuple[DataSegment, ...]
    control_bytes: int
    memory_bytes: int
    arena_bytes: int
    weight_bytes: int
    largest_live_bytes: int = 0

    @property
    def memory_pages(self) -> int:
        return -(-self.memory_bytes // PAGE_BYTES)

    @property
    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return sum(segment.macs for segment in self.segments)

    @property
    def instructions(self) -> int:
        """Instructions of all segments, without page touches and messages."""
        return sum(segment.function.cost for segment in self.segments)


@dataclass(eq=False)
class KernelStore:
    """Kernels that were built, found again when the same is asked for: by a later layer, or after a split.

    Kernels with the same code share one function, so a layer's code is there once however often its shape occurs; and
    the more often it runs, the more code it may take.
    """

    prices: PriceList
    options: KernelOptions = field(default_factory=KernelOptions)
    _built: dict[tuple, tuple[Kernel, KernelRequest]] = field(default_factory=dict)
    _functions: dict[tuple, Function] = field(default_factory=dict)

    def kernels(self, counts: Sequence[tuple[Call, int]]) -> dict[Call, Kernel]:
        """The kernels of a program's calls, which run so often."""
        runs: Counter[tuple] = Counter()
        for call, count in counts:
            runs[_shape_key(call.request)] += count
        return {call: self.kernel(call.request, runs[_shape_key(call.request)]) for call, _ in counts}

    def kernel(self, request: KernelRequest, runs: int = 1) -> Kernel:
        """The kernel for a request; the request is kept, since its arrays are known by where they are."""
        key = (*_request_key(request), runs)
        if key not in self._built:
            calls = self.options.calls_per_install * runs
            kernel = build(request, self.prices, replace(self.options, calls_per_install=calls))
            function = self._functions.setdefault(kernel.function.content(), kernel.function)
            self._built[key] = (replace(kernel, function=function), request)
        return self._built[key][0]


@dataclass(frozen=True, eq=False)
class Plan:
    """A program with all kernels built and everything placed; `step_of` knows every kernel call."""

    graph: Graph
    layout: Layout
    step_of: Mapping[Call, Step]
    memory: MemoryPlan
    pages: TouchedPages
    control_bytes: int


def plan(program: Program, kernels: KernelStore, control_bytes: int = CONTROL_BYTES) -> Plan:
    """Group, lay out, build and place a program. Sets `ic.kernel` on its ops.

    Raises TosaicError for a program that needs more memory than a canister has.
    """
    graph = read(program)
    layout = lay_out(graph, clusters(graph), border_itemsize)
    counts = list(call_counts([task for work in layout.works for task in work.calls]))
    largest = max((place.buffer.bytes for call, _ in counts for place in call.places), default=0)
    _refuse_more_than_the_heap("bytes of a tensor", largest, kernels.prices)  # kernels know 32 bits
    step_of = {call: Step(call, kernel) for call, kernel in kernels.kernels(counts).items()}
    step_of = note_look_ups(layout.works, step_of, kernels.kernel)
    tasks = [task for work in layout.works for task in work.tasks]
    chunk_bytes = kernels.prices.limits["chunk_bytes"]
    memory = plan_memory(layout, list(step_of.values()), control_bytes, chunk_bytes, list(loop_spans(tasks)))
    _refuse_more_than_the_heap("heap bytes", memory.memory_bytes, kernels.prices)
    divide_long_lists(layout.works, step_of, kernels.options.function_bytes)
    first_weight_page = memory.data[0].address // PAGE_BYTES if memory.data else 0
    return Plan(graph, layout, step_of, memory, TouchedPages(step_of, first_weight_page), control_bytes)


def _refuse_more_than_the_heap(what: str, used: int, prices: PriceList) -> None:
    refuse_excesses([LimitUsage(what, used, prices.limits["heap_bytes"], LESS_MEMORY)], "program")


def compile(
    program: Program,
    prices: PriceList | None = None,
    options: KernelOptions | None = None,
    *,
    control_bytes: int = CONTROL_BYTES,
    kernels: KernelStore | None = None,
) -> WasmProgram:
    """WebAssembly for a TOSA program: @main alone, or @main that calls @segment_0..n.

    `control_bytes` is the room that the entry code wants; `kernels` keeps kernels over several compilations (its
    prices and options are then the ones in force). Raises TosaicError for ops that have no kernel.
    """
    kernels = kernels or KernelStore(prices or PriceList.load(), options or KernelOptions())
    return assemble(plan(program, kernels, control_bytes), kernels.prices)


def assemble(planned: Plan, prices: PriceList) -> WasmProgram:
    """The segments' functions and the data of a planned program."""
    memory = planned.memory
    return WasmProgram(
        inputs=_border(planned.graph.inputs, planned.layout.inputs, memory),
        outputs=_border(planned.graph.outputs, planned.layout.outputs, memory),
        segments=tuple(_segments(planned, prices)),
        data=memory.data,
        control_bytes=planned.control_bytes,
        memory_bytes=memory.memory_bytes,
        arena_bytes=memory.arena_bytes,
        weight_bytes=memory.weight_bytes,
        largest_live_bytes=memory.largest_live_bytes,
    )


def _segments(planned: Plan, prices: PriceList) -> Iterator[SegmentCode]:
    live = _live_bytes(planned)
    for number, name in enumerate(planned.graph.segments):
        works = [work for work in planned.layout.works if work.segment == number]
        tasks = tasks_of(works)
        steps = [planned.step_of[call] for call in calls_of(tasks)]
        function = Function(name, prices)
        TaskEmitter(planned.step_of, prices, number).emit(function, tasks)
        reads, writes = planned.pages.of(tasks)
        yield SegmentCode(
            name=name,
            function=function,
            reads=reads,
            writes=writes,
            exact=function.exact and all(step.exact for step in steps),
            macs=sum(multiply_adds(node) for work in works if work.cluster for node in work.cluster.nodes),
            live_bytes=live[number],
        )


def _live_bytes(planned: Plan) -> list[int]:
    """Bytes that are written before the end of each segment and read after it."""
    count = len(planned.graph.segments)
    first = {place.buffer: -1 for place in planned.layout.inputs}
    last = {place.buffer: count for place in planned.layout.outputs}
    for work in planned.layout.works:
        steps = [planned.step_of[call] for call in calls_of(work.tasks)]
        for place in (place for step in steps for place in step.places):
            if place.buffer.array is None:
                first.setdefault(place.buffer, work.segment)
                last[place.buffer] = max(last.get(place.buffer, 0), work.segment)
    return [
        sum(b.bytes for b, since in first.items() if since <= number < last.get(b, -1))
        for number in range(count)
    ]


def _border(
    borders: Sequence[Border], places: Sequence[Placed], memory: MemoryPlan
) -> tuple[BorderTensor, ...]:
    return tuple(
        BorderTensor(
            border.name,
            border.dtype,
            border.value.element,
            border.shape,
            memory.address_of[place.buffer] + place.window.offset,
        )
        for border, place in zip(borders, places)
    )


def _shape_key(request: KernelRequest) -> tuple:
    """What the code of a kernel depends on for the most part: everything but the constants in memory."""
    return _key(request, lambda array: array is not None)


def _request_key(request: KernelRequest) -> tuple:
    """What a kernel depends on. Arrays count by their memory: the store keeps them alive."""
    return _key(request, _array_key)


def _key(request: KernelRequest, key_of: Callable[[np.ndarray | None], Hashable]) -> tuple:
    operands = tuple((operand.view, key_of(operand.array)) for operand in request.inputs)
    numbers = repr(
        (sorted(request.attributes.items()), request.epilogue, request.prologue)
    )  # tells 0.0 from -0.0
    return request.op, operands, request.outputs, request.result, numbers


def _array_key(array: np.ndarray | None) -> tuple | None:
    if array is None:
        return None
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


_BORDER_ITEMSIZE: Mapping[str, int] = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def border_itemsize(dtype: str) -> int:
    """Bytes of one element of an ONNX dtype at the border."""
    return _BORDER_ITEMSIZE.get(dtype) or np.dtype(dtype).itemsize
