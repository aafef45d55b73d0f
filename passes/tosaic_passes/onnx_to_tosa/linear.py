"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BFLOAT16, FLOAT8, FLOAT16, FLOAT32, INT32, is_float
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

_WIDE_RESULT = {FLOAT16, BFLOAT16}
"""Dtypes whose products TOSA adds up in f32."""


@lowering("MatMul")
def matmul(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    """`tosa.matmul` with numpy's rules for vectors and batches; integers by `tosa.mul` and `tosa.reduce_sum`."""
    if not a.rank or not b.rank:
        ctx.fail("a scalar has no matrix product")
    left = ctx.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    right = ctx.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    return ctx.reshape(batched_matmul(ctx, left, right), ctx.result.shape)


@lowering("Gemm")
def gemm(
    ctx: LoweringContext,
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Tensor:
    """alpha * A' B' + beta * C: `tosa.matmul` and `tosa.add`; factors and transposes of constants are folded."""
    a = ctx.transpose(a, [1, 0]) if transA else a
    b = ctx.transpose(b, [1, 0]) if transB else b
    if alpha != 1:
        a, b = (a, _scaled(ctx, b, alpha)) if b.is_constant else (_scaled(ctx, a, alpha), b)
    product = batched_matmul(ctx, a, b)
    return product if c is None or not beta else ctx.add(product, _scaled(ctx, c, beta))


def _scaled(ctx: LoweringContext, x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    if is_float(x.dtype):
        return ctx.mul(x, factor)
    if factor != int(factor):
        ctx.fail(f"the factor {factor} of {x.dtype} numbers is no integer")
    return ctx.mul(x, int(factor))


def batched_matmul(
    ctx: LoweringContext, a: Tensor, b: Tensor, *, zeros: tuple[int, int] | None = None
) -> Tensor:
    """[..., H, C] x [..., C, W] -> [..., H, W], leading dimensions broadcast.

    With `zeros`, the zero points of two int8 operands, the result is i32.
    """
    if a.shape[-1] != b.shape[-2]:
        ctx.fail(f"matrices {list(a.shape)} and {list(b.shape)} do not fit")
    if a.dtype != b.dtype:
        ctx.fail(f"operands of different types: {a.dtype}, {b.dtype}")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        ctx.fail(f"the batches of {list(a.shape)} and {list(b.shape)} do not broadcast")
    shape = (*batch, a.shape[-2], b.shape[-1])
    if not a.shape[-1]:
        return ctx.constant(np.zeros(shape, a.dtype if zeros is None else INT32))
    if zeros is None and not is_float(a.dtype):
        return ctx.reshape(_integer_matmul(ctx, a, b), shape)
    if math.prod(b.shape[:-2]) == 1:
        rows = math.prod(a.shape[:-1])
        product = _matmul(
            ctx, ctx.reshape(a, (1, rows, a.shape[-1])), ctx.reshape(b, (1, *b.shape[-2:])), zeros
        )
        return ctx.reshape(product, shape)
    a = ctx.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = ctx.broadcast_to(b, (*batch, *b.shape[-2:]))
    count = math.prod(batch)
    product = _matmul(
        ctx, ctx.reshape(a, (count, *a.shape[-2:])), ctx.reshape(b, (count, *b.shape[-2:])), zeros
    )
    return ctx.reshape(product, shape)


def _matmul(ctx: LoweringContext, a: Tensor, b: Tensor, zeros: tuple[int, int] | None) -> Tensor:
    if zeros is not None:
        return ctx.matmul(a, b, a_zero=zeros[0], b_zero=zeros[1])
    dtype = a.dtype
    if dtype in FLOAT8:
        a, b = ctx.cast(a, FLOAT32), ctx.cast(b, FLOAT32)
    out = FLOAT32 if dtype in _WIDE_RESULT or dtype in FLOAT8 else dtype
    return ctx.cast(ctx.matmul(a, b, dtype=out), dtype)


def _integer_matmul(ctx: LoweringContext, a: Tensor, b: Tensor) -> Tensor:
    """[..., H, C, 1] * [..., 1, C, W], added up along C; wraps around as the integers of ONNX do."""
    rank = max(a.rank, b.rank) + 1
    wide = [ctx.cast(x, INT32) for x in (a, b)]
    left = ctx.with_rank(ctx.reshape(wide[0], (*a.shape, 1)), rank)
    right = ctx.with_rank(ctx.reshape(wide[1], (*b.shape[:-2], 1, *b.shape[-2:])), rank)
    return ctx.cast(ctx.reduce("reduce_sum", ctx.mul(left, right), [rank - 2]), a.dtype)


@lowering("Det", since=11)
def det(ctx: LoweringContext, x: Tensor) -> Tensor:
    """Gaussian elimination in f32, the row with the greatest element first: a few ops a row."""
    size = x.shape[-1]
    rest = ctx.reshape(ctx.cast(x, FLOAT32), (math.prod(x.shape[:-2]), size, size))
    result = ctx.constant(np.ones((1, 1, 1), np.float32))
    for _ in range(size):
        pivot, rest = _eliminate(ctx, rest)
        result = ctx.mul(result, pivot)
    return ctx.cast(ctx.reshape(result, ctx.result.shape), x.dtype)


def _eliminate(ctx: LoweringContext, x: Tensor) -> tuple[Tensor, Tensor]:
    """[N, M, M] -> the pivot [N, 1, 1], negative where rows were swapped, and what is left, [N, M - 1, M - 1]."""
    batch, size, _ = x.shape
    if size == 1:
        return x, x
    column = ctx.reshape(ctx.abs(ctx.slice_axis(x, 2, 0, 1)), (batch, size))
    place = ctx.emit("argmax", [column], (batch,), INT32, axis=1)
    top = ctx.gather(x, ctx.reshape(place, (batch, 1)))
    place = ctx.reshape(place, (batch, 1, 1))
    numbers = ctx.constant(np.arange(size, dtype=np.int32).reshape(1, size, 1))
    swapped = ctx.select(ctx.equal(numbers, place), ctx.slice_axis(x, 1, 0, 1), x)
    below = ctx.slice_axis(swapped, 1, 1, size - 1)
    pivot = ctx.slice_axis(top, 2, 0, 1)
    divisor = ctx.select(ctx.equal(pivot, 0), ctx.constant(1, FLOAT32), pivot)
    factors = ctx.mul(ctx.slice_axis(below, 2, 0, 1), ctx.reciprocal(divisor))
    left = ctx.sub(
        ctx.slice_axis(below, 2, 1, size - 1), ctx.mul(factors, ctx.slice_axis(top, 2, 1, size - 1))
    )
    return ctx.select(ctx.equal(place, 0), pivot, ctx.negate(pivot)), left
