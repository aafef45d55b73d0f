"""Reductions, arg-reductions and running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    INT8,
    INT16,
    INT32,
    is_float,
    limits,
)
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

Reduction = Callable[[LoweringContext, Tensor, Sequence[int]], Tensor]


def reduce_sum(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """`tosa.reduce_sum`; f16 and bf16 are added in f32."""
    if x.size == 0:
        return _identity(ctx, x, axes, 0)
    if x.dtype in (FLOAT16, BFLOAT16):
        return ctx.cast(ctx.reduce("reduce_sum", ctx.cast(x, FLOAT32), axes), x.dtype)
    return ctx.reduce("reduce_sum", x, axes)


def reduce_mean(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """`tosa.reduce_sum` times 1/n; integers are divided and truncated."""
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    if not is_float(x.dtype):
        return ctx.cast(ctx.div(ctx.reduce("reduce_sum", ctx.cast(x, INT32), axes), count), x.dtype)
    wide = ctx.cast(x, FLOAT32) if x.dtype in (FLOAT16, BFLOAT16) else x
    return ctx.cast(ctx.mul(ctx.reduce("reduce_sum", wide, axes), 1 / count), x.dtype)


def reduce_max(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """`tosa.reduce_max`, `tosa.reduce_any` for bool."""
    if x.size == 0:
        return _identity(ctx, x, axes, -np.inf if is_float(x.dtype) else limits(x.dtype)[0])
    return ctx.reduce("reduce_any" if x.dtype == BOOL else "reduce_max", x, axes)


def reduce_min(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """`tosa.reduce_min`, `tosa.reduce_all` for bool."""
    if x.size == 0:
        return _identity(ctx, x, axes, np.inf if is_float(x.dtype) else limits(x.dtype)[1])
    return ctx.reduce("reduce_all" if x.dtype == BOOL else "reduce_min", x, axes)


def reduce_prod(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """`tosa.reduce_product`; integers by multiplying one half with the other."""
    if x.size == 0:
        return _identity(ctx, x, axes, 1)
    if is_float(x.dtype):
        return ctx.reduce("reduce_product", x, axes)
    for axis in axes:
        x = _halve_product(ctx, x, axis)
    return x


def reduce_sum_square(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The sum of x * x."""
    return reduce_sum(ctx, ctx.mul(x, x), axes)


