"""Operators that onnxruntime makes of several ONNX ones (docs/ContribOperators.md there)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.activation import hard_sigmoid, leaky_relu
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.convolution import conv
from tosaic_passes.onnx_to_tosa.dtypes import INT32
from tosaic_passes.onnx_to_tosa.indexing import take
from tosaic_passes.onnx_to_tosa.linear import batched_matmul, gemm
from tosaic_passes.onnx_to_tosa.normalization import layer_normalization, rms_normalization
from tosaic_passes.onnx_to_tosa.reduction import reduce_sum
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

CONTRIB = "com.microsoft"

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "": lambda ctx, x: x,
    "Relu": lambda ctx, x: ctx.clamp(x, 0, None),
    "Sigmoid": lambda ctx, x: ctx.sigmoid(x),
    "Tanh": lambda ctx, x: ctx.tanh(x),
    "LeakyRelu": lambda ctx, x, alpha=0.01: leaky_relu(ctx, x, alpha=alpha),
    "Clip": lambda ctx, x, low=None, high=None: ctx.clamp(x, low, high),
    "HardSigmoid": lambda ctx, x, alpha=0.2, beta=0.5: hard_sigmoid(ctx, x, alpha=alpha, beta=beta),
}
"""Activation -> function of the context, a tensor and the parameters in order."""


def _activated(ctx: LoweringContext, x: Tensor, name: str, parameters: Sequence[float]) -> Tensor:
    if name not in _ACTIVATIONS:
        ctx.fail(f"the activation '{name}' is not supported")
    return _ACTIVATIONS[name](ctx, x, *parameters)


@lowering("FusedMatMul", domain=CONTRIB)
@lowering("TransposeMatMul", domain=CONTRIB)
def fused_matmul(
    ctx: LoweringContext,
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Tensor:
    """alpha A' B': `tosa.matmul`; batches are not transposed, vectors not taken."""
    if transBatchA or transBatchB or a.rank < 2 or b.rank < 2:
        ctx.fail("vectors and transposed batches are not supported")
    a, b = (_transposed(ctx, x) if flag else x for x, flag in ((a, transA), (b, transB)))
    product = batched_matmul(ctx, a, b)
    return product if alpha == 1 else ctx.mul(product, alpha)


def _transposed(ctx: LoweringContext, x: Tensor) -> Tensor:
    return ctx.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


@lowering("FusedGemm", domain=CONTRIB)
def fused_gemm(
    ctx: LoweringContext,
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """Gemm and an activation."""
    product = gemm(ctx, a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    given = (activation_alpha, activation_beta, activation_gamma)
    return _activated(ctx, product, activation, [value for value in given if value is not None])


@lowering("FusedConv", domain=CONTRIB)
def fused_conv(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """Conv, the sum with another tensor, and an activation."""
    result = conv(
        ctx,
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    result = result if z is None else ctx.add(result, z)
    return _activated(ctx, result, activation, activation_params)


@lowering("SkipLayerNormalization", domain=CONTRIB)
def skip_layer_normalization(
    ctx: LoweringContext,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """LayerNormalization of x + skip + bias along the last axis, and that sum."""
    total = _sum(ctx, x, skip, bias)
    return (*layer_normalization(ctx, total, gamma, beta, epsilon=epsilon), total)


@lowering("SkipSimplifiedLayerNormalization", domain=CONTRIB)
def skip_simplified_layer_normalization(
    ctx: LoweringContext,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Tensor, None, None, Tensor]:
    """RMSNormalization of x + skip + bias along the last axis, and that sum; no statistics."""
    total = _sum(ctx, x, skip, bias)
    return rms_normalization(ctx, total, gamma, epsilon=epsilon), None, None, total


@lowering("SimplifiedLayerNormalization", domain=CONTRIB)
def simplified_layer_normalization(
    ctx: LoweringContext,
    x: Tensor,
    gamma: Tensor,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, None]:
    """RMSNormalization, as it was called before ONNX had it; no statistics."""
    return rms_normalization(ctx, x, gamma, axis=axis, epsilon=epsilon, stash_type=stash_type), None


def _sum(ctx: LoweringContext, x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    total = ctx.add(x, skip)
    return total if bias is None else ctx.add(total, bias)


@lowering("EmbedLayerNormalization", domain=CONTRIB)
def embed_layer_normalization(
    ctx: LoweringContext,
    input_ids: Tensor,
    segment_ids: Tensor | None = None,
    *tables: Tensor | None,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNormalization of the sum of word, position and segment embeddings; the true elements of each mask."""
    words, positions, segments, gamma, beta, mask, position_ids = (*tables, *[None] * 7)[:7]
    if words is None or positions is None or gamma is None or beta is None:
        ctx.fail("a required operand is missing")
    batch, length = input_ids.shape
    places = ctx.constant(np.arange(length, dtype=np.int32)) if position_ids is None else position_ids
    total = ctx.add(
        _embedded(ctx, words, input_ids, (batch, length)),
        _embedded(ctx, positions, places, (batch, length)),
    )
    if segment_ids is not None and segments is not None:
        total = ctx.add(total, _embedded(ctx, segments, segment_ids, (batch, length)))
    if mask is None:
        lengths = ctx.constant(np.zeros(batch, np.int32))
    else:
        lengths = ctx.reshape(reduce_sum(ctx, ctx.cast(mask, INT32), [1]), (batch,))
    normalized = layer_normalization(ctx, total, gamma, beta, epsilon=epsilon)[0]
    return normalized, lengths, total


def _embedded(ctx: LoweringContext, table: Tensor, ids: Tensor, shape: tuple[int, int]) -> Tensor:
    ids = ctx.broadcast_to(ctx.cast(ids, INT32), shape)
    rows = take(ctx, table, ctx.reshape(ids, (ids.size,)), 0)
    return ctx.reshape(rows, (*shape, table.shape[1]))
