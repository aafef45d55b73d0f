"""TOSA's branches and loops, whose insides are regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch_mlir import ir

from tosaic_passes.onnx_to_tosa.builder import TosaBuilder
from tosaic_passes.onnx_to_tosa.dtypes import storage_type
from tosaic_passes.onnx_to_tosa.emitter import RegionBody
from tosaic_passes.onnx_to_tosa.tensor import ResultType, Tensor


def cond_if(
    builder: TosaBuilder,
    condition: Tensor,
    then: RegionBody,
    otherwise: RegionBody,
    results: Sequence[ResultType],
) -> list[Tensor]:
    """`tosa.cond_if` on a bool scalar; the branches take no arguments and may read what is around.

    Results without elements are known, and none of the operation's.
    """
    if any(0 in result.shape for result in results):
        held = [place for place, result in enumerate(results) if 0 not in result.shape]
        chosen = iter(
            cond_if(builder, condition, _only(then, held), _only(otherwise, held), [results[i] for i in held])
        )
        return [
            Tensor.constant(np.zeros(x.shape, x.dtype)) if 0 in x.shape else next(chosen) for x in results
        ]
    types = [storage_type(result.shape, result.dtype) for result in results]
    operation = ir.Operation.create(
        "tosa.cond_if", results=types, operands=[builder.value(condition)], regions=2
    )
    for region, branch in zip(operation.regions, (then, otherwise)):
        builder.fill_region(region, [], branch)
    return [Tensor(x.shape, x.dtype, value=v) for x, v in zip(results, operation.results)]


def _only(body: RegionBody, places: Sequence[int]) -> RegionBody:
    """The body with some of its results."""

    def chosen(arguments: list[Tensor]) -> list[Tensor]:
        results = body(arguments)
        return [results[place] for place in places]

    return chosen


def while_loop(
    builder: TosaBuilder,
    states: Sequence[Tensor],
    condition: Callable[[list[Tensor]], Tensor],
    body: RegionBody,
) -> list[Tensor]:
    """`tosa.while_loop`: `body` gives the next states, `condition` whether it runs on them.

    States without elements never change, and are none of the operation's.
    """
    held = [place for place, state in enumerate(states) if state.size]
    if len(held) < len(states):

        def completed(few: Sequence[Tensor]) -> list[Tensor]:
            following = iter(few)
            return [next(following) if state.size else state for state in states]

        found = while_loop(
            builder,
            [states[place] for place in held],
            lambda arguments: condition(completed(arguments)),
            _only(lambda arguments: body(completed(arguments)), held),
        )
        return completed(found)
    values = [builder.value(state) for state in states]
    operation = ir.Operation.create(
        "tosa.while_loop", results=[value.type for value in values], operands=values, regions=2
    )
    builder.fill_region(operation.regions[0], states, lambda arguments: [condition(arguments)])
    builder.fill_region(operation.regions[1], states, body)
    return [Tensor(x.shape, x.dtype, value=v) for x, v in zip(states, operation.results)]
