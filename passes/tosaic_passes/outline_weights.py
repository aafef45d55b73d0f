"""`outline-weights`: every large constant becomes a resource that is named by its content.

Input: TOSA, whole or in segments. Output: the same program. A constant above 64 bytes that is not one value repeated
is `dense_resource<sha256_...>` with the hash of its little-endian bytes, so that the same program gives the same
bytecode whatever it was compiled from. Equal contents of one type are one resource. Small ones stay in the text.

    %0 = "tosa.const"() <{values = dense_resource<conv1.weight_3> : tensor<64xf32>}> : () -> tensor<64xf32>

becomes

    %0 = "tosa.const"() <{values = dense_resource<sha256_9f86d0...> : tensor<64xf32>}> : () -> tensor<64xf32>
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from tosaic_passes.functions import functions, nested_operations
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable, resource_name, stays_inline

CONTENT_PREFIX = "sha256_"


@dataclass(frozen=True)
class OutlineWeightsPass:
    """Name every large constant by the hash of its content, and store each content once."""

    name: ClassVar[str] = "outline-weights"

    def run(self, program: Program) -> None:
        outlined: dict[tuple[str, ir.Type], ir.Attribute] = {}
        with program.context, ir.Location.unknown():
            for constant in _constants(program.module):
                attribute = _outline(constant.attributes["values"], program.weights, outlined)
                constant.attributes["values"] = attribute
        program.weights.retain({resource_name(attribute) or "" for attribute in outlined.values()})


def _constants(module: ir.Module) -> list[ir.Operation]:
    return [op for op in nested_operations(functions(module)) if op.name == "tosa.const"]


def _outline(
    attribute: ir.Attribute, weights: WeightTable, outlined: dict[tuple[str, ir.Type], ir.Attribute]
) -> ir.Attribute:
    array = weights.array(attribute)
    tensor = ir.RankedTensorType(attribute.type)
    if stays_inline(array):
        return weights.attribute(array, type=tensor.element_type)
    content = np.ascontiguousarray(array)
    name = CONTENT_PREFIX + hashlib.sha256(content.reshape(-1).view(np.uint8).data).hexdigest()
    key = (name, attribute.type)
    if key not in outlined:
        named_so = (resource_name(attribute) or "").startswith(name)
        outlined[key] = attribute if named_so else weights.resource(name, content, tensor)
    return outlined[key]
