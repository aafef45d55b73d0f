"""Resizing pixel by pixel: positions and weights are computed as they are needed."""

from __future__ import annotations

from collections.abc import Sequence

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import KernelOptions, KernelRequest, View
from tosaic.wasm.kernels.resize_parts import Leaf, ResizedAxis, weighted_sum
from tosaic.wasm.kernels.vector_nest import Work, aligned, best_plan, emit_nest, stream_inputs
from tosaic.wasm.lanes import FLOAT, INT64, KINDS
from tosaic.wasm.nest import start_pointers


class Walk:
    """Loops over the pixels of the output; each computes its corners and weights, then runs a nest of one row."""

    def __init__(
        self,
        request: KernelRequest,
        rows: ResizedAxis,
        columns: ResizedAxis,
        prices: PriceList,
        options: KernelOptions,
    ) -> None:
        self.request, self.rows, self.columns = request, rows, columns
        self.prices, self.options = prices, options
        self.f = Function("resize", prices, params=("i32",) * (len(request.inputs) + 1))
        self.source, self.output = request.inputs[0].view, request.outputs[0]
        self.integer = KINDS[request.result] != FLOAT
        self.bilinear = not rows.nearest
        self.weights = [self.f.local("v128") for _ in range(4)] if self.bilinear else []

    def emit(self) -> Function:
        f, batch = self.f, self.output.shape[0]
        streams = stream_inputs(self.request.epilogue)
        operands = {0: self.source} | {
            k: aligned(self.request.inputs[k].view, self.output.shape) for k in streams
        }
        operands[len(self.request.inputs)] = self.output
        pointers = dict(zip(operands, start_pointers(f, list(operands), [0] * len(operands))))
        corner_rows, corners = self._locals(2), self._locals(4)
        work = self._row_work(operands, pointers, corners)
        plan = best_plan(work, self.prices, self.options)
        moving = {k: pointer for k, pointer in pointers.items() if k}
        with f.counted(batch):
            with f.counted(self.rows.count) as y:
                remainder_y = self._place(y, self.rows, pointers[0], self.source.strides[1], corner_rows)
                with f.counted(self.columns.count) as x:
                    remainder_x = self._place_columns(x, corner_rows, corners)
                    self._weigh(remainder_y, remainder_x)
                    emit_nest(f, work, plan)
                    f.release(remainder_x)
                    self._advance(moving, operands, 2, 1)
                f.release(remainder_y)
                self._advance(moving, operands, 1, 2)
            self._advance(moving, operands, 0, 1)
            f.add_to(pointers[0], self.source.strides[0])
        return f

    def _locals(self, count: int) -> list[int]:
        return [self.f.local("i32") for _ in range(count)]

    def _row_work(self, operands: dict[int, View], pointers: dict[int, int], corners: list[int]) -> Work:
        """The channels of one pixel."""
        views = [operand.view for operand in self.request.inputs]
        last = len(views)
        inputs = [self._channels(operands.get(k, view)) for k, view in enumerate(views)]
        inputs += [self._channels(self.source)] * 4
        weights: list[Leaf | None] = [("local", (local,), ()) for local in self.weights]
        bases = {k: pointers[k] for k in pointers if 0 < k < last}
        bases |= dict(enumerate(corners, last)) | {last + 4: pointers[last]}
        expression = weighted_sum(self.request, range(last, last + 4), weights)
        return Work(expression, inputs, self._channels(self.output), bases=bases)

    def _channels(self, view: View) -> View:
        return View(view.element, view.shape[-1:], view.strides[-1:])

    def _advance(self, pointers: dict[int, int], operands: dict[int, View], axis: int, inner: int) -> None:
        """Move on along an axis of the output, back from the end of the next inner axis (2: columns)."""
        sizes = self.output.shape
        for k, pointer in pointers.items():
            strides = operands[k].strides
            back = strides[inner] * sizes[inner] if axis != 2 else 0
            self.f.add_to(pointer, strides[axis] - back)

    def _place(self, index: int, axis: ResizedAxis, base: int, stride: int, targets: Sequence[int]) -> int:
        """Set `targets` to the addresses of both neighbours; the remainder in a new local."""
        f = self.f
        whole, remainder = f.local("i32"), f.local("i32")
        # A multiple of the numerator keeps the dividend from being negative.
        lift = max(0, -(axis.offset // axis.numerator))
        f.get(index)
        f.i32(axis.denominator)
        f.op("i32.mul")
        f.i32(axis.offset + lift * axis.numerator)
        f.op("i32.add")
        f.tee(remainder)
        f.get(remainder)
        f.i32(axis.numerator)
        f.op("i32.div_u")
        f.tee(whole)
        f.i32(axis.numerator)
        f.op("i32.mul")
        f.op("i32.sub")
        f.set(remainder)
        if axis.nearest:
            self._round(whole, remainder, axis.numerator)
        for target, ahead in zip(targets, (0, 1)):
            f.get(whole)
            f.i32(ahead - lift)
            f.op("i32.add")
            self._clamp(axis.size)
            f.i32(stride)
            f.op("i32.mul")
            f.get(base)
            f.op("i32.add")
            f.set(target)
        f.release(whole)
        return remainder

    def _place_columns(self, x: int, rows: Sequence[int], corners: Sequence[int]) -> int:
        """Addresses of the four corners: both columns in the upper row, then the same in the lower one."""
        f, stride = self.f, self.source.strides[2]
        remainder = self._place(x, self.columns, rows[0], stride, corners[:2])
        for upper, lower in zip(corners[:2], corners[2:]):
            f.get(upper)
            f.get(rows[1])
            f.op("i32.add")
            f.get(rows[0])
            f.op("i32.sub")
            f.set(lower)
        return remainder

    def _round(self, whole: int, remainder: int, numerator: int) -> None:
        """To the next place from half way on."""
        f = self.f
        f.get(whole)
        f.get(remainder)
        f.i32(1)
        f.op("i32.shl")
        f.i32(numerator)
        f.op("i32.ge_u")
        f.op("i32.add")
        f.set(whole)

    def _clamp(self, size: int) -> None:
        """Into 0 ... size - 1."""
        f = self.f
        place = f.local("i32")
        for bound, compare in ((0, "i32.gt_s"), (size - 1, "i32.lt_s")):
            f.tee(place)
            f.i32(bound)
            f.get(place)
            f.i32(bound)
            f.op(compare)
            f.op("select")
        f.release(place)

    def _weigh(self, remainder_y: int, remainder_x: int) -> None:
        """Set the weights of the corners."""
        if not self.bilinear:
            return
        parts = [
            self._parts(remainder, axis.numerator)
            for remainder, axis in ((remainder_y, self.rows), (remainder_x, self.columns))
        ]
        f, lanes = self.f, "i32" if self.integer else "f32"
        for weight, (a, b) in zip(self.weights, [(a, b) for a in parts[0] for b in parts[1]]):
            f.get(a)
            f.get(b)
            f.op(f"{lanes}.mul")
            if KINDS[self.request.result] == INT64:
                f.op("i64.extend_i32_s")
                f.op("i64x2.splat")
            else:
                f.op(f"{lanes}x4.splat")
            f.set(weight)
        f.release(*parts[0], *parts[1])

    def _parts(self, remainder: int, numerator: int) -> tuple[int, int]:
        """Locals with the weights of the first and the second neighbour along one axis."""
        f = self.f
        if self.integer:
            first, second = f.local("i32"), f.local("i32")
            f.i32(numerator)
            f.get(remainder)
            f.op("i32.sub")
            f.set(first)
            f.get(remainder)
            f.set(second)
            return first, second
        first, second = f.local("f32"), f.local("f32")
        f.get(remainder)
        f.op("f32.convert_i32_s")
        f.f32(numerator)
        f.op("f32.div")
        f.set(second)
        f.f32(1.0)
        f.get(second)
        f.op("f32.sub")
        f.set(first)
        return first, second
