"""What a kernel is asked for and what it answers with: the language between the plan and the kernels.

A kernel is one WebAssembly function with the addresses of its operands as parameters. Everything else, shapes,
strides, fused arithmetic, is baked in, so that its cost is a constant. Kernels know nothing of MLIR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.function import Function

ELEMENT_BYTES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i48": 8, "i64": 8, "f16": 2, "bf16": 2, "f32": 4,
                 "f8E4M3FN": 1, "f8E5M2": 1}  # fmt: skip
"""Bytes of an element in linear memory; i1 is a byte that is 0 or 1."""


@dataclass(frozen=True)
class View:
    """A tensor in linear memory, seen from its first element: element type (MLIR spelling), shape, strides in bytes."""

    element: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def contiguous(cls, element: str, shape: tuple[int, ...]) -> View:
        strides = []
        step = ELEMENT_BYTES[element]
        for size in reversed(shape):
            strides.append(step)
            step *= size
        return cls(element, tuple(shape), tuple(reversed(strides)))

    @property
    def element_bytes(self) -> int:
        return ELEMENT_BYTES[self.element]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        return all(
            size == 1 or stride == expected
            for size, stride, expected in zip(
                self.shape, self.strides, View.contiguous(self.element, self.shape).strides
            )
        )

    def runs(self) -> tuple[tuple[int, int], ...]:
        """The bytes of the view as (offset, length) runs; gaps below a page are closed (no whole page fits in)."""
        start = sum(min(0, stride * (size - 1)) for size, stride in zip(self.shape, self.strides))
        found = [(start, self.element_bytes)]
        for stride, size in sorted((abs(stride), size) for size, stride in zip(self.shape, self.strides)):
            if size == 1 or stride == 0:
                continue
            extent = found[-1][0] + found[-1][1] - found[0][0]
            if len(found) == 1 and stride - extent < PAGE_BYTES:
                found = [(start, extent + stride * (size - 1))]
            else:
                found = [(offset + i * stride, length) for i in range(size) for offset, length in found]
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Operand:
    """An input of a kernel; `array` holds its values when it is a constant."""

    view: View
    array: np.ndarray | None = None


@dataclass(frozen=True)
class Expression:
    """Elementwise arithmetic that is computed on values while they are in registers.

    `nodes` are in topological order; the last one is the result. A node is (op, arguments, attributes):
    - ("input", (k,), {}): element of input k of the kernel, broadcast to the output's shape by strides of 0;
    - ("result", (), {}): the value that the kernel itself computed (absent in purely elementwise kernels);
    - ("constant", (), {"value": number, "element": "f32"});
    - (a TOSA op without its prefix, "add", "mul", "clamp", "exp", "select", "cast", ..., node indices, its attributes).
    `elements` gives the element type of each node.
    """

    nodes: tuple[tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...]], ...]
    elements: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class KernelRequest:
    """One piece of work: a TOSA op (without its prefix; "elementwise" for pure arithmetic) and what is fused into it.

    `inputs` are all tensors that are read, those of `epilogue` included; the first ones are the op's own operands, or
    with a `prologue` what it reads: the elements of a reduction's operand are then its values and nowhere in memory.
    `attributes` are the op's attributes, and its zero points and constant shape operands as numbers and tuples.
    `result` is the element type of what the op itself yields (before the epilogue).
    """

    op: str
    inputs: tuple[Operand, ...]
    outputs: tuple[View, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    result: str = ""
    epilogue: Expression | None = None
    prologue: Expression | None = None


@dataclass(frozen=True)
class KernelOptions:
    """Budgets of the emitter.

    Among the candidates that keep the limits the one wins that is cheapest over `calls_per_install` calls and one
    install, where the network charges for every operator of the module.
    """

    function_bytes: int = 60_000
    locals: int = 288
    calls_per_install: int = 2_000


@dataclass(frozen=True)
class Access:
    """Bytes that one call touches relative to the address of an operand: (offset, length) runs, gaps closed."""

    operand: int
    runs: tuple[tuple[int, int], ...]
    write: bool = False


@dataclass(frozen=True)
class Sample:
    """A table of which data decides the pages that a call touches.

    `operand` is one of the kernel's `constants` and is to begin with a page and to share none. The function takes,
    behind the outputs, the address of an i32 for each of its pages, and as the last parameter a number that is not
    0: the message's. A page that the message has touched is one whose i32 is this number. A call touches `pages` of
    the others, or all that are left, and notes them.
    """

    operand: int
    pages: int


@dataclass(frozen=True, eq=False)
class Kernel:
    """An emitted kernel.

    `function` takes the i32 addresses of all inputs, then of all outputs, then of the scratch memory if
    `scratch_bytes` is not 0; for `sample` it takes more. `constants` gives the packed bytes for the constant inputs
    whose layout in memory the kernel chose itself (input index -> array, stored as it is); all others are stored as
    their views say.
    `accesses` names exactly the bytes that a call touches (operand indices: inputs, outputs, scratch), with
    `exact` False when they or the count depend on data and these are the most it can touch; the pages of `sample`
    come on top.
    """

    function: Function
    accesses: tuple[Access, ...]
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)
    scratch_bytes: int = 0
    exact: bool = True
    sample: Sample | None = None

    @property
    def cost(self) -> int:
        return self.function.cost


def whole_accesses(request: KernelRequest) -> tuple[Access, ...]:
    """The accesses of a kernel that reads all of its inputs and writes all of its outputs."""
    reads = [Access(i, operand.view.runs()) for i, operand in enumerate(request.inputs)]
    first = len(request.inputs)
    return (*reads, *(Access(first + i, view.runs(), write=True) for i, view in enumerate(request.outputs)))
