"""TOSA ops that move elements. Where all operands are constants the result is one, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa import folding
from tosaic_passes.onnx_to_tosa.dtypes import MAX_LIST, MAX_RANK, held_shape
from tosaic_passes.onnx_to_tosa.emitter import Emitter, Operand
from tosaic_passes.onnx_to_tosa.merging import broadcast_alike, fitting, merge, moved_together, separate
from tosaic_passes.onnx_to_tosa.tensor import Tensor


class ShapeBuilder(Emitter):
    """Shapes, slices, padding: numpy's meaning, without the operands that TOSA wants for it."""

    def emit(
        self,
        name: str,
        operands: Sequence[Tensor | ir.Value],
        shape: Sequence[int],
        dtype: Any,
        **attributes: Any,
    ) -> Tensor:
        """Any TOSA op with one result; above rank 6 elementwise ones only, on merged dimensions."""
        tensors = [x for x in operands if isinstance(x, Tensor) and x.rank > 1]
        rank = max([len(shape), *(x.rank for x in tensors)])
        if rank <= MAX_RANK:
            return super().emit(name, operands, shape, dtype, **attributes)
        if any(x.rank != len(shape) for x in tensors):
            raise TypeError(f"tosa.{name} on a tensor of rank {rank} is not elementwise")
        groups = broadcast_alike(shape, [x.shape for x in tensors])
        if len(groups) > MAX_RANK:
            operands = [self.broadcast_to(x, shape) if x in tensors else x for x in operands]
            return self.emit(name, operands, shape, dtype, **attributes)
        small = [
            self.reshape(x, merge(x.shape, groups)) if isinstance(x, Tensor) and x.rank > 1 else x
            for x in operands
        ]
        return self.reshape(super().emit(name, small, merge(shape, groups), dtype, **attributes), shape)

    def with_rank(self, x: Tensor, rank: int) -> Tensor:
        """Dimensions of size 1 put before the others until the rank is reached."""
        return self.reshape(x, (1,) * (rank - x.rank) + x.shape)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in the same order in another shape."""
        shape = tuple(int(size) for size in shape)
        if shape == x.shape:
            return x
        if math.prod(shape) != x.size:
            self.fail(f"an operand of shape {list(x.shape)} does not fit the shape {list(shape)}")
        if x.array is not None:
            return self.constant(x.array.reshape(shape))
        before, after = held_shape(x.shape), held_shape(shape)
        held = Tensor(before, x.dtype, value=x.value)
        if before != after:
            held = super().emit("reshape", [held, self.shape_value(after)], after, x.dtype)
        return Tensor(shape, x.dtype, value=held.value)

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """Dimension i of the result is dimension perm[i] of x."""
        perm = [int(axis) for axis in perm]
        if perm == list(range(x.rank)):
            return x
        if x.array is not None:
            return self.constant(x.array.transpose(perm))
        shape = [x.shape[axis] for axis in perm]
        if x.rank > MAX_RANK:
            return self._transpose_merged(x, perm, shape)
        return self.emit("transpose", [x], shape, x.dtype, perms=ir.DenseI32ArrayAttr.get(perm))

    def _transpose_merged(self, x: Tensor, perm: Sequence[int], shape: Sequence[int]) -> Tensor:
        groups = moved_together(x.shape, perm)
        if len(groups) > MAX_RANK:
            return self._transpose_in_steps(x, perm)
        before = sorted(groups)
        small = self.reshape(x, merge(x.shape, before))
        return self.reshape(self.transpose(small, [before.index(group) for group in groups]), shape)

    def _transpose_in_steps(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """One axis after the other is put before those that are to follow it."""
        order = list(range(x.rank))
        for place, axis in enumerate(perm):
            at = order.index(axis)
            if at == place:
                continue
            sizes = list(x.shape)
            blocks = merge(sizes, [[*range(place)], [*range(place, at)], [at], [*range(at + 1, x.rank)]])
            sizes.insert(place, sizes.pop(at))
            order.insert(place, order.pop(at))
            x = self.reshape(self.transpose(self.reshape(x, blocks), [0, 2, 1, 3]), sizes)
        return x

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors one after the other along an axis; empty ones vanish."""
        axis %= tensors[0].rank
        full = [x for x in tensors if x.shape[axis]] or [tensors[0]]
        if len(full) == 1:
            return full[0]
        if all(x.is_constant for x in full):
            return self.constant(np.concatenate([x.array for x in full if x.array is not None], axis))
        if len(full) > MAX_LIST:
            parts = [self.concat(full[i : i + MAX_LIST], axis) for i in range(0, len(full), MAX_LIST)]
            return self.concat(parts, axis)
        shape = list(full[0].shape)
        shape[axis] = sum(x.shape[axis] for x in full)
        if len(shape) > MAX_RANK:
            groups = separate(len(shape), [axis])
            small = [self.reshape(x, merge(x.shape, groups)) for x in full]
            return self.reshape(self.concat(small, groups.index([axis])), shape)
        return self.emit("concat", full, shape, full[0].dtype, axis=axis)

    def slice(self, x: Tensor, starts: Sequence[int], sizes: Sequence[int]) -> Tensor:
        """`sizes[i]` elements from `starts[i]` on in every dimension."""
        sizes = tuple(int(size) for size in sizes)
        if sizes == x.shape:
            return x
        if x.array is not None:
            return self.constant(x.array[tuple(slice(s, s + n) for s, n in zip(starts, sizes))])
        if x.rank > MAX_RANK:
            touched = [i for i, size in enumerate(x.shape) if sizes[i] != size]
            now, later = fitting(x.rank, touched, MAX_RANK)
            if later:
                first = [sizes[i] if i in now else size for i, size in enumerate(x.shape)]
                at, then = ([starts[i] if i in axes else 0 for i in range(x.rank)] for axes in (now, later))
                return self.slice(self.slice(x, at, first), then, sizes)
            groups = separate(x.rank, touched)
            small = self.reshape(x, merge(x.shape, groups))
            cut = self.slice(small, [starts[group[0]] for group in groups], merge(sizes, groups))
            return self.reshape(cut, sizes)
        return self.emit("slice", [x, self.shape_value(starts), self.shape_value(sizes)], sizes, x.dtype)

    def slice_axis(self, x: Tensor, axis: int, start: int, size: int) -> Tensor:
        """`size` elements from `start` on along one axis, everything along the others."""
        starts, sizes = [0] * x.rank, list(x.shape)
        starts[axis], sizes[axis] = start, size
        return self.slice(x, starts, sizes)

    def pad(self, x: Tensor, before: Sequence[int], after: Sequence[int], value: Operand = 0) -> Tensor:
        """Elements of one value (a number or a tensor with one element) around x."""
        if not any(before) and not any(after):
            return x
        fill = value if isinstance(value, Tensor) else self.constant(np.asarray(value, x.dtype))
        shape = [b + size + a for b, size, a in zip(before, x.shape, after)]
        if x.array is not None and fill.array is not None:
            widths = list(zip(before, after))
            return self.constant(np.pad(x.array, widths, constant_values=fill.array.reshape(())[()]))
        if x.size == 0:
            return self.broadcast_to(self.reshape(fill, ()), shape)
        if fill.array is None:
            return self._pad_computed(x, before, after, fill)
        if x.rank > MAX_RANK:
            touched = [i for i in range(x.rank) if before[i] or after[i]]
            now, later = fitting(x.rank, touched, MAX_RANK)
            if later:
                for axes in (now, later):
                    low, high = ([w if i in axes else 0 for i, w in enumerate(p)] for p in (before, after))
                    x = self.pad(x, low, high, fill)
                return x
            groups = separate(x.rank, touched)
            small = self.reshape(x, merge(x.shape, groups))
            low, high = ([widths[group[0]] for group in groups] for widths in (before, after))
            return self.reshape(self.pad(small, low, high, fill), shape)
        flat = [width for pair in zip(before, after) for width in pair]
        return self.emit("pad", [x, self.shape_value(flat), self.reshape(fill, (1,))], shape, x.dtype)

    def _pad_computed(self, x: Tensor, before: Sequence[int], after: Sequence[int], fill: Tensor) -> Tensor:
        """`tosa.pad` takes constants only: what is put around is concatenated, axis by axis."""
        fill = self.reshape(fill, (1,) * x.rank)
        for axis, widths in enumerate(zip(before, after)):
            sides = [
                self.broadcast_to(fill, [width if i == axis else n for i, n in enumerate(x.shape)])
                for width in widths
                if width
            ]
            low = [sides.pop(0)] if widths[0] else []
            x = self.concat([*low, x, *sides], axis)
        return x

    def tile(self, x: Tensor, multiples: Sequence[int]) -> Tensor:
        """x repeated along each dimension."""
        multiples = [int(count) for count in multiples]
        if all(count == 1 for count in multiples):
            return x
        shape = [size * count for size, count in zip(x.shape, multiples)]
        if x.array is not None and math.prod(shape) <= max(folding.GROWTH_LIMIT, x.size):
            return self.constant(np.tile(x.array, multiples))
        if x.rank > MAX_RANK:
            touched = [i for i, count in enumerate(multiples) if count != 1]
            now, later = fitting(x.rank, touched, MAX_RANK)
            if later:
                first, rest = (
                    [count if i in axes else 1 for i, count in enumerate(multiples)] for axes in (now, later)
                )
                return self.tile(self.tile(x, first), rest)
            groups = separate(x.rank, touched)
            small = self.reshape(x, merge(x.shape, groups))
            return self.reshape(self.tile(small, [multiples[group[0]] for group in groups]), shape)
        return self.emit("tile", [x, self.shape_value(multiples)], shape, x.dtype)

    def broadcast_to(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """x broadcast to a shape as numpy does."""
        if x.array is not None and math.prod(shape) <= max(folding.GROWTH_LIMIT, x.size):
            return self.constant(np.broadcast_to(x.array, tuple(shape)))
        x = self.with_rank(x, len(shape))
        return self.tile(x, [new if old != new else 1 for old, new in zip(x.shape, shape)])

    def reverse(self, x: Tensor, axis: int) -> Tensor:
        """x with one dimension back to front."""
        if x.array is not None:
            return self.constant(np.flip(x.array, axis))
        if x.shape[axis] == 1:
            return x
        if x.rank > MAX_RANK:
            groups = separate(x.rank, [axis])
            small = self.reshape(x, merge(x.shape, groups))
            return self.reshape(self.reverse(small, groups.index([axis])), x.shape)
        return self.emit("reverse", [x], x.shape, x.dtype, axis=axis)

    def broadcast_shape(self, *tensors: Tensor) -> tuple[int, ...]:
        """The shape of tensors broadcast together as numpy does."""
        try:
            return tuple(np.broadcast_shapes(*(x.shape for x in tensors)))
        except ValueError:
            self.fail(f"shapes {', '.join(str(list(x.shape)) for x in tensors)} do not broadcast")
