"""The TOSA target of a module: level 8k, both profiles, and the extensions that it needs."""

from __future__ import annotations

from collections.abc import Iterable

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
_EXTENSIONS_1_0 = frozenset(
    "bf16 controlflow doubleround fft fp8e4m3 fp8e5m2 inexactround int4 int16 variable".split()
)
_ASSUMED = {"1.0": _EXTENSIONS_1_0, "1.1.draft": _EXTENSIONS_1_0 | {"int64"}}


def attach_target(module: ir.Module) -> None:
    """Sets `tosa.target_env` on the module (an older one is replaced): spec 1.0 and the extensions in use."""
    _attach(module, "1.0", _ALWAYS | _extensions(module))


def assume_target(module: ir.Module) -> None:
    """Sets the target of a module from elsewhere that names none, as torch-mlir and Arm's converters leave it.

    It is spec 1.0 with every extension that the backend knows or, if the module is not valid there, 1.1.draft.
    """
    if "tosa.target_env" in module.operation.attributes:
        return
    for version, extensions in _ASSUMED.items():
        _attach(module, version, extensions)
        if _is_valid(module):
            return


def _attach(module: ir.Module, version: str, extensions: Iterable[str]) -> None:
    attributes = module.operation.attributes
    if "tosa.target_env" in attributes:
        del attributes["tosa.target_env"]
    listed = ",".join(sorted(extensions))
    options = f"specification_version={version} level=8k profiles=pro_int,pro_fp extensions={listed}"
    PassManager.parse(f"builtin.module(tosa-attach-target{{{options}}})", module.context).run(
        module.operation
    )


def _is_valid(module: ir.Module) -> bool:
    validation = PassManager.parse(
        "builtin.module(tosa-validate{strict-op-spec-alignment=true})", module.context
    )
    try:
        validation.run(module.operation)
    except ir.MLIRError:
        return False
    return True


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
