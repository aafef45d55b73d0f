"""TOSA's branches and loops, whose insides are regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """`tosa.cond_if` on a bool scalar; the branches take no arguments and may read what is around."""
    types = [storage_type(result.shape, result.dtype) for result in results]
    operation = ir.Operation.create(
        "tosa.cond_if", results=types, operands=[builder.value(condition)], regions=2
    )
    for region, branch in zip(operation.regions, (then, otherwise)):
        builder.fill_region(region, [], branch)
    return [Tensor(x.shape, x.dtype, value=v) for x, v in zip(results, operation.results)]


def while_loop(
    builder: TosaBuilder,
    states: Sequence[Tensor],
    condition: Callable[[list[Tensor]], Tensor],
    body: RegionBody,
) -> list[Tensor]:
    """`tosa.while_loop`: `body` gives the next states, `condition` whether it runs on them."""
    values = [builder.value(state) for state in states]
    operation = ir.Operation.create(
        "tosa.while_loop", results=[value.type for value in values], operands=values, regions=2
    )
    builder.fill_region(operation.regions[0], states, lambda arguments: [condition(arguments)])
    builder.fill_region(operation.regions[1], states, body)
    return [Tensor(x.shape, x.dtype, value=v) for x, v in zip(states, operation.results)]
