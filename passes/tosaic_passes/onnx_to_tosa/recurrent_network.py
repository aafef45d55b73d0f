"""What recurrent operators have in common: directions, steps over the sequence, states, and their products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import INT32
from tosaic_passes.onnx_to_tosa.integer_products import integer_matmul
from tosaic_passes.onnx_to_tosa.linear import batched_matmul
from tosaic_passes.onnx_to_tosa.quantization import dynamic_quantization
from tosaic_passes.onnx_to_tosa.tensor import Tensor

Product = Callable[[LoweringContext, Tensor], Tensor]
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]


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


def directions_of(ctx: LoweringContext, direction: str) -> tuple[bool, ...]:
    """For each direction: does it run backwards?"""
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in known:
        ctx.fail(f"direction '{direction}' is not known")
    return known[direction]


def weights_of(ctx: LoweringContext, w: Tensor, index: int) -> Product:
    """The product with the transposed weights [directions, gates, size] of one direction."""
    matrix = ctx.transpose(ctx.reshape(ctx.slice_axis(w, 0, index, 1), w.shape[1:]), [1, 0])
    return lambda ctx, x: batched_matmul(ctx, x, matrix)


def quantized_weights_of(
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


def bias_of(
    ctx: LoweringContext, b: Tensor | None, index: int, gates: int, hidden: int
) -> tuple[Tensor, Tensor] | None:
    """The two biases [1, gates * hidden] of one direction: of the input and of the hidden state."""
    if b is None:
        return None
    row = ctx.slice_axis(b, 0, index, 1)
    size = gates * hidden
    return ctx.slice_axis(row, 1, 0, size), ctx.slice_axis(row, 1, size, size)


def sum_with(ctx: LoweringContext, x: Tensor, bias: Tensor | None) -> Tensor:
    """The sum with a bias, where there is one."""
    return x if bias is None else ctx.add(x, bias)
