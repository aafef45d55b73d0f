"""What all matrix products share: from operands of a request to the streams of a contraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tosaic.wasm.kernel import View
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.contraction import Axis, Contraction, Reduction, choose, collapsed, reduction
from tosaic.wasm.kernels.packing import RightOperand, emit_pack, pack, packed_bytes
from tosaic.wasm.kernels.staging import Border, Conversion, touched_runs
from tosaic.wasm.kernels.tile import F32, LANES


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
    bias: int | None = None

    def contract(self, output: View, place: Place) -> None:
        """Add the contraction that fills the output, which lies at `place`."""
        fused = _Fused.of(self.assembly, output)
        in_place = self._read_in_place()
        taps = reduction(self.left_taps[:-1], *self.left_taps[-1])
        contraction = Contraction(
            F32,
            *self._axes(output, fused, taps, in_place),
            columns=output.shape[-1],
            column_steps=(0, 4 if in_place else 0, self._bias_step(), output.strides[-1], *fused.moves(-1)),
            reduction=taps,
            right_row=self._right_view.strides[self.right_taps[0]] if in_place else None,
            start="zero" if self.bias is None else "vector" if self._bias_step() else "scalar",
            exact_bias=self.bias is not None and self.assembly.request.inputs[self.bias].array is None,
            result_element=self.assembly.request.result or output.element,
            output_element=output.element,
            epilogue=self.assembly.request.epilogue,
            epilogue_inputs=fused.inputs,
            epilogue_elements=tuple(view.element for view in fused.views),
        )
        right = self.assembly.read(self.right) if in_place else self._packed(contraction)
        bias = right if self.bias is None else self._bias()
        streams = [self.left, right, bias, place, *(self.assembly.read(k) for k in fused.inputs)]
        self.assembly.contract(contraction, streams)

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
        self, output: View, fused: _Fused, taps: Reduction, in_place: bool
    ) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """Batch axes, where the right operand moves, and row axes."""
        right = self._right_view
        packed = packed_bytes(self._operand(taps.run), F32)
        batch, rows = [], []
        for d, size in reversed(list(enumerate(output.shape[:-1]))):
            moves = d < len(self.right_batches) and right.strides[self.right_batches[d]] and size > 1
            if moves and not in_place:
                packed //= size
            step = (right.strides[self.right_batches[d]] if in_place else packed) if moves else 0
            axis = Axis(size, (self.left_moves[d], step, 0, output.strides[d], *fused.moves(d)))
            (batch if moves else rows).append(axis)
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
            return assembly.pack(self.right, pack(self._matrix(array), operand.run, F32.width, tiling))
        assembly.read(self.right)
        place = assembly.scratch(packed_bytes(operand, F32))
        conversion = conversion_of(assembly, self.right)
        assembly.prepare(
            self.right, place, lambda f, a, b: emit_pack(f, a, b, operand, tiling, conversion, F32.width)
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

    def _bias_step(self) -> int:
        return 4 if self.bias is not None and self.assembly.view(self.bias).size > 1 else 0

    def _bias(self) -> Place:
        """The bias; a constant one is padded to whole vectors."""
        array = self.assembly.request.inputs[self.bias].array
        if array is None or array.size == 1:
            return self.assembly.read(self.bias)
        padded = np.zeros(math.ceil(array.size / LANES) * LANES, np.float32)
        padded[: array.size] = array.reshape(-1)
        return self.assembly.pack(self.bias, padded)


@dataclass(frozen=True)
class _Fused:
    """The inputs of the epilogue, seen along the output's axes; tables stand still."""

    inputs: tuple[int, ...]
    views: tuple[View, ...]
    output: View

    @classmethod
    def of(cls, assembly: Assembly, output: View) -> _Fused:
        nodes = assembly.request.epilogue.nodes if assembly.request.epilogue else ()
        read = {arguments[0] for op, arguments, _ in nodes if op == "input"}
        read |= {dict(attributes)["input"] for op, _, attributes in nodes if op == "table"}
        inputs = tuple(sorted(read))
        return cls(inputs, tuple(assembly.view(k) for k in inputs), output)

    def moves(self, axis: int) -> list[int]:
        """Bytes that each input moves along an axis of the output."""
        whole = len(self.output.shape)
        return [
            view.strides[axis] if len(view.shape) == whole and view.shape[axis] > 1 else 0
            for view in self.views
        ]
