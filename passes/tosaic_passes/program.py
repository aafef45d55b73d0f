"""What flows between the stages: an MLIR module together with the arrays its constants stand for."""

from __future__ import annotations

from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects._ods_common import _cext

from tosaic_passes.weights import WeightTable

_cext.globals.append_dialect_search_prefix("tosaic_passes.dialects")


@dataclass
class Program:
    """A module and its weight table. Passes change both in place; one `ir.Context` a program."""

    module: ir.Module
    weights: WeightTable

    @property
    def context(self) -> ir.Context:
        return self.module.context

    def copy(self) -> Program:
        """The module once more, in the same context; the weights are shared."""
        with self.context, ir.Location.unknown():
            module = ir.Module.create()
            for attribute in self.module.operation.attributes:
                module.operation.attributes[attribute] = self.module.operation.attributes[attribute]
            for op in self.module.body.operations:
                op.operation.clone(ir.InsertionPoint(module.body))
        return Program(module, self.weights)
