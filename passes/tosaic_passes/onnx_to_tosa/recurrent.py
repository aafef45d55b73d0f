"""Recurrent networks, unrolled over their (static) sequence length.

The products of the input with its weights are one matrix product over all steps; a step multiplies
the hidden state only. Gates come in ONNX's order (LSTM: input, output, forget, cell; GRU: update,
reset, hidden), one block of columns each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.recurrent_activations import Activation, named_activations
from tosaic_passes.onnx_to_tosa.recurrent_cells import GruCell, LstmCell, Recurrence, clipped
from tosaic_passes.onnx_to_tosa.recurrent_network import (
    Network,
    Product,
    State,
    bias_of,
    directions_of,
    quantized_weights_of,
    sum_with,
    weights_of,
)
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@lowering("RNN", since=7)
def rnn(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """H = f(X W' + H R' + B), unrolled over the sequence."""
    network = Network(x, lengths, (initial_h,), r.shape[-1], directions_of(ctx, direction), bool(layout))
    functions = named_activations(
        ctx, activations or ["Tanh"] * len(network.directions), activation_alpha, activation_beta
    )
    steps = []
    for index in range(len(network.directions)):
        f = next(functions)
        recurrent, bias = weights_of(ctx, r, index), bias_of(ctx, b, index, 1, network.hidden)
        products = sum_with(ctx, weights_of(ctx, w, index)(ctx, network.rows(ctx)), bias and ctx.add(*bias))

        def step(product: Tensor, state: State, recurrent: Product = recurrent, f: Activation = f) -> State:
            return (f(ctx, clipped(ctx, ctx.add(product, recurrent(ctx, state[0])), clip)),)

        steps.append((products, step))
    return network.run(ctx, steps)[: len(ctx.results)]


@lowering("GRU", since=7)
def gru(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """H = (1 - z) h + z H with the gates z, r and h, unrolled over the sequence."""
    network = Network(x, lengths, (initial_h,), r.shape[-1], directions_of(ctx, direction), bool(layout))
    names = activations or ["Sigmoid", "Tanh"] * len(network.directions)
    functions = named_activations(ctx, names, activation_alpha, activation_beta)
    steps = []
    for index in range(len(network.directions)):
        bias = bias_of(ctx, b, index, 3, network.hidden)
        products = sum_with(ctx, weights_of(ctx, w, index)(ctx, network.rows(ctx)), bias and bias[0])
        f, g = next(functions), next(functions)
        recurrent, recurrent_bias, split = (
            ctx.slice_axis(r, 0, index, 1),
            bias and bias[1],
            2 * network.hidden,
        )
        gates = Recurrence.of(ctx, recurrent, recurrent_bias, 0, split)
        candidate = Recurrence.of(ctx, recurrent, recurrent_bias, split, network.hidden)
        cell = GruCell(ctx, f, g, gates, candidate, network.hidden, clip, bool(linear_before_reset))
        steps.append((products, cell.step))
    return network.run(ctx, steps)[: len(ctx.results)]


@lowering("LSTM", since=7)
def lstm(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """C = f C + i c, H = o h(C) with the gates i, o, f, c and peepholes, unrolled over the sequence."""
    initial = (initial_h, initial_c)
    network = Network(x, lengths, initial, r.shape[-1], directions_of(ctx, direction), bool(layout))
    options = _LstmOptions(activations, activation_alpha, activation_beta, clip, bool(input_forget))
    weights = [(weights_of(ctx, w, i), weights_of(ctx, r, i)) for i in range(len(network.directions))]
    return _run_lstm(ctx, network, weights, b, p, options)


@lowering("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(
    ctx: LoweringContext,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    w_scale: Tensor | None = None,
    w_zero: Tensor | None = None,
    r_scale: Tensor | None = None,
    r_zero: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
) -> tuple[Tensor, ...]:
    """LSTM whose matrix products quantise their left operand dynamically and multiply in integers."""
    initial = (initial_h, initial_c)
    network = Network(x, lengths, initial, r.shape[1], directions_of(ctx, direction), batch_first=False)
    options = _LstmOptions(activations, activation_alpha, activation_beta, clip, bool(input_forget))
    weights = [
        (quantized_weights_of(ctx, w, w_scale, w_zero, i), quantized_weights_of(ctx, r, r_scale, r_zero, i))
        for i in range(len(network.directions))
    ]
    return _run_lstm(ctx, network, weights, b, p, options)


@dataclass(frozen=True)
class _LstmOptions:
    activations: Sequence[str]
    alpha: Sequence[float]
    beta: Sequence[float]
    clip: float | None
    input_forget: bool


def _run_lstm(
    ctx: LoweringContext,
    network: Network,
    weights: Sequence[tuple[Product, Product]],
    b: Tensor | None,
    p: Tensor | None,
    options: _LstmOptions,
) -> tuple[Tensor, ...]:
    names = options.activations or ["Sigmoid", "Tanh", "Tanh"] * len(network.directions)
    functions = named_activations(ctx, names, options.alpha, options.beta)
    steps = []
    for index, (given, recurrent) in enumerate(weights):
        bias = bias_of(ctx, b, index, 4, network.hidden)
        products = sum_with(ctx, given(ctx, network.rows(ctx)), bias and ctx.add(*bias))
        peepholes = None if p is None else ctx.slice_axis(p, 0, index, 1)
        cell = LstmCell(
            ctx,
            (next(functions), next(functions), next(functions)),
            recurrent,
            peepholes,
            network.hidden,
            options.clip,
            options.input_forget,
        )
        steps.append((products, cell.step))
    return network.run(ctx, steps)[: len(ctx.results)]
