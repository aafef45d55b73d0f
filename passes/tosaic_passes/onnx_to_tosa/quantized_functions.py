"""onnxruntime's functions of quantised tensors: sums, products, pools and tables in integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa import activation
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.convolution import convolve
from tosaic_passes.onnx_to_tosa.dtypes import INT8, INT32, UINT8, limits
from tosaic_passes.onnx_to_tosa.pooling import elements_under, resolve_counts
from tosaic_passes.onnx_to_tosa.quantization import Quantized, dequantize, quantize
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.requantization import as_int8, from_int8, one_value, requantize
from tosaic_passes.onnx_to_tosa.softmax import softmax_along
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.onnx_to_tosa.windows import (
    Windows,
    channels_first,
    channels_last,
    fit,
    resolve_windows,
)

CONTRIB = "com.microsoft"
_SUM_BITS = 30
"""A weighted sum of two 8-bit numbers stays below 2^30."""
_LEAST_SHIFT, _LARGEST_SHIFT = 2, 30

Function = Callable[[LoweringContext, Tensor], Tensor]


@dataclass(frozen=True)
class _Target:
    """How a result is to be quantised."""

    scale: Tensor
    zero: Tensor

    @staticmethod
    def of(ctx: LoweringContext, scale: Tensor, zero: Tensor | None, dtype: np.dtype) -> _Target:
        return _Target(scale, ctx.constant(np.zeros((), dtype)) if zero is None else zero)

    @property
    def dtype(self) -> np.dtype:
        return self.zero.dtype

    @property
    def is_constant(self) -> bool:
        return self.scale.is_constant and self.zero.is_constant

    def quantized(self, ctx: LoweringContext, x: Tensor) -> Tensor:
        return quantize(ctx, x, ctx.reshape(self.scale, ()), ctx.reshape(self.zero, ()), self.dtype)


def _quantized(ctx: LoweringContext, x: Tensor, scale: Tensor, zero: Tensor | None) -> Quantized:
    return Quantized(x, ctx.reshape(scale, ()), None if zero is None else ctx.reshape(zero, ()))


def _is_constant(*operands: Quantized) -> bool:
    return all(x.scale.is_constant and (x.zero is None or x.zero.is_constant) for x in operands)


@lowering("QLinearAdd", domain=CONTRIB)
def qlinear_add(
    ctx: LoweringContext,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    c_scale: Tensor,
    c_zero: Tensor | None = None,
) -> Tensor:
    """A sum weighted by the ratios of the scales, in i32 with a common shift, then `tosa.rescale`."""
    left, right = _quantized(ctx, a, a_scale, a_zero), _quantized(ctx, b, b_scale, b_zero)
    target = _Target.of(ctx, c_scale, c_zero, a.dtype)
    weights = _weights(left, right, target)
    if weights is None:
        return target.quantized(ctx, ctx.add(dequantize(ctx, left), dequantize(ctx, right)))
    shift, *factors = weights
    weighted = [ctx.mul(_centred(ctx, x), round(w)) for x, w in zip((left, right), factors, strict=True)]
    exact = all(factor.is_integer() for factor in factors)
    scale = ctx.constant(np.float32(2.0**-shift))
    return requantize(ctx, ctx.add(*weighted), scale, target.zero, rounds_last=True, exact=exact)


def _weights(left: Quantized, right: Quantized, target: _Target) -> tuple[int, float, float] | None:
    """A shift, and the ratios of the operands' scales to that of the result times 2^shift, so that sums fit i32.

    None where scales or zero points are computed, negative, or too large.
    """
    if not (_is_constant(left, right) and target.is_constant):
        return None
    first, second = (_number(x.scale) / _number(target.scale) for x in (left, right))
    if min(first, second) <= 0:
        return None
    shift = min(_LARGEST_SHIFT, _SUM_BITS - 8 - math.ceil(math.log2(first + second)))
    return None if shift < _LEAST_SHIFT else (shift, first * 2**shift, second * 2**shift)


@lowering("QLinearMul", domain=CONTRIB)
def qlinear_mul(
    ctx: LoweringContext,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    c_scale: Tensor,
    c_zero: Tensor | None = None,
) -> Tensor:
    """A product in i32, then `tosa.rescale`."""
    left, right = _quantized(ctx, a, a_scale, a_zero), _quantized(ctx, b, b_scale, b_zero)
    target = _Target.of(ctx, c_scale, c_zero, a.dtype)
    scale = ctx.div(ctx.mul(left.scale, right.scale), ctx.reshape(target.scale, ()))
    product = ctx.mul(_centred(ctx, left), _centred(ctx, right))
    return requantize(ctx, product, scale, target.zero, rounds_last=True)


def _number(scale: Tensor) -> float:
    assert scale.array is not None
    return float(scale.array.item())


def _centred(ctx: LoweringContext, x: Quantized) -> Tensor:
    """q - zero in i32, of 8-bit numbers."""
    q, zero = as_int8(ctx, x.q, x.zero)
    return ctx.sub(ctx.cast(q, INT32), zero)


@lowering("QLinearSigmoid", domain=CONTRIB)
def qlinear_sigmoid(
    ctx: LoweringContext,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """`tosa.table` of all 256 results."""
    target = _Target.of(ctx, y_scale, y_zero, x.dtype)
    return _table(ctx, _quantized(ctx, x, x_scale, x_zero), activation.sigmoid, target)


@lowering("QLinearLeakyRelu", domain=CONTRIB)
def qlinear_leaky_relu(
    ctx: LoweringContext,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> Tensor:
    """`tosa.table` of all 256 results."""

    def function(ctx: LoweringContext, x: Tensor) -> Tensor:
        return activation.leaky_relu(ctx, x, alpha=alpha)

    return _table(
        ctx, _quantized(ctx, x, x_scale, x_zero), function, _Target.of(ctx, y_scale, y_zero, x.dtype)
    )


def _table(ctx: LoweringContext, x: Quantized, function: Function, target: _Target) -> Tensor:
    """A function of quantised numbers, quantised again: looked up where scales and zero points are constant."""
    if not (_is_constant(x) and target.is_constant) or {x.q.dtype, target.dtype} - {INT8, UINT8}:
        return target.quantized(ctx, function(ctx, dequantize(ctx, x)))
    lowest = limits(x.q.dtype)[0]
    codes = Quantized(ctx.constant(np.arange(lowest, lowest + 256).astype(x.q.dtype)), x.scale, x.zero)
    results, _ = as_int8(ctx, target.quantized(ctx, function(ctx, dequantize(ctx, codes))), None)
    index, _ = as_int8(ctx, x.q, None)
    return from_int8(ctx, ctx.emit("table", [index, results], index.shape, INT8), target.dtype)


@lowering("QLinearSoftmax", domain=CONTRIB)
def qlinear_softmax(
    ctx: LoweringContext,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor,
    *,
    axis: int = -1,
    opset: int,
) -> Tensor:
    """Softmax in f32 between dequantization and quantization (onnxruntime's table may differ by one step)."""
    numbers = dequantize(ctx, _quantized(ctx, x, x_scale, x_zero))
    first = ctx.axis(axis, x.rank)
    if opset < 13:
        numbers = ctx.reshape(numbers, (math.prod(x.shape[:first]), math.prod(x.shape[first:])))
        first = 1
    result = _Target(y_scale, y_zero).quantized(ctx, softmax_along(ctx, numbers, first))
    return ctx.reshape(result, x.shape)


@lowering("QLinearConcat", domain=CONTRIB)
def qlinear_concat(
    ctx: LoweringContext, y_scale: Tensor, y_zero: Tensor, *operands: Tensor | None, axis: int
) -> Tensor:
    """`tosa.concat`; operands with other scales or zero points than the result go through a `tosa.table`."""
    target = _Target(y_scale, y_zero)
    parts = []
    for index in range(0, len(operands), 3):
        x, scale, zero = operands[index : index + 3]
        if x is None or scale is None:
            ctx.fail(f"operand {index} is missing")
        parts.append(_requantized(ctx, _quantized(ctx, x, scale, zero), target))
    return ctx.concat(parts, ctx.axis(axis, parts[0].rank))


def _requantized(ctx: LoweringContext, x: Quantized, target: _Target) -> Tensor:
    if _is_constant(x) and target.is_constant and x.q.dtype == target.dtype:
        zero = 0 if x.zero is None else one_value(x.zero)
        if _number(x.scale) == _number(target.scale) and zero == one_value(target.zero):
            return x.q
    return _table(ctx, x, lambda _, numbers: numbers, target)


@lowering("QLinearGlobalAveragePool", domain=CONTRIB)
def qlinear_global_average_pool(
    ctx: LoweringContext,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    *,
    channels_last: int = 0,
) -> Tensor:
    """`tosa.reduce_sum` in i32 over all spatial axes, then `tosa.rescale`. Not with channels_last."""
    if channels_last:
        ctx.fail("channels_last is not supported")
    count = math.prod(x.shape[2:])
    flat = ctx.reshape(_centred(ctx, _quantized(ctx, x, x_scale, x_zero)), (*x.shape[:2], count))
    scale = ctx.div(ctx.reshape(x_scale, ()), ctx.mul(ctx.reshape(y_scale, ()), count))
    means = requantize(ctx, ctx.reduce("reduce_sum", flat, [2]), scale, y_zero)
    return ctx.reshape(means, (*x.shape[:2], *(1,) * (x.rank - 2)))


@lowering("QLinearAveragePool", domain=CONTRIB)
def qlinear_average_pool(
    ctx: LoweringContext,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """Sums under the windows in i32 by `tosa.depthwise_conv2d`, then `tosa.rescale`. Not with channels_last."""
    if channels_last:
        ctx.fail("channels_last is not supported")
    quantized = _quantized(ctx, x, x_scale, x_zero)
    target = _Target.of(ctx, y_scale, y_zero, x.dtype)
    windows = resolve_windows(ctx, x.shape[2:], kernel_shape, strides, (), pads, auto_pad)
    counts = resolve_counts(ctx, x, windows, ceil_mode=bool(ceil_mode))
    elements = elements_under(x.shape[2:], windows, counts)
    if count_include_pad:
        elements = np.full_like(elements, math.prod(windows.kernel))
    sums = _window_sums(ctx, quantized, windows, counts)
    scale = _mean_scale(ctx, quantized.scale, target, elements)
    return channels_first(ctx, requantize(ctx, sums, scale, target.zero, rounds_last=True))


def _window_sums(ctx: LoweringContext, x: Quantized, windows: Windows, counts: Sequence[int]) -> Tensor:
    """Sums of q - zero under each window in i32, channels last; padding counts as zero."""
    q, zero = as_int8(ctx, channels_last(ctx, x.q), x.zero)
    known = one_value(zero)
    if known is None:
        ctx.fail("the zero point must be a constant; got a value that is computed at run time")
    q, windows = fit(ctx, q, windows, counts, first=1)
    channels = q.shape[-1]
    ones = ctx.constant(np.ones((channels, 1, *windows.kernel), np.int8))
    return convolve(ctx, q, ones, None, windows, channels, zeros=(known, 0))


def _mean_scale(ctx: LoweringContext, scale: Tensor, target: _Target, elements: np.ndarray) -> Tensor:
    """x_scale / (y_scale * elements): one number, or one for each window, channels last."""
    numbers = elements.astype(np.float32)
    same = (numbers == numbers.flat[0]).all()
    numbers = numbers.reshape(-1)[0] if same else np.moveaxis(numbers, 1, -1)
    return ctx.div(scale, ctx.mul(ctx.constant(numbers), ctx.reshape(target.scale, ())))
