"""ONNX models to MLIR TOSA bytecode and to metered canisters of the Internet Computer.

artifact = tosaic.compile_model("model.onnx", "model.tosaic", batch_size=1)
result = tosaic.load(artifact).run({"input": array})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tosaic.artifact.folder import Artifact
    from tosaic.driver import Survey, compile_model, lower_to_tosa, survey
    from tosaic.errors import LimitTooSmallError, TosaicError, UnsupportedNode, UnsupportedNodesError
    from tosaic.model import Model, RunResult, load
    from tosaic.options import CompileOptions
    from tosaic.verification import verify

_HOMES = {
    "Artifact": "tosaic.artifact.folder",
    "CompileOptions": "tosaic.options",
    "LimitTooSmallError": "tosaic.errors",
    "Model": "tosaic.model",
    "RunResult": "tosaic.model",
    "Survey": "tosaic.driver",
    "TosaicError": "tosaic.errors",
    "UnsupportedNode": "tosaic.errors",
    "UnsupportedNodesError": "tosaic.errors",
    "compile_model": "tosaic.driver",
    "load": "tosaic.model",
    "lower_to_tosa": "tosaic.driver",
    "survey": "tosaic.driver",
    "verify": "tosaic.verification",
}
"""Public name -> module that has it, imported when the name is first used."""

__all__ = [
    "Artifact",
    "CompileOptions",
    "LimitTooSmallError",
    "Model",
    "RunResult",
    "Survey",
    "TosaicError",
    "UnsupportedNode",
    "UnsupportedNodesError",
    "compile_model",
    "load",
    "lower_to_tosa",
    "survey",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tosaic' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
