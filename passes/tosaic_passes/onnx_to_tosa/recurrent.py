"""Recurrent networks, unrolled over their (static) sequence length.

The products of the input with its weights are one matrix product over all steps; a step multiplies
the hidden state only. Gates come in ONNX's order (LSTM: input, output, forget, cell; GRU: update,
reset, hidden), one block of columns each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tosaic_passes.onnx_to_tosa import activation as act
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32
from tosaic_passes.onnx_to_tosa.integer_products import integer_matmul
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.quantization import dynamic_quantization
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

Activation = Callable[[LoweringContext, Tensor], Tensor]
Product = Callable[[LoweringContext, Tensor], Tensor]
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]

_ALPHA_ONLY = {
    "LeakyRelu": (act.leaky_relu, 0.01),
    "Elu": (act.elu, 1.0),
    "ThresholdedRelu": (act.thresholded_relu, 1.0),
}
_PLAIN: dict[str, Activation] = {
    "Relu": act.relu,
    "Tanh": act.tanh,
    "Sigmoid": act.sigmoid,
    "Softsign": act.softsign,
    "Softplus": act.softplus,
}
_TWO_PARAMETERS = {
    "Affine": (lambda ctx, x, a, b: ctx.add(ctx.mul(x, a), b), 1.0, 0.0),
    "ScaledTanh": (lambda ctx, x, a, b: ctx.mul(ctx.tanh(ctx.mul(x, b)), a), 1.0, 1.0),
    "HardSigmoid": (lambda ctx, x, a, b: act.hard_sigmoid(ctx, x, alpha=a, beta=b), 0.2, 0.5),
}


@dataclass(frozen=True)
class Network:
    """What the three networks have in common: sizes, layout, direction, and the operands by direction."""

    x: Tensor
    lengths: Tensor | None
    initial: tuple[Tensor | None, ...]
    hidden: int
    directions: tuple[bool, ...]
    batch_first: bool

    @property
    def steps(self) -> int:
        return self.x.shape[1 if self.batch_first else 0]

    @property
    def batch(self) -> int:
        return self.x.shape[0 if self.batch_first else 1]

    def rows(self, ctx: LoweringContext) -> Tensor:
        """The input as a matrix [steps * batch, size]."""
        x = ctx.transpose(self.x, [1, 0, 2]) if self.batch_first else self.x
        return ctx.reshape(x, (self.steps * self.batch, self.x.shape[2]))

    def start(self, ctx: LoweringContext, index: int) -> State:
        """The initial states [batch, hidden] of a direction."""
        return tuple(self._initial(ctx, state, index) for state in self.initial)

    def _initial(self, ctx: LoweringContext, state: Tensor | None, index: int) -> Tensor:
        shape = (self.batch, self.hidden)
        if state is None:
            return ctx.constant(np.zeros(shape, self.x.dtype))
        return ctx.reshape(ctx.slice_axis(state, 1 if self.batch_first else 0, index, 1), shape)

    def run(self, ctx: LoweringContext, steps: Sequence[tuple[Tensor, Step]]) -> tuple[Tensor, ...]:
        """All directions: (Y, last state, ...) from their input products [steps * batch, gates] and steps."""
        outputs, lasts = [], []
        for index, (products, step) in enumerate(steps):
            output, last = self._direction(
                ctx, products, step, self.start(ctx, index), self.directions[index]
            )
            outputs.append(output)
            lasts.append(last)
        axis = 2 if self.batch_first else 1
        y = ctx.concat([self._with_direction(ctx, output) for output in outputs], axis)
        states = [self._join_states(ctx, [last[i] for last in lasts]) for i in range(len(self.initial))]
        return (y, *states)

    def _direction(
        self, ctx: LoweringContext, products: Tensor, step: Step, state: State, backwards: bool
    ) -> tuple[list[Tensor], State]:
        outputs: dict[int, Tensor] = {}
        for time in range(self.steps)[:: -1 if backwards else 1]:
            new = step(ctx.slice_axis(products, 0, time * self.batch, self.batch), state)
            state, outputs[time] = self._masked(ctx, time, new, state)
        return [outputs[time] for time in range(self.steps)], state

    def _masked(self, ctx: LoweringContext, time: int, new: State, old: State) -> tuple[State, Tensor]:
        """Sequences that have ended keep their state and give zeros."""
        lengths = self.lengths
        if lengths is None or (lengths.array is not None and (lengths.array > time).all()):
            return new, new[0]
        running = ctx.greater(ctx.reshape(ctx.cast(lengths, INT32), (self.batch, 1)), time)
        kept = tuple(ctx.select(running, after, before) for after, before in zip(new, old))
        return kept, ctx.select(running, new[0], 0)

    def _with_direction(self, ctx: LoweringContext, outputs: list[Tensor]) -> Tensor:
        shape = (self.batch, 1, 1, self.hidden) if self.batch_first else (1, 1, self.batch, self.hidden)
        axis = 1 if self.batch_first else 0
        if not outputs:
            return ctx.constant(np.zeros((*shape[:axis], 0, *shape[axis + 1 :]), self.x.dtype))
        return ctx.concat([ctx.reshape(y, shape) for y in outputs], axis)

    def _join_states(self, ctx: LoweringContext, states: list[Tensor]) -> Tensor:
        shape = (self.batch, 1, self.hidden) if self.batch_first else (1, self.batch, self.hidden)
        return ctx.concat([ctx.reshape(state, shape) for state in states], 1 if self.batch_first else 0)


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
    network = Network(x, lengths, (initial_h,), r.shape[-1], _directions(ctx, direction), bool(layout))
    functions = _activations(
        ctx, activations or ["Tanh"] * len(network.directions), activation_alpha, activation_beta
    )
    steps = []
    for index in range(len(network.directions)):
        f = next(functions)
        recurrent, bias = _weights(ctx, r, index), _bias(ctx, b, index, 1, network.hidden)
        products = _add(ctx, _weights(ctx, w, index)(ctx, network.rows(ctx)), bias and ctx.add(*bias))

        def step(product: Tensor, state: State, recurrent: Product = recurrent, f: Activation = f) -> State:
            return (f(ctx, _clipped(ctx, ctx.add(product, recurrent(ctx, state[0])), clip)),)

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
    network = Network(x, lengths, (initial_h,), r.shape[-1], _directions(ctx, direction), bool(layout))
    names = activations or ["Sigmoid", "Tanh"] * len(network.directions)
    functions = _activations(ctx, names, activation_alpha, activation_beta)
    steps = []
    for index in range(len(network.directions)):
        cell = _GruCell(
            ctx, next(functions), next(functions), clip, network.hidden, bool(linear_before_reset)
        )
        bias = _bias(ctx, b, index, 3, network.hidden)
        products = _add(ctx, _weights(ctx, w, index)(ctx, network.rows(ctx)), bias and bias[0])
        cell = cell.with_weights(ctx.slice_axis(r, 0, index, 1), bias and bias[1])
        steps.append((products, cell.step))
    return network.run(ctx, steps)[: len(ctx.results)]


@dataclass(frozen=True)
class _GruCell:
    ctx: LoweringContext
    f: Activation
    g: Activation
    clip: float | None
    hidden: int
    linear_before_reset: bool
    gates: Product | None = None
    candidate: Product | None = None
    gate_bias: Tensor | None = None
    candidate_bias: Tensor | None = None

    def with_weights(self, r: Tensor, bias: Tensor | None) -> _GruCell:
        """The cell with the recurrent weights [1, 3 * hidden, hidden], cut into gates and candidate."""
        ctx, split = self.ctx, 2 * self.hidden
        gates, candidate = (
            _weights(ctx, ctx.slice_axis(r, 1, start, size), 0)
            for start, size in ((0, split), (split, self.hidden))
        )
        return _GruCell(
            ctx,
            self.f,
            self.g,
            self.clip,
            self.hidden,
            self.linear_before_reset,
            gates,
            candidate,
            bias and ctx.slice_axis(bias, 1, 0, split),
            bias and ctx.slice_axis(bias, 1, split, self.hidden),
        )

    def step(self, product: Tensor, state: State) -> State:
        assert self.gates is not None
        assert self.candidate is not None
        ctx, before, split = self.ctx, state[0], 2 * self.hidden
        gates = _add(ctx, self.gates(ctx, before), self.gate_bias)
        gates = self.f(ctx, _clipped(ctx, ctx.add(ctx.slice_axis(product, 1, 0, split), gates), self.clip))
        update, reset = (ctx.slice_axis(gates, 1, i * self.hidden, self.hidden) for i in (0, 1))
        if self.linear_before_reset:
            recurrent = ctx.mul(reset, _add(ctx, self.candidate(ctx, before), self.candidate_bias))
        else:
            recurrent = _add(ctx, self.candidate(ctx, ctx.mul(reset, before)), self.candidate_bias)
        given = ctx.slice_axis(product, 1, split, self.hidden)
        after = self.g(ctx, _clipped(ctx, ctx.add(given, recurrent), self.clip))
        return (ctx.add(after, ctx.mul(update, ctx.sub(before, after))),)


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
    network = Network(x, lengths, initial, r.shape[-1], _directions(ctx, direction), bool(layout))
    options = _LstmOptions(activations, activation_alpha, activation_beta, clip, bool(input_forget))
    weights = [(_weights(ctx, w, i), _weights(ctx, r, i)) for i in range(len(network.directions))]
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
    network = Network(x, lengths, initial, r.shape[1], _directions(ctx, direction), batch_first=False)
    options = _LstmOptions(activations, activation_alpha, activation_beta, clip, bool(input_forget))
    weights = [
        (_quantized_weights(ctx, w, w_scale, w_zero, i), _quantized_weights(ctx, r, r_scale, r_zero, i))
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
    functions = _activations(ctx, names, options.alpha, options.beta)
    steps = []
    for index, (given, recurrent) in enumerate(weights):
        bias = _bias(ctx, b, index, 4, network.hidden)
        products = _add(ctx, given(ctx, network.rows(ctx)), bias and ctx.add(*bias))
        peepholes = None if p is None else ctx.slice_axis(p, 0, index, 1)
        cell = _LstmCell(
            ctx,
            (next(functions), next(functions), next(functions)),
            network.hidden,
            recurrent,
            peepholes,
            options,
        )
        steps.append((products, cell.step))
    return network.run(ctx, steps)[: len(ctx.results)]


@dataclass(frozen=True)
class _LstmCell:
    ctx: LoweringContext
    functions: tuple[Activation, Activation, Activation]
    hidden: int
    recurrent: Product
    peepholes: Tensor | None
    options: _LstmOptions

    def step(self, product: Tensor, state: State) -> State:
        ctx, (before, cell) = self.ctx, state
        f, g, h = self.functions
        gates = ctx.add(product, self.recurrent(ctx, before))
        if self.peepholes is None:
            i, o, forget = self._three(f, gates)
            return self._update(i, forget, g(ctx, self._gate(gates, 3)), cell, h, lambda _: o)
        i = f(ctx, self._peeped(gates, 0, 0, cell))
        forget = f(ctx, self._peeped(gates, 2, 2, cell))
        fresh = g(ctx, self._gate(gates, 3))
        return self._update(i, forget, fresh, cell, h, lambda new: f(ctx, self._peeped(gates, 1, 1, new)))

    def _update(
        self, i: Tensor, forget: Tensor, fresh: Tensor, cell: Tensor, h: Activation, output: Callable
    ) -> State:
        ctx = self.ctx
        forget = ctx.sub(1, i) if self.options.input_forget else forget
        new = ctx.add(ctx.mul(forget, cell), ctx.mul(i, fresh))
        return ctx.mul(output(new), h(ctx, new)), new

    def _three(self, f: Activation, gates: Tensor) -> Iterator[Tensor]:
        """Input, output and forget gate, which share a function, in one."""
        joined = f(
            self.ctx, _clipped(self.ctx, self.ctx.slice_axis(gates, 1, 0, 3 * self.hidden), self.options.clip)
        )
        return (self.ctx.slice_axis(joined, 1, i * self.hidden, self.hidden) for i in range(3))

    def _gate(self, gates: Tensor, index: int) -> Tensor:
        gate = self.ctx.slice_axis(gates, 1, index * self.hidden, self.hidden)
        return _clipped(self.ctx, gate, self.options.clip)

    def _peeped(self, gates: Tensor, index: int, peephole: int, cell: Tensor) -> Tensor:
        assert self.peepholes is not None
        weights = self.ctx.slice_axis(self.peepholes, 1, peephole * self.hidden, self.hidden)
        gate = self.ctx.slice_axis(gates, 1, index * self.hidden, self.hidden)
        return _clipped(self.ctx, self.ctx.add(gate, self.ctx.mul(weights, cell)), self.options.clip)


def _directions(ctx: LoweringContext, direction: str) -> tuple[bool, ...]:
    """For each direction: does it run backwards?"""
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in known:
        ctx.fail(f"direction '{direction}' is not known")
    return known[direction]


def _weights(ctx: LoweringContext, w: Tensor, index: int) -> Product:
    """The product with the transposed weights [directions, gates, size] of one direction."""
    matrix = ctx.transpose(ctx.reshape(ctx.slice_axis(w, 0, index, 1), w.shape[1:]), [1, 0])
    return lambda ctx, x: batched_matmul(ctx, x, matrix)


def _quantized_weights(
    ctx: LoweringContext, w: Tensor, scale: Tensor | None, zero: Tensor | None, index: int
) -> Product:
    """The product with quantised weights [directions, size, gates] of one direction, with their scales."""
    if scale is None or zero is None:
        ctx.fail("the scales and zero points of the weights are missing")
    matrix = ctx.reshape(ctx.slice_axis(w, 0, index, 1), w.shape[1:])
    scales, zeros = (
        ctx.reshape(ctx.slice_axis(t, 0, index, 1), (math.prod(t.shape[1:]),)) for t in (scale, zero)
    )

    def product(ctx: LoweringContext, x: Tensor) -> Tensor:
        quantized, x_scale, x_zero = dynamic_quantization(ctx, x)
        sums = integer_matmul(ctx, quantized, matrix, x_zero, zeros)
        return ctx.mul(ctx.cast(sums, x.dtype), ctx.mul(scales, x_scale))

    return product


def _bias(
    ctx: LoweringContext, b: Tensor | None, index: int, gates: int, hidden: int
) -> tuple[Tensor, Tensor] | None:
    """The two biases [1, gates * hidden] of one direction: of the input and of the hidden state."""
    if b is None:
        return None
    row = ctx.slice_axis(b, 0, index, 1)
    size = gates * hidden
    return ctx.slice_axis(row, 1, 0, size), ctx.slice_axis(row, 1, size, size)


def _add(ctx: LoweringContext, x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else ctx.add(x, bias)


def _clipped(ctx: LoweringContext, x: Tensor, clip: float | None) -> Tensor:
    return x if clip is None else ctx.clamp(x, -clip, clip)


def _activations(
    ctx: LoweringContext, names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> Iterator[Activation]:
    """The functions by name; alpha and beta go to those that take them, in order."""
    alpha, beta = iter(alphas), iter(betas)
    for name in names:
        if name in _PLAIN:
            yield _PLAIN[name]
        elif name in _ALPHA_ONLY:
            one, default = _ALPHA_ONLY[name]
            a = next(alpha, default)
            yield partial(one, alpha=a)
        elif name in _TWO_PARAMETERS:
            two, first, second = _TWO_PARAMETERS[name]
            a, b = next(alpha, first), next(beta, second)
            yield partial(two, a=a, b=b)
        else:
            ctx.fail(f"the activation '{name}' is not known")
