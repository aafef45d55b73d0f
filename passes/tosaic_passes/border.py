"""What callers see of `@main`'s arguments and results, where the TOSA types do not say it.

Every argument and result has its ONNX name and dtype as attributes, and its ONNX shape where that is another than
the type's: TOSA holds a tensor above rank 6 flat. A result without elements is none of the function, since TOSA has
no such tensors; it is listed on the function, by its place among the results that callers see:

    func.func @main(%x: tensor<9xi32> {ic.dtype = "int64", ic.name = "x", ic.shape = array<i64: 1, 1, 3, 1, 3, 1, 1>})
        attributes {ic.empty_results = [{ic.dtype = "int64", ic.name = "y", place = 0 : i64, type = tensor<0x4xi32>}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from tosaic_passes.functions import int_attribute

NAME, DTYPE, SHAPE = "ic.name", "ic.dtype", "ic.shape"
EMPTY_RESULTS = "ic.empty_results"
_PLACE, _TYPE = "place", "type"


@dataclass(frozen=True)
class EmptyResult:
    """A result without elements: its place, the type that TOSA would give it, and what callers see of it."""

    place: int
    type: ir.RankedTensorType
    seen: Mapping[str, ir.Attribute]


def entries(dictionary: ir.DictAttr) -> dict[str, ir.Attribute]:
    """A dictionary attribute as a Python one."""
    return {entry.name: entry.attr for entry in dictionary}


def seen_shape(seen: Mapping[str, ir.Attribute], held: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which callers see a tensor with these attributes, which TOSA holds in this shape."""
    return tuple(ir.DenseI64ArrayAttr(seen[SHAPE])) if SHAPE in seen else held


def list_empty_results(function: ir.Operation, results: Sequence[EmptyResult]) -> None:
    """Note the results of a function that TOSA has no type for."""
    if results:
        listed = [
            {**result.seen, _PLACE: int_attribute(result.place), _TYPE: ir.TypeAttr.get(result.type)}
            for result in results
        ]
        function.attributes[EMPTY_RESULTS] = ir.ArrayAttr.get([ir.DictAttr.get(entry) for entry in listed])


def empty_results(function: ir.Operation) -> Iterator[EmptyResult]:
    """The results of a function that TOSA has no type for, in order."""
    attributes = function.attributes
    for dictionary in ir.ArrayAttr(attributes[EMPTY_RESULTS]) if EMPTY_RESULTS in attributes else ():
        seen = entries(ir.DictAttr(dictionary))
        place, type = ir.IntegerAttr(seen.pop(_PLACE)), ir.TypeAttr(seen.pop(_TYPE))
        yield EmptyResult(place.value, ir.RankedTensorType(type.value), seen)
