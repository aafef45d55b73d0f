"""Branches and loops that depend on data.

What is known at compile time never comes here: the frontend leaves the branch taken and unrolls loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext, Region
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, INT8, INT32
from tosaic_passes.onnx_to_tosa.regions import cond_if, while_loop
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import ResultType, Tensor

_INT32_MAX = 2**31 - 1


@lowering("If")
def if_(ctx: LoweringContext, condition: Tensor) -> tuple[Tensor | None, ...]:
    """`tosa.cond_if`; results of both branches have the same shape."""
    then, otherwise = ctx.regions
    if condition.array is not None:
        return tuple((then if condition.array.reshape(()) else otherwise).lower([]))
    results = ctx.results
    held = [index for index, result in enumerate(results) if result is not None and 0 not in result.shape]

    def branch(region: Region) -> Callable[[list[Tensor]], list[Tensor]]:
        return lambda _: [_present(value) for i, value in enumerate(region.lower([])) if i in held]

    types = [result for result in results if result is not None and 0 not in result.shape]
    values = cond_if(ctx, ctx.reshape(condition, ()), branch(then), branch(otherwise), types)
    by_index = dict(zip(held, values))
    return tuple(by_index.get(index, _nothing(result)) for index, result in enumerate(results))


@lowering("Loop")
def loop(
    ctx: LoweringContext, trip_count: Tensor | None = None, condition: Tensor | None = None, *states: Tensor
) -> tuple[Tensor | None, ...]:
    """`tosa.while_loop`; scan outputs, of loops with a constant trip count, by `tosa.scatter` into a buffer."""
    (body,) = ctx.regions
    limit = None if trip_count is None else _clipped(ctx, trip_count)
    known = body.constant_results[0]
    goes_on = known is not None and bool(known.reshape(()))
    if limit is None and goes_on:
        ctx.fail("it has no trip count and its condition stays true")
    starts = condition is None or (condition.array is not None and bool(condition.array.reshape(())))
    going = None if starts and goes_on else _scalar(ctx, condition)
    buffers = [_Buffer.of(ctx, result) for result in ctx.results[len(states) :]]

    def is_going(values: _Carried) -> Tensor:
        checks = [values.going] if values.going is not None else []
        checks += [ctx.greater(limit, values.index)] if limit is not None else []
        return checks[0] if len(checks) == 1 else ctx.logical_and(*checks)

    def step(values: _Carried) -> _Carried:
        true = ctx.constant(np.array(True))
        next_going, *outputs = map(_present, body.lower([values.index, true, *values.states]))
        scanned = [
            buffer.write(ctx, rows, values.index, output)
            for buffer, rows, output in zip(buffers, values.rows, outputs[len(states) :])
        ]
        going = None if values.going is None else _scalar(ctx, next_going)
        return _Carried(ctx.add(values.index, 1), going, outputs[: len(states)], scanned)

    start = _Carried(_zero(ctx), going, list(states), [buffer.start for buffer in buffers])
    end = _while(ctx, start, is_going, step)
    return (*end.states, *(buffer.read(ctx, rows) for buffer, rows in zip(buffers, end.rows)))


@lowering("Scan", since=9)
def scan(
    ctx: LoweringContext,
    *operands: Tensor,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> tuple[Tensor | None, ...]:
    """`tosa.while_loop` that reads by `tosa.gather` and writes by `tosa.scatter`."""
    (body,) = ctx.regions
    states, sequences = operands[:-num_scan_inputs], operands[-num_scan_inputs:]
    axes = scan_input_axes or [0] * num_scan_inputs
    backwards = scan_input_directions or [0] * num_scan_inputs
    tapes = [_Tape.of(ctx, x, ctx.axis(axis, x.rank)) for x, axis in zip(sequences, axes)]
    length = sequences[0].shape[ctx.axis(axes[0], sequences[0].rank)]
    scanned_types = ctx.results[len(states) :]
    out_axes = scan_output_axes or [0] * len(scanned_types)
    out_backwards = scan_output_directions or [0] * len(scanned_types)
    buffers = [_Buffer.of(ctx, result, axis) for result, axis in zip(scanned_types, out_axes)]

    def place(index: Tensor, reverse: int) -> Tensor:
        return ctx.sub(length - 1, index) if reverse else index

    def step(values: _Carried) -> _Carried:
        elements = [tape.read(ctx, place(values.index, reverse)) for tape, reverse in zip(tapes, backwards)]
        outputs = [_present(value) for value in body.lower([*values.states, *elements])]
        scanned = [
            buffer.write(ctx, rows, place(values.index, reverse), output)
            for buffer, rows, output, reverse in zip(
                buffers, values.rows, outputs[len(states) :], out_backwards
            )
        ]
        return _Carried(ctx.add(values.index, 1), None, outputs[: len(states)], scanned)

    start = _Carried(_zero(ctx), None, list(states), [buffer.start for buffer in buffers])
    end = _while(ctx, start, lambda values: ctx.greater(length, values.index), step)
    return (*end.states, *(buffer.read(ctx, rows) for buffer, rows in zip(buffers, end.rows)))


@dataclass(frozen=True)
class _Carried:
    """What a loop hands from one iteration to the next; `going` is None where only the index ends it."""

    index: Tensor
    going: Tensor | None
    states: list[Tensor]
    rows: list[Tensor | None]


def _while(
    ctx: LoweringContext,
    start: _Carried,
    condition: Callable[[_Carried], Tensor],
    step: Callable[[_Carried], _Carried],
) -> _Carried:
    """`tosa.while_loop` over the values that have elements; those without stay as they are."""

    def flat(carried: _Carried) -> list[Tensor]:
        every = [carried.index, carried.going, *carried.states, *carried.rows]
        return [value for value in every if value is not None and value.size]

    def carried(values: Sequence[Tensor]) -> _Carried:
        rest = iter(values)
        every = [start.index, start.going, *start.states, *start.rows]
        index, going, *others = [next(rest) if value is not None and value.size else value for value in every]
        assert index is not None
        count = len(start.states)
        return _Carried(index, going, [_present(value) for value in others[:count]], others[count:])

    values = while_loop(
        ctx,
        flat(start),
        lambda arguments: condition(carried(arguments)),
        lambda arguments: flat(step(carried(arguments))),
    )
    return carried(values)


@dataclass(frozen=True)
class _Buffer:
    """Where the slices of a scan output are collected: rows [1, length, elements of a slice], bool as i8.

    A result that nobody asks for has no rows.
    """

    result: ResultType | None
    axis: int
    start: Tensor | None

    @staticmethod
    def of(ctx: LoweringContext, result: ResultType | None, axis: int = 0) -> _Buffer:
        if result is None:
            return _Buffer(None, 0, None)
        axis = ctx.axis(axis, result.rank)
        length = result.shape[axis]
        inner = math.prod(result.shape) // max(length, 1)
        dtype = INT8 if result.dtype == BOOL else result.dtype
        zero = ctx.constant(np.zeros((1, 1, 1), dtype))
        return _Buffer(result, axis, ctx.broadcast_to(zero, (1, length, inner)))

    def write(self, ctx: LoweringContext, rows: Tensor | None, index: Tensor, piece: Tensor) -> Tensor | None:
        if rows is None or not rows.size:
            return rows
        row = ctx.reshape(ctx.cast(piece, rows.dtype), (1, 1, rows.shape[2]))
        return ctx.emit("scatter", [rows, ctx.reshape(index, (1, 1)), row], rows.shape, rows.dtype)

    def read(self, ctx: LoweringContext, rows: Tensor | None) -> Tensor | None:
        if rows is None or self.result is None:
            return None
        if not rows.size:
            return _nothing(self.result)
        shape = list(self.result.shape)
        length = shape.pop(self.axis)
        order = list(range(1, len(shape) + 1))
        order.insert(self.axis, 0)
        stacked = ctx.transpose(ctx.reshape(rows, (length, *shape)), order)
        return ctx.cast(stacked, self.result.dtype)


@dataclass(frozen=True)
class _Tape:
    """A sequence as rows [1, length, elements of a slice], and the shape of a slice."""

    rows: Tensor
    shape: tuple[int, ...]

    @staticmethod
    def of(ctx: LoweringContext, x: Tensor, axis: int) -> _Tape:
        first = [axis, *(i for i in range(x.rank) if i != axis)]
        shape = tuple(size for i, size in enumerate(x.shape) if i != axis)
        rows = ctx.reshape(ctx.transpose(x, first), (1, x.shape[axis], math.prod(shape)))
        return _Tape(rows, shape)

    def read(self, ctx: LoweringContext, index: Tensor) -> Tensor:
        return ctx.reshape(ctx.gather(self.rows, ctx.reshape(index, (1, 1))), self.shape)


def _clipped(ctx: LoweringContext, trip_count: Tensor) -> Tensor:
    """The trip count as an i32 scalar; what exporters write for "no limit" becomes the greatest one."""
    if trip_count.array is not None:
        return ctx.constant(np.minimum(trip_count.array.reshape(()), _INT32_MAX).astype(np.int32))
    return _scalar(ctx, trip_count)


def _scalar(ctx: LoweringContext, value: Tensor | None) -> Tensor:
    return ctx.constant(np.array(True)) if value is None else ctx.reshape(value, ())


def _zero(ctx: LoweringContext) -> Tensor:
    return ctx.constant(np.array(0, INT32))


def _present(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("a region gives an absent value")
    return value


def _nothing(result: ResultType | None) -> Tensor | None:
    return None if result is None else Tensor.constant(np.zeros(result.shape, result.onnx_dtype))
