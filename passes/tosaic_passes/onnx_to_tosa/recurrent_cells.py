"""One step of a GRU and of an LSTM: the next states from the input's share of the gates and the states before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.recurrent_activations import Activation
from tosaic_passes.onnx_to_tosa.recurrent_network import Product, State, sum_with, weights_of
from tosaic_passes.onnx_to_tosa.tensor import Tensor


@dataclass(frozen=True)
class Recurrence:
    """What a state [batch, hidden] adds to some gates: its product with their weights, and their bias."""

    product: Product
    bias: Tensor | None

    @classmethod
    def of(cls, ctx: LoweringContext, r: Tensor, bias: Tensor | None, start: int, size: int) -> Recurrence:
        """That of `size` columns of gates from `start` on; `r` is [1, gates, hidden], `bias` [1, gates]."""
        product = weights_of(ctx, ctx.slice_axis(r, 1, start, size), 0)
        return cls(product, bias and ctx.slice_axis(bias, 1, start, size))

    def __call__(self, ctx: LoweringContext, state: Tensor) -> Tensor:
        return sum_with(ctx, self.product(ctx, state), self.bias)


@dataclass(frozen=True)
class GruCell:
    """`f` makes the gates for update and reset, `g` the candidate for the new state."""

    ctx: LoweringContext
    f: Activation
    g: Activation
    gates: Recurrence
    candidate: Recurrence
    hidden: int
    clip: float | None
    linear_before_reset: bool

    def step(self, product: Tensor, state: State) -> State:
        ctx, before, split = self.ctx, state[0], 2 * self.hidden
        recurrent = self.gates(ctx, before)
        gates = ctx.add(ctx.slice_axis(product, 1, 0, split), recurrent)
        gates = self.f(ctx, clipped(ctx, gates, self.clip))
        update, reset = (ctx.slice_axis(gates, 1, i * self.hidden, self.hidden) for i in (0, 1))
        if self.linear_before_reset:
            recurrent = ctx.mul(reset, self.candidate(ctx, before))
        else:
            recurrent = self.candidate(ctx, ctx.mul(reset, before))
        given = ctx.slice_axis(product, 1, split, self.hidden)
        after = self.g(ctx, clipped(ctx, ctx.add(given, recurrent), self.clip))
        return (ctx.add(after, ctx.mul(update, ctx.sub(before, after))),)


@dataclass(frozen=True)
class LstmCell:
    """`functions` are those of the gates, of the new cell, and of what the cell shows; `peepholes` [1, 3 * hidden]."""

    ctx: LoweringContext
    functions: tuple[Activation, Activation, Activation]
    recurrent: Product
    peepholes: Tensor | None
    hidden: int
    clip: float | None
    input_forget: bool

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
        self,
        i: Tensor,
        forget: Tensor,
        fresh: Tensor,
        cell: Tensor,
        h: Activation,
        output: Callable[[Tensor], Tensor],
    ) -> State:
        ctx = self.ctx
        forget = ctx.sub(1, i) if self.input_forget else forget
        new = ctx.add(ctx.mul(forget, cell), ctx.mul(i, fresh))
        return ctx.mul(output(new), h(ctx, new)), new

    def _three(self, f: Activation, gates: Tensor) -> Iterator[Tensor]:
        """Input, output and forget gate, which share a function, in one."""
        joined = f(self.ctx, clipped(self.ctx, self.ctx.slice_axis(gates, 1, 0, 3 * self.hidden), self.clip))
        return (self.ctx.slice_axis(joined, 1, i * self.hidden, self.hidden) for i in range(3))

    def _gate(self, gates: Tensor, index: int) -> Tensor:
        gate = self.ctx.slice_axis(gates, 1, index * self.hidden, self.hidden)
        return clipped(self.ctx, gate, self.clip)

    def _peeped(self, gates: Tensor, index: int, peephole: int, cell: Tensor) -> Tensor:
        assert self.peepholes is not None
        weights = self.ctx.slice_axis(self.peepholes, 1, peephole * self.hidden, self.hidden)
        gate = self.ctx.slice_axis(gates, 1, index * self.hidden, self.hidden)
        return clipped(self.ctx, self.ctx.add(gate, self.ctx.mul(weights, cell)), self.clip)


def clipped(ctx: LoweringContext, x: Tensor, clip: float | None) -> Tensor:
    """Within [-clip, clip], where there is such a bound."""
    return x if clip is None else ctx.clamp(x, -clip, clip)
