"""What all matrix products share: from operands of a request to the streams of a contraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tosaic.errors import TosaicError
from tosaic.wasm.kernel import Operand, View
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.contraction import emit
from tosaic.wasm.kernels.epilogue import Epilogue, Target
from tosaic.wasm.kernels.numbers import Numbers
from tosaic.wasm.kernels.packing import Packing, RightOperand, pack
from tosaic.wasm.kernels.staging import Border, Conversion, touched_runs
from tosaic.wasm.kernels.streams import LANES, Axis, collapsed
from tosaic.wasm.kernels.tile import F32_ACROSS
from tosaic.wasm.kernels.tiling import Contraction, Reduction, choose

RIGHT = 1
"""The right operand among the inputs of a request."""

_PAIR_BYTES = 4  # the last pair of a run may reach behind it, where it meets zeros


def left_view(
    assembly: Assembly,
    conversion: Conversion,
    borders: Sequence[Border],
    touched: Sequence[Sequence[int]],
    adjacent: bool = False,
) -> tuple[Place, View]:
    """Place and view of the left operand (input 0): where it lies, or a copy with zero borders or other elements.

    `touched` are the indices along each axis that are read where it lies. If `adjacent`, neighbours along the
    innermost axis (or the one around it, where that has size 1) are neighbours in memory.
    """
    view = assembly.view(0)
    padded = any(border.before or border.after for border in borders)
    innermost = view.strides[-1 if view.shape[-1] > 1 else -2]
    in_place = min(view.strides) >= 0 and (not adjacent or innermost == view.element_bytes)
    if conversion.source == conversion.staged and not padded and in_place:
        return assembly.read(0, touched_runs(view, touched)), view
    assembly.read(0, touched_runs(view, [range(border.size) for border in borders]))
    pairs = conversion.staged == "i16"  # these are read as pairs of adjacent channels
    return assembly.padded_copy(0, borders, conversion, _PAIR_BYTES * pairs, reorder=not (pairs or adjacent))


@dataclass(frozen=True)
class Bias:
    """The first value of each sum: `place` None for zero, `step` bytes per column (0: one for all).

    A bias that is not `exact` is padded to whole vectors in memory.
    """

    place: Place | None = None
    step: int = 0
    exact: bool = False

    def of_columns(self, first: int) -> Bias:
        """That of the columns from `first` on."""
        if self.place is None:
            return self
        return replace(self, place=Place(self.place.param, self.place.offset + first * self.step))

    @property
    def start(self) -> str:
        return "zero" if self.place is None else "vector" if self.step else "scalar"


NO_BIAS = Bias()


def bias_of(assembly: Assembly, index: int, numbers: Numbers) -> Bias:
    """Input `index` as the bias, in the type of the sums."""
    view, array = assembly.view(index), assembly.request.inputs[index].array
    lanes, step = numbers.arithmetic.lanes, numbers.arithmetic.sum_bytes if view.size > 1 else 0
    if array is not None:
        flat = numbers.bias(array.reshape(-1))
        padded = np.zeros(-(-flat.size // lanes) * lanes if step else 1, flat.dtype)
        padded[: flat.size] = flat
        return Bias(assembly.pack(index, padded), step)
    if view.element == numbers.sum and view.is_contiguous:
        return Bias(assembly.read(index), step, exact=True)
    if numbers.sum != "f32" and view.element != numbers.sum:
        raise TosaicError(
            f"tosa.{assembly.request.op} has a bias of {view.element} for sums of {numbers.sum}"
        )
    assembly.read(index)
    borders = [Border(size, stride) for size, stride in zip(view.shape, view.strides)]
    return Bias(
        assembly.padded_copy(index, borders, Conversion(view.element, numbers.sum))[0], step, exact=True
    )


@dataclass
class Product:
    """A product of the request's first input and its second one, or a part of that (`right`, whose first element
    lies `right_offset` bytes behind the input's).

    `left` is the place of the (staged) left operand, `left_moves` its bytes per index of each output axis but the
    last, `left_taps` its (size, bytes) per tap axis. Of the right operand the axes `right_batches` go with the
    output's first axes, `right_taps` with the taps, `right_columns` with the output's last axis.
    """

    assembly: Assembly
    numbers: Numbers
    right: Operand
    left: Place
    left_moves: tuple[int, ...]
    left_taps: tuple[tuple[int, int], ...]
    right_taps: tuple[int, ...]
    right_columns: int
    right_batches: tuple[int, ...] = ()
    bias: Bias = NO_BIAS
    right_offset: int = 0
    goes_across: bool = False

    def contract(self, target: Target) -> None:
        """Add the contraction whose results go to `target`; if it `goes_across`, columns that fill no vector apart."""
        columns = target.output.shape[-1]
        full = columns - columns % LANES if self.goes_across else columns
        if full:
            self._of_columns(0, full)._contract(target.columns(0, full))
        if full < columns:
            rest = self._of_columns(full, columns - full)
            across = replace(rest, numbers=replace(self.numbers, arithmetic=F32_ACROSS))
            across._contract(target.columns(full, columns - full))

    def _of_columns(self, first: int, count: int) -> Product:
        """The product with a part of the columns of the right operand."""
        right, axis = self.right, self.right_columns
        if count == right.view.shape[axis]:
            return self
        assert right.array is not None  # no other goes across
        view = replace(right.view, shape=(*right.view.shape[:axis], count, *right.view.shape[axis + 1 :]))
        part = Operand(view, right.array.take(range(first, first + count), axis))
        return replace(self, right=part, bias=self.bias.of_columns(first))

    def _contract(self, target: Target) -> None:
        assembly = self.assembly
        reduction, operand = self._taps()
        in_place = self._is_read_in_place(operand)
        epilogue = Epilogue.of(assembly.request, target)
        contraction = Contraction(
            self.numbers.arithmetic,
            *self._axes(target, operand, in_place),
            columns=target.output.shape[-1],
            column_steps=(0, 4 if in_place else 0, self.bias.step, *epilogue.steps),
            reduction=reduction,
            epilogue=epilogue,
            right_row=operand.run[1] if in_place else None,
            start=self.bias.start,
            exact_bias=self.bias.exact,
        )
        if not reduction.taps:
            right = self.left  # nothing is read there
        else:
            right = self._right_place() if in_place else self._packed(contraction, operand)
        function = emit(contraction, assembly.prices, assembly.options)
        bias = self.bias.place or right
        assembly.call(function, [self.left, right, bias, target.place, *target.fused_places])

    def _taps(self) -> tuple[Reduction, RightOperand]:
        """The taps with adjacent axes merged into the run, on both sides alike."""
        axes = list(zip(self.right.view.shape, self.right.view.strides))
        loops = [(size, left, axes[d][1]) for (size, left), d in zip(self.left_taps, self.right_taps)]
        if self.numbers.arithmetic.width != 2:  # (pairs are neighbours along the last axis)
            loops = [loop for loop in loops if loop[0] != 1] or loops[-1:]
        run, left_step, right_step = loops.pop()
        while loops and (loops[-1][0] == 1 or loops[-1][1:] == (run * left_step, run * right_step)):
            run *= loops.pop()[0]
        if any(size == 0 for size, _, _ in loops):
            loops, run = [], 0
        loops = [loop for loop in loops if loop[0] > 1]
        width = self.numbers.arithmetic.width
        reduction = Reduction(
            tuple((size, left) for size, left, _ in loops), -(-run // width), width * left_step
        )
        operand = RightOperand(
            batches=tuple(axes[d] for d in self.right_batches if axes[d][1]),
            loops=tuple((size, right) for size, _, right in loops),
            run=(run, right_step),
            columns=axes[self.right_columns],
        )
        return reduction, operand

    def _is_read_in_place(self, operand: RightOperand) -> bool:
        """Adjacent f32 columns and one row of them per tap need no packing."""
        adjacent = operand.columns[1] == 4 or operand.columns[0] == 1
        plain = self.right.view.element == "f32" and min(self.right.view.strides) >= 0
        return self.right.array is None and plain and adjacent and not operand.loops

    def _axes(
        self, target: Target, operand: RightOperand, in_place: bool
    ) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """Batch axes, where the right operand moves, and row axes."""
        right = self.right.view
        packed = operand.packed_bytes(self.numbers.arithmetic)
        batch: list[Axis] = []
        rows: list[Axis] = []
        for d, size in enumerate(target.output.shape[:-1]):
            move = right.strides[self.right_batches[d]] if d < len(self.right_batches) and size > 1 else 0
            if move and not in_place:
                packed //= size
                move = packed
            axis = Axis(size, (self.left_moves[d], move, 0, *target.moves(d)))
            (batch if move else rows).append(axis)
        return collapsed(batch), collapsed(rows)

    def _packed(self, contraction: Contraction, operand: RightOperand) -> Place:
        """The right operand in panels: packed now if it is a constant, by the kernel if not."""
        assembly, numbers, arithmetic = self.assembly, self.numbers, self.numbers.arithmetic
        vectors = choose(contraction, assembly.prices, assembly.options).vectors
        if self.right.array is not None:
            matrix = self._matrix(self.right.array)
            return assembly.pack(RIGHT, pack(matrix, operand.run[0], arithmetic, vectors))
        place = assembly.scratch(operand.packed_bytes(arithmetic))
        assembly.prepare(
            self._right_place(),
            place,
            lambda f, a, b: Packing(f, a, b, operand, arithmetic, numbers.right).emit(vectors),
        )
        return place

    def _right_place(self) -> Place:
        place = self.assembly.read(RIGHT)
        return Place(place.param, self.right_offset)

    def _matrix(self, array: np.ndarray) -> np.ndarray:
        """The constant right operand as [batches, taps, columns]."""
        view = self.right.view
        batches = tuple(d for d in self.right_batches if view.strides[d])
        shared = tuple(d for d in self.right_batches if not view.strides[d])
        moved = array.transpose(*shared, *batches, *self.right_taps, self.right_columns)[(0,) * len(shared)]
        taps = math.prod(view.shape[d] for d in self.right_taps)
        return self.numbers.converted(moved.reshape(-1, taps, view.shape[self.right_columns]))