def reduce_l1(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The sum of |x|."""
    return reduce_sum(ctx, ctx.abs(x), axes)


def reduce_l2(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The square root of the sum of x * x; integers are computed in f32."""
    wide = ctx.cast(x, FLOAT32)
    root = ctx.sqrt(reduce_sum_square(ctx, wide, axes))
    return ctx.cast(root if is_float(x.dtype) else ctx.floor(root), x.dtype)


def reduce_log_sum(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The logarithm of the sum."""
    return ctx.log(reduce_sum(ctx, x, axes))


def reduce_log_sum_exp(ctx: LoweringContext, x: Tensor, axes: Sequence[int]) -> Tensor:
    """m + log(sum(exp(x - m))) with m = max(x), which does not overflow (an infinite m counts as 0)."""
    if x.size == 0:
        return _identity(ctx, x, axes, -np.inf)
    highest = ctx.reduce("reduce_max", x, axes)
    finite = ctx.select(ctx.equal(ctx.abs(highest), np.inf), 0, highest)
    return ctx.add(ctx.log(reduce_sum(ctx, ctx.exp(ctx.sub(x, finite)), axes)), finite)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": reduce_l1,
    "ReduceL2": reduce_l2,
    "ReduceLogSum": reduce_log_sum,
    "ReduceLogSumExp": reduce_log_sum_exp,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min,
    "ReduceProd": reduce_prod,
    "ReduceSum": reduce_sum,
    "ReduceSumSquare": reduce_sum_square,
}


def _register(op: str, reduction: Reduction) -> None:
    def by_attribute(
        ctx: LoweringContext, x: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1
    ) -> Tensor:
        return _reduce(ctx, reduction, x, axes or range(x.rank))

    def by_operand(
        ctx: LoweringContext,
        x: Tensor,
        axes: Tensor | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        chosen = [] if axes is None else ctx.required_constant(axes, "axes").tolist()
        if not chosen and noop_with_empty_axes:
            return reduction(ctx, x, [])
        return _reduce(ctx, reduction, x, chosen or range(x.rank))

    by_attribute.__doc__ = reduction.__doc__
    by_operand.__doc__ = f"{reduction.__doc__} The axes must be constant."
    lowering(op)(by_attribute)
    lowering(op, since=13 if op == "ReduceSum" else 18)(by_operand)


def _reduce(ctx: LoweringContext, reduction: Reduction, x: Tensor, axes: Sequence[int]) -> Tensor:
    reduced = reduction(ctx, x, sorted({ctx.axis(axis, x.rank) for axis in axes}))
    return ctx.reshape(reduced, ctx.result.shape)


for _op, _reduction in _REDUCTIONS.items():
    _register(_op, _reduction)


def _identity(ctx: LoweringContext, x: Tensor, axes: Sequence[int], value: float) -> Tensor:
    """What a reduction over nothing gives."""
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    return ctx.constant(np.full(shape, value, x.dtype))


def _halve_product(ctx: LoweringContext, x: Tensor, axis: int) -> Tensor:
    while (size := x.shape[axis]) > 1:
        half = size // 2
        pairs = ctx.mul(ctx.slice_axis(x, axis, 0, half), ctx.slice_axis(x, axis, half, half))
        x = ctx.concat([pairs, ctx.slice_axis(x, axis, 2 * half, size % 2)], axis) if size % 2 else pairs
    return x


@lowering("ArgMax")
def arg_max(
    ctx: LoweringContext, x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Tensor:
    """`tosa.argmax`; 32-bit and unsigned integers by comparing with the greatest element."""
    return _arg_reduce(ctx, x, axis, bool(select_last_index), largest=True)


@lowering("ArgMin")
def arg_min(
    ctx: LoweringContext, x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Tensor:
    """`tosa.argmax` of the negated operand; integers by comparing with the least element."""
    return _arg_reduce(ctx, x, axis, bool(select_last_index), largest=False)


def _arg_reduce(ctx: LoweringContext, x: Tensor, axis: int, last: bool, *, largest: bool) -> Tensor:
    axis = ctx.axis(axis, x.rank)
    if x.rank == 0:
        return ctx.constant(np.zeros((), np.int64))
    native = is_float(x.dtype) or (x.dtype in (INT8, INT16) and largest)
    if not native:
        return ctx.reshape(_arg_by_comparison(ctx, x, axis, last, largest=largest), ctx.result.shape)
    ordered = x if largest else ctx.negate(x)
    if last:
        ordered = ctx.reverse(ordered, axis)
    found = ctx.argmax(ordered, axis)
    return ctx.reshape(ctx.sub(x.shape[axis] - 1, found) if last else found, ctx.result.shape)


def _arg_by_comparison(ctx: LoweringContext, x: Tensor, axis: int, last: bool, *, largest: bool) -> Tensor:
    wanted = (reduce_max if largest else reduce_min)(ctx, x, [axis])
    shape = [-1 if i == axis else 1 for i in range(x.rank)]
    positions = ctx.constant(np.arange(x.shape[axis], dtype=np.int32).reshape(shape))
    elsewhere = np.array(-1 if last else x.shape[axis], np.int32)
    marked = ctx.select(ctx.equal(x, wanted), positions, elsewhere)
    return (reduce_max if last else reduce_min)(ctx, marked, [axis])


@lowering("CumSum", since=11)
def cum_sum(ctx: LoweringContext, x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """log2(n) rounds of adding the tensor to itself, shifted by 1, 2, 4, ...; the axis must be constant."""
    along = _constant_axis(ctx, axis, x.rank)
    return running(ctx, x, along, "add", 0, exclusive=bool(exclusive), reverse=bool(reverse))


@lowering("CumProd", since=26)
def cum_prod(
    ctx: LoweringContext, x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0
) -> Tensor:
    """log2(n) rounds of multiplying the tensor with itself, shifted by 1, 2, 4, ...; the axis must be constant."""
    along = _constant_axis(ctx, axis, x.rank)
    return running(ctx, x, along, "mul", 1, exclusive=bool(exclusive), reverse=bool(reverse))


def _constant_axis(ctx: LoweringContext, axis: Tensor, rank: int) -> int:
    return ctx.axis(int(ctx.required_constant(axis, "axis").item()), rank)


def running(
    ctx: LoweringContext,
    x: Tensor,
    along: int,
    op: str,
    neutral: int,
    *,
    exclusive: bool = False,
    reverse: bool = False,
) -> Tensor:
    """Each element combined by `op` with all before it along an axis."""
    if x.size == 0:
        return x
    total = ctx.reverse(x, along) if reverse else x
    if exclusive:
        total = _shift(ctx, total, along, 1, neutral)
    step = 1
    while step < x.shape[along]:
        total = ctx.elementwise(op, total, _shift(ctx, total, along, step, neutral))
        step *= 2
    return ctx.reverse(total, along) if reverse else total


def _shift(ctx: LoweringContext, x: Tensor, axis: int, step: int, fill: int) -> Tensor:
    """x moved by `step` along an axis; what moves in is `fill`."""
    kept = x.shape[axis] - step
    before = [step if i == axis else 0 for i in range(x.rank)]
    if kept <= 0:
        return ctx.constant(np.full(x.shape, fill, x.dtype))
    return ctx.pad(ctx.slice_axis(x, axis, 0, kept), before, [0] * x.rank, fill)
