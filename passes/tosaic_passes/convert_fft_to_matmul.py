"""`convert-fft-to-matmul`: Fourier transforms in two dimensions become products with constant matrices.

Input: TOSA. Output: the same without `tosa.fft2d` and `tosa.rfft2d`: each is a transform of the rows, then one of
the columns, and a long one falls apart into short ones (`onnx_to_tosa/fourier.py`), so that the number of
operations grows like that of a fast transform. As in TOSA, neither direction is scaled.

    %re, %im = tosa.rfft2d %0 : (tensor<1x4x8xf32>) -> (tensor<1x4x5xf32>, tensor<1x4x5xf32>)

becomes

    %1 = tosa.reshape %0 ... -> tensor<1x4x8xf32>         each row a vector of real numbers
    %2 = tosa.matmul %1, ... -> tensor<1x4x10xf32>        five cosines, five sines
    %3 = tosa.transpose ...                               each column a vector of complex numbers
    %4 = tosa.matmul %3, ... -> tensor<1x5x8xf32>
    ...                                                   sliced into %re and %im
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.functions import nested_operations
from tosaic_passes.onnx_to_tosa import fourier
from tosaic_passes.onnx_to_tosa.builder import TosaBuilder
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

_TRANSFORMS = frozenset({"tosa.fft2d", "tosa.rfft2d"})


@dataclass(frozen=True)
class ConvertFftToMatmulPass:
    """Replace every `tosa.fft2d` and `tosa.rfft2d` by products with constant matrices."""

    name: ClassVar[str] = "convert-fft-to-matmul"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            found = [op for op in nested_operations([program.module.operation]) if op.name in _TRANSFORMS]
            for operation in found:
                _convert(operation, program.weights)


def _convert(operation: ir.Operation, weights: WeightTable) -> None:
    inverse = "inverse" in operation.attributes and ir.BoolAttr(operation.attributes["inverse"]).value
    with ir.InsertionPoint(operation), operation.location:
        builder = TosaBuilder(weights)
        parts = [_tensor(value) for value in operation.operands]
        frequencies = _tensor(operation.results[0]).shape[2]
        spectrum = _transform(builder, parts, frequencies, 1 if inverse else -1)
        for result, part in zip(operation.results, spectrum, strict=True):
            result.replace_all_uses_with(builder.value(part))
    operation.erase()


def _tensor(value: ir.Value) -> Tensor:
    return Tensor(tuple(ir.RankedTensorType(value.type).shape), FLOAT32, value=value)


def _transform(builder: TosaBuilder, parts: list[Tensor], frequencies: int, sign: int) -> list[Tensor]:
    """The planes (real and imaginary, or real alone) [N, H, W] -> [N, H, frequencies], twice."""
    batch, height, width = parts[0].shape
    lines = [builder.reshape(part, (batch * height, 1, width)) for part in parts]
    by_row = fourier.transform(builder, builder.concat(lines, 1), frequencies, sign)
    turned = builder.transpose(builder.reshape(by_row, (batch, height, 2, frequencies)), [0, 3, 2, 1])
    columns = builder.reshape(turned, (batch * frequencies, 2, height))
    by_column = fourier.transform(builder, columns, height, sign)
    planes = builder.transpose(builder.reshape(by_column, (batch, frequencies, 2, height)), [2, 0, 3, 1])
    shape = (batch, height, frequencies)
    return [builder.reshape(builder.slice_axis(planes, 0, part, 1), shape) for part in range(2)]
