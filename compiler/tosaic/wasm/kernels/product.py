"""What all matrix products share: from operands of a request to the streams of a contraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tosaic.wasm.kernel import View
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.contraction import Contraction, Reduction, choose, emit, reduction
from tosaic.wasm.kernels.epilogue import Epilogue, moves
from tosaic.wasm.kernels.packing import RightOperand, emit_pack, pack, packed_bytes
from tosaic.wasm.kernels.staging import Border, Conversion, touched_runs
from tosaic.wasm.kernels.streams import LANES, Axis, collapsed
from tosaic.wasm.kernels.tile import F32


def conversion_of(assembly: Assembly, index: int) -> Conversion:
    """From the type of an operand in memory to the one that is multiplied."""
    return Conversion(assembly.view(index).element, "f32")


def left_view(assembly: Assembly, index: int, borders: Sequence[Border], touched: Sequence[Sequence[int]]):
    """Place and view of a left operand: where it lies, or a copy with zero borders or with other elements."""
    view, conversion = assembly.view(index), conversion_of(assembly, index)
    padded = any(border.before or border.after for border in borders)
    if conversion.source == conversion.staged and not padded and min(view.strides) >= 0:
        return assembly.read(index, touched_runs(view, touched)), view
    assembly.read(index, touched_runs(view, [range(border.size) for border in borders]))
    return assembly.padded_copy(index, borders, conversion)


@dataclass(frozen=True)
class Bias:
    """The first value of each sum: `place` None for zero, `step` bytes per column (0: one for all).

    A bias that is not `exact` is padded to whole vectors in memory.
    """

    place: Place | None = None
    step: int = 0
    exact: bool = False

    @property
    def start(self) -> str:
        return "zero" if self.place is None else "vector" if self.step else "scalar"


NO_BIAS = Bias()


def bias_of(assembly: Assembly, index: int) -> Bias:
    """Input `index` as the bias, in the type of the sums."""
    view, array = assembly.view(index), assembly.request.inputs[index].array
    step = 4 if view.size > 1 else 0
    if array is not None:
        padded = np.zeros(math.ceil(array.size / LANES) * LANES if step else 1, np.float32)
        padded[: array.size] = array.reshape(-1)
        return Bias(assembly.pack(index, padded), step)
    conversion = conversion_of(assembly, index)
    if conversion.source == conversion.staged and view.is_contiguous:
        return Bias(assembly.read(index), step, exact=True)
    assembly.read(index)
    borders = [Border(size, stride) for size, stride in zip(view.shape, view.strides)]
    return Bias(assembly.padded_copy(index, borders, conversion)[0], step, exact=True)


def fused_places(assembly: Assembly) -> list[Place]:
    """The inputs of the epilogue."""
    return [assembly.read(k) for k in Epilogue.of(assembly.request, assembly.output).inputs]


@dataclass
class Product:
    """A product in terms of the request's operands.

    `left` is the place of the (staged) left operand, `left_moves` its bytes per index of each output axis but the
    last, `left_taps` its (size, bytes) per tap axis. `right` is the index of the right operand's input; its axes
    `right_batches` go with the output's first axes, `right_taps` with the taps, `right_columns` with the last one.
    """

    assembly: Assembly
    left: Place
    left_moves: tuple[int, ...]
    left_taps: tuple[tuple[int, int], ...]
    right: int
    right_taps: tuple[int, ...]
    right_columns: int
    right_batches: tuple[int, ...] = ()
    bias: Bias = NO_BIAS

    def contract(self, output: View, place: Place) -> None:
        """Add the contraction that fills the output, which lies at `place`."""
        assembly, request = self.assembly, self.assembly.request
        in_place = self._read_in_place()
        taps = reduction(self.left_taps[:-1], *self.left_taps[-1])
        epilogue = Epilogue.of(request, output)
        contraction = Contraction(
            F32,
            *self._axes(output, taps, in_place),
            columns=output.shape[-1],
            column_steps=(0, 4 if in_place else 0, self.bias.step, *epilogue.steps),
            reduction=taps,
            epilogue=epilogue,
            right_row=self._right_view.strides[self.right_taps[0]] if in_place else None,
            start=self.bias.start,
            exact_bias=self.bias.exact,
        )
        right = assembly.read(self.right) if in_place else self._packed(contraction)
        function = emit(contraction, assembly.prices, assembly.options)
        assembly.call(function, [self.left, right, self.bias.place or right, place, *fused_places(assembly)])

    @property
    def _right_view(self) -> View:
        return self.assembly.view(self.right)

    def _read_in_place(self) -> bool:
        """A right operand with adjacent f32 columns and one tap axis needs no packing."""
        view = self._right_view
        adjacent = view.strides[self.right_columns] == 4 or view.shape[self.right_columns] == 1
        variable = self.assembly.request.inputs[self.right].array is None
        return (
            variable
            and view.element == "f32"
            and adjacent
            and len(self.right_taps) == 1
            and min(view.strides) >= 0
        )

    def _axes(
        self, output: View, taps: Reduction, in_place: bool
    ) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """Batch axes, where the right operand moves, and row axes."""
        right = self._right_view
        packed = packed_bytes(self._operand(taps.run), F32)
        batch: list[Axis] = []
        rows: list[Axis] = []
        for d, size in reversed(list(enumerate(output.shape[:-1]))):
            moving = d < len(self.right_batches) and right.strides[self.right_batches[d]] and size > 1
            if moving and not in_place:
                packed //= size
            step = (right.strides[self.right_batches[d]] if in_place else packed) if moving else 0
            axis = Axis(
                size,
                (self.left_moves[d], step, 0, output.strides[d], *moves(self.assembly.request, output, d)),
            )
            (batch if moving else rows).append(axis)
        return collapsed(batch[::-1]), collapsed(rows[::-1])

    def _operand(self, run: int) -> RightOperand:
        view = self._right_view
        axes = [(size, stride) for size, stride in zip(view.shape, view.strides)]
        batches = tuple(axes[d] for d in self.right_batches if axes[d][1])
        return RightOperand(batches, tuple(axes[d] for d in self.right_taps), axes[self.right_columns], run)

    def _packed(self, contraction: Contraction) -> Place:
        """The right operand in panels: packed now if it is a constant, by the kernel if not."""
        assembly = self.assembly
        tiling = choose(contraction, assembly.prices, assembly.options)
        operand = self._operand(contraction.reduction.run)
        array = assembly.request.inputs[self.right].array
        if array is not None:
            return assembly.pack(
                self.right, pack(self._matrix(array), operand.run, F32.width, tiling.vectors)
            )
        assembly.read(self.right)
        place = assembly.scratch(packed_bytes(operand, F32))
        conversion = conversion_of(assembly, self.right)
        assembly.prepare(
            self.right,
            place,
            lambda f, a, b: emit_pack(f, a, b, operand, tiling.vectors, conversion, F32.width),
        )
        return place

    def _matrix(self, array: np.ndarray) -> np.ndarray:
        """The constant right operand as [batches, taps, columns] in f32."""
        view = self._right_view
        batches = tuple(d for d in self.right_batches if view.strides[d])
        shared = tuple(d for d in self.right_batches if not view.strides[d])
        moved = array.transpose(*shared, *batches, *self.right_taps, self.right_columns)
        moved = moved[(0,) * len(shared)]
        columns = view.shape[self.right_columns]
        taps = math.prod(view.shape[d] for d in self.right_taps)
        return moved.reshape(-1, taps, columns).astype(np.float32)
