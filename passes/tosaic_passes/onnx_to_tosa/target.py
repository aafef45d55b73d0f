"""The TOSA target that a module needs: spec 1.0, level 8k, both profiles, and the extensions in use."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.passmanager import PassManager

_EXTENSION_OF_DTYPE = {
    "bf16": "bf16",
    "f8E4M3FN": "fp8e4m3",
    "f8E5M2": "fp8e5m2",
    "i4": "int4",
    "i48": "int16",
}
_ALWAYS = {"int16"}
"""MLIR prints an empty list of extensions but cannot read it back, so one that costs nothing is always there."""
_EXTENSION_OF_OP = {
    "tosa.fft2d": "fft",
    "tosa.rfft2d": "fft",
    "tosa.cond_if": "controlflow",
    "tosa.while_loop": "controlflow",
}


def attach_target(module: ir.Module) -> None:
    """Sets `tosa.target_env` on the module (an older one is replaced)."""
    attributes = module.operation.attributes
    if "tosa.target_env" in attributes:
        del attributes["tosa.target_env"]
    extensions = ",".join(sorted(_ALWAYS | _extensions(module)))
    options = f"specification_version=1.0 level=8k profiles=pro_int,pro_fp extensions={extensions}"
    PassManager.parse(f"builtin.module(tosa-attach-target{{{options}}})", module.context).run(
        module.operation
    )


def _extensions(module: ir.Module) -> set[str]:
    found: set[str] = set()
    seen: set[ir.Type] = set()

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if extension := _EXTENSION_OF_OP.get(operation.name):
            found.add(extension)
        for value in (*operation.operands, *operation.results):
            if value.type not in seen:
                seen.add(value.type)
                found.update(_extension_of_type(value.type))
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


def _extension_of_type(type: ir.Type) -> set[str]:
    if not isinstance(type, ir.RankedTensorType):
        return set()
    extension = _EXTENSION_OF_DTYPE.get(str(type.element_type))
    return {extension} if extension else set()
