"""Puts a kernel together from functions and what has to happen to their operands before.

The functions walk streams (left, right, bias, output, inputs of the epilogue). Each of them starts at the address
of an operand of the request or at a place in scratch memory that a preparation fills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Access, Kernel, KernelOptions, KernelRequest, View
from tosaic.wasm.kernels.staging import Border, Conversion, emit_padded_copy

_SCRATCH_ALIGNMENT = 16


@dataclass(frozen=True)
class Place:
    """An address that is known to the kernel: a parameter of its function plus a constant."""

    param: int
    offset: int = 0


Prepare = Callable[[Function, int, int], None]
"""Emits a preparation; gets the function and two i32 locals with the addresses of its source and its target."""


@dataclass
class Assembly:
    """A kernel for a request in the making: preparations in order, then calls in order."""

    request: KernelRequest
    prices: PriceList
    options: KernelOptions
    scratch_bytes: int = 0
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    reads: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    _preparations: list[tuple[Place, Place, Prepare]] = field(default_factory=list)
    _calls: list[tuple[Function, Sequence[Place]]] = field(default_factory=list)

    @property
    def output(self) -> View:
        return self.request.outputs[0]

    @property
    def output_place(self) -> Place:
        return Place(len(self.request.inputs))

    def view(self, index: int) -> View:
        return self.request.inputs[index].view

    def read(self, index: int, runs: tuple[tuple[int, int], ...] | None = None) -> Place:
        """An input, read where it lies: all of it, or the given byte runs."""
        self.reads[index] = self.view(index).runs() if runs is None else runs
        return Place(index)

    def pack(self, index: int, array: np.ndarray) -> Place:
        """A constant input, or a further part of it, that lies in memory as `array`."""
        packed = self.constants.get(index, array[:0])
        self.constants[index] = np.concatenate([packed, array])
        self.reads[index] = ((0, self.constants[index].nbytes),)
        return Place(index, packed.nbytes)

    def scratch(self, size: int) -> Place:
        place = Place(len(self.request.inputs) + 1, self.scratch_bytes)
        self.scratch_bytes += -(-size // _SCRATCH_ALIGNMENT) * _SCRATCH_ALIGNMENT
        return place

    def prepare(self, source: Place, target: Place, emit_preparation: Prepare) -> None:
        """Run `emit_preparation` before the calls, from an operand to a place in scratch memory."""
        self._preparations.append((source, target, emit_preparation))

    def padded_copy(
        self,
        index: int,
        axes: Sequence[Border],
        conversion: Conversion,
        slack: int = 0,
        reorder: bool = False,
    ) -> tuple[Place, View]:
        """A dense copy of an input with zero borders, with `slack` readable bytes behind it.

        The last axis is the innermost one, unless with `reorder` the axes keep the order that they have in memory.
        """
        order = sorted(range(len(axes)), key=lambda d: -abs(axes[d].stride)) if reorder else range(len(axes))
        sizes = [axis.before + axis.size + axis.after for axis in axes]
        dense = View.contiguous(conversion.staged, tuple(sizes[d] for d in order))
        strides = dict(zip(order, dense.strides))
        view = View(conversion.staged, tuple(sizes), tuple(strides[d] for d in range(len(axes))))
        place = self.scratch(view.size * view.element_bytes + slack)
        ordered = [axes[d] for d in order]
        self.prepare(Place(index), place, lambda f, a, b: emit_padded_copy(f, a, b, ordered, conversion))
        return place, view

    def call(self, function: Function, streams: Sequence[Place]) -> None:
        """Call a function with these addresses after the preparations."""
        self._calls.append((function, streams))

    def kernel(self) -> Kernel:
        """The kernel. Constant inputs that nothing reads take no memory."""
        params = len(self.request.inputs) + 1 + bool(self.scratch_bytes)
        f = Function(self.request.op, self.prices, ("i32",) * params)
        for source, target, emit_preparation in self._preparations:
            from_address, to_address = _address(f, source), _address(f, target)
            emit_preparation(f, from_address, to_address)
            f.release(from_address, to_address)
        for function, streams in self._calls:
            for stream in streams:
                _push(f, stream)
            f.call(function)
        return Kernel(f, self._accesses(), {**self.constants, **self._unread()}, self.scratch_bytes, f.exact)

    def _unread(self) -> Mapping[int, np.ndarray]:
        constants = (i for i, operand in enumerate(self.request.inputs) if operand.array is not None)
        return {index: np.zeros(0, np.uint8) for index in constants if index not in self.reads}

    def _accesses(self) -> tuple[Access, ...]:
        found = [Access(index, runs) for index, runs in sorted(self.reads.items())]
        found.append(Access(len(self.request.inputs), self.output.runs(), write=True))
        if self.scratch_bytes:
            found.append(Access(len(self.request.inputs) + 1, ((0, self.scratch_bytes),), write=True))
        return tuple(found)


def _push(f: Function, place: Place) -> None:
    f.get(place.param)
    if place.offset:
        f.i32(place.offset)
        f.op("i32.add")


def _address(f: Function, place: Place) -> int:
    local = f.local("i32")
    _push(f, place)
    f.set(local)
    return local
