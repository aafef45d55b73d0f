"""`convert-onnx-to-tosa`: from ONNX ops on builtin tensors to TOSA.

Input: one `func.func @main` of `onnx.*` ops (docs/design.md, contract 1). Output: one `@main` of TOSA
ops, spec 1.0, level 8k (contract 2). Arguments and results keep their ONNX dtype as `ic.dtype`.

    func.func @main(%x: tensor<2xi64>) -> tensor<2xi64> {
      %y = "onnx.Neg"(%x) : (tensor<2xi64>) -> tensor<2xi64>
      return %y : tensor<2xi64>
    }

becomes

    func.func @main(%x: tensor<2xi32> {ic.dtype = "int64"}) -> (tensor<2xi32> {ic.dtype = "int64"}) {
      %zero = "tosa.const"() <{values = dense<0> : tensor<1xi32>}> : () -> tensor<1xi32>
      %y = tosa.negate %x, %zero, %zero : (tensor<2xi32>, tensor<1xi32>, tensor<1xi32>) -> tensor<2xi32>
      return %y : tensor<2xi32>
    }
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from tosaic_passes.errors import TosaicError, UnsupportedNode, UnsupportedNodesError
from tosaic_passes.isolate_regions import isolate_regions
from tosaic_passes.onnx_to_tosa.target import attach_target
from tosaic_passes.onnx_to_tosa.walk import FunctionLowering, node_name, op_type
from tosaic_passes.program import Program

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConvertOnnxToTosaPass:
    """Lowers `@main` in one walk; on failure the module is as it was and every unsupported node is named.

    `float64_as_float32` takes graph inputs of float64 that are computed with; else they are refused, because
    a value that the caller gives may be beyond float32.
    """

    name: ClassVar[str] = "convert-onnx-to-tosa"

    float64_as_float32: bool = False

    def run(self, program: Program) -> None:
        main = _main(program.module)
        if main is None:
            raise TosaicError("the module has no function @main", "give a module with one ONNX graph")
        with program.context, ir.Location.unknown():
            lowering = FunctionLowering(
                main, program.weights, _opset(program.module), float64_as_float32=self.float64_as_float32
            )
            lowered = lowering.run()
            if lowering.failures:
                lowered.operation.erase()
                raise UnsupportedNodesError(lowering.failures)
            _verify(lowered.operation, main)
            main.operation.erase()
            lowered.attributes["sym_name"] = ir.StringAttr.get("main")
            isolate_regions(lowered.operation)
            attach_target(program.module)
        if lowering.narrowed:
            kinds = ", ".join(sorted(lowering.narrowed))
            _log.warning("TOSA 1.0 computes in 32 bits: %s (docs/types.md)", kinds)


def _verify(lowered: ir.Operation, main: ir.Operation) -> None:
    """A last net under the lowerings: what is not valid is erased, and the nodes that it came from are named."""
    try:
        lowered.verify()
    except ir.MLIRError as error:
        lowered.erase()
        nodes = {str(op.operation.location): op.operation for op in main.regions[0].blocks[0].operations}
        raise UnsupportedNodesError([_invalid(info, nodes) for info in error.error_diagnostics]) from None


def _invalid(info: ir.DiagnosticInfo, nodes: Mapping[str, ir.Operation]) -> UnsupportedNode:
    node = nodes.get(str(info.location))
    name, op = (node_name(node), op_type(node)) if node is not None else ("main", "graph")
    reason = f"what it is lowered to is not valid: {info.message}"
    return UnsupportedNode(name, op, reason, "please report this as a bug of tosaic", str(info.location))


def _main(module: ir.Module) -> ir.Operation | None:
    for operation in module.body.operations:
        if operation.operation.name == "func.func" and operation.attributes["sym_name"].value == "main":
            return operation
    return None


def _opset(module: ir.Module) -> dict[str, int]:
    attributes = module.operation.attributes
    if "onnx.opset" not in attributes:
        raise TosaicError(
            "the module does not say which ONNX opset it uses",
            "add the module attribute onnx.opset = {ai.onnx = 21 : si64}",
        )
    named = {entry.name: entry.attr.value for entry in ir.DictAttr(attributes["onnx.opset"])}
    return {"" if domain == "ai.onnx" else domain: version for domain, version in named.items()}
