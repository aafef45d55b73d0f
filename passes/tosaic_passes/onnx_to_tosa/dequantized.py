"""Products of dequantised numbers stay integer products: DequantizeLinear, Conv, QuantizeLinear and the like.

DequantizeLinear remembers the integers behind its result (`Tensor.quantized`). A product of two such
tensors multiplies the integers and remembers its i32 sums; QuantizeLinear rescales remembered sums.
The f32 numbers are emitted as well, for those who read them; if nobody does, they are dead code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT8, INT32, UINT8
from tosaic_passes.onnx_to_tosa.integer_products import IntegerConvolution, integer_matmul
from tosaic_passes.onnx_to_tosa.requantization import requantize
from tosaic_passes.onnx_to_tosa.tensor import Quantized, Tensor
from tosaic_passes.onnx_to_tosa.windows import Windows, channels_first

_BYTES = (INT8, UINT8)
_SCALE_TOLERANCE = 1e-5
"""A bias counts as quantised with the product of the two scales up to this relative difference."""


def convolution(
    ctx: LoweringContext, x: Tensor, w: Tensor, b: Tensor | None, windows: Windows, group: int
) -> Tensor | None:
    """The convolution of two dequantised tensors in integers, None if they are not."""
    data, weights = _bytes(x), _bytes(w)
    if data is None or weights is None or data.scale.size != 1 or not _along(weights, 0):
        return None
    factor = _product_of_scales(data, weights)
    bias = _integer_bias(b, factor)
    if b is not None and bias is None:
        return None
    weights_zero = None if weights.zero is None else ctx.reshape(weights.zero, (weights.zero.size,))
    sums = IntegerConvolution(windows, group).sums(ctx, data.q, data.zero, weights.q, weights_zero, bias)
    by_channel = (factor.size, *[1] * windows.rank) if factor.size > 1 else ()
    return _with_sums(ctx, channels_first(ctx, sums), ctx.constant(factor.reshape(by_channel)))


def product(ctx: LoweringContext, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor | None:
    """The matrix product of two dequantised tensors (plus a row c) in integers, None if they are not."""
    left, right = _bytes(a), _bytes(b)
    if left is None or right is None or a.rank < 2 or b.rank < 2:
        return None
    if left.scale.size != 1 or not _along(right, b.rank - 1):
        return None
    factor = _product_of_scales(left, right)
    bias = _integer_bias(c, factor)
    if c is not None and bias is None:
        return None
    zero = None if right.zero is None else ctx.reshape(right.zero, (right.zero.size,))
    sums = integer_matmul(ctx, left.q, right.q, left.zero, zero)
    sums = sums if bias is None else ctx.add(sums, bias)
    return _with_sums(ctx, sums, ctx.constant(factor if factor.size > 1 else factor.reshape(())))


def transposed(ctx: LoweringContext, x: Tensor) -> Tensor:
    """A matrix transposed together with the integers behind it."""
    result = ctx.transpose(x, [1, 0])
    if x.quantized is None:
        return result
    parts = (x.quantized.scale, x.quantized.zero)
    scale, zero = (t and (ctx.transpose(t, [1, 0]) if t.rank == 2 else t) for t in parts)
    assert scale is not None
    return replace(result, quantized=Quantized(ctx.transpose(x.quantized.q, [1, 0]), scale, zero))


def quantized_again(
    ctx: LoweringContext, x: Tensor, scale: Tensor, zero: Tensor | None, dtype: np.dtype
) -> Tensor | None:
    """QuantizeLinear of a tensor with known integers: those themselves, or its sums rescaled; else None."""
    known = x.quantized
    if known is None or scale.array is None or dtype not in _BYTES:
        return None
    if known.q.dtype == dtype and _equal(known.scale, scale) and _equal(known.zero, zero):
        return known.q
    zero = ctx.constant(np.zeros((), dtype)) if zero is None else zero
    if known.q.dtype != INT32 or zero.array is None or scale.size != 1 or zero.size != 1:
        return None
    factor = ctx.div(ctx.cast(known.scale, FLOAT32), ctx.reshape(ctx.cast(scale, FLOAT32), ()))
    return _rescaled_channels_last(ctx, known.q, factor, zero)


def _rescaled_channels_last(ctx: LoweringContext, sums: Tensor, factor: Tensor, zero: Tensor) -> Tensor:
    """`tosa.rescale` takes a factor a channel along the last axis only."""
    if factor.size == 1:
        return requantize(ctx, sums, ctx.reshape(factor, ()), zero)
    axis = sums.rank - factor.rank + factor.shape.index(factor.size)
    last = [*(i for i in range(sums.rank) if i != axis), axis]
    narrow = requantize(
        ctx, ctx.transpose(sums, last), ctx.reshape(factor, (*(1,) * (sums.rank - 1), factor.size)), zero
    )
    return ctx.transpose(narrow, np.argsort(last).tolist())


def _bytes(x: Tensor) -> Quantized | None:
    """The 8-bit integers behind a tensor, with constant scale and zero point."""
    known = x.quantized
    return known if known is not None and known.q.dtype in _BYTES else None


def _along(x: Quantized, axis: int) -> bool:
    """One scale and zero point for all, or one for each index of an axis."""
    shape = tuple(n if i == axis else 1 for i, n in enumerate(x.q.shape))
    return all(t is None or t.size == 1 or t.shape == shape for t in (x.scale, x.zero))


def _product_of_scales(a: Quantized, b: Quantized) -> np.ndarray:
    left, right = (np.asarray(t.scale.array, np.float32).reshape(-1) for t in (a, b))
    return left * right


def _integer_bias(bias: Tensor | None, factor: np.ndarray) -> Tensor | None:
    """The i32 integers behind a bias that is quantised with these scales and no zero point."""
    known = bias.quantized if bias is not None else None
    if known is None or known.q.dtype != INT32 or known.q.rank != 1:
        return None
    if known.zero is not None and np.asarray(known.zero.array).any():
        return None
    scales = np.asarray(known.scale.array).reshape(-1)
    return known.q if np.allclose(scales, factor, rtol=_SCALE_TOLERANCE, atol=0) else None


def _with_sums(ctx: LoweringContext, sums: Tensor, scale: Tensor) -> Tensor:
    numbers = ctx.mul(ctx.cast(sums, FLOAT32), scale)
    return replace(numbers, quantized=Quantized(sums, scale, None))


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    left, right = (np.zeros(()) if t is None else t.array for t in (a, b))
    return left is not None and right is not None and left.size == right.size and bool((left == right).all())
