"""The passes: MLIR in, MLIR out.

Nothing heavy is imported here: a pass is named by its module and imported when a pipeline asks for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tosaic_passes.errors import TosaicError, UnsupportedNode, UnsupportedNodesError

if TYPE_CHECKING:
    from tosaic_passes.pipeline import Pass

__all__ = ["PASSES", "PRESETS", "TosaicError", "UnsupportedNode", "UnsupportedNodesError", "pass_class"]

PASSES = (
    "convert-branches-to-selects",
    "convert-fft-to-matmul",
    "convert-foreign-to-tosa",
    "convert-onnx-to-tosa",
    "convert-uint8-to-int8",
    "count-instructions",
    "fold-batch-norms",
    "fold-transposes",
    "fuse-quantization",
    "isolate-regions",
    "outline-weights",
    "split-execution",
    "tile-chains",
    "tile-operators",
    "verify-canister-limits",
)
"""The names of our passes. `fold-transposes` is `FoldTransposesPass` in `tosaic_passes.fold_transposes`."""

PRESETS: dict[str, tuple[str, ...]] = {
    "adopt-tosa": (
        "inline",  # a program is one function
        "convert-foreign-to-tosa",
    ),
    "infer-shapes": (
        "canonicalize",  # folds shapes that are computed from those already known
        "func.func(tosa-infer-shapes)",  # from the inputs on, as far as shapes are constants
        "convert-foreign-to-tosa",  # drops the casts back to open shapes
    ),
    "narrow-f64": ("func.func(tosa-narrow-f64-to-f32{aggressive-rewrite=1 convert-function-boundaries=1})",),
    "lower-onnx-to-tosa": (
        "fuse-quantization",  # before the float ops between quantised tensors are lowered as such
        "convert-uint8-to-int8",  # what is fused between quantised operators can change its sign
        "convert-onnx-to-tosa",
        "clean-tosa",
    ),
    "clean-tosa": (
        "canonicalize",  # folds what the lowering left constant, drops what nobody reads
        "cse",  # equal transposes and constants become one, so that the next pass sees the sharing
        "fold-transposes",
        "fold-batch-norms",  # the layouts are settled: scales and offsets stand right behind their convolution
        "canonicalize",
        "cse",
        "isolate-regions",  # branches and loops, where the folds before have put constants of theirs outside
        "tosa-validate{strict-op-spec-alignment=true}",  # against the target that the module names
    ),
}
"""Pipeline name -> its elements in order. A preset is written in a pipeline like a pass."""


def pass_class(name: str) -> type[Pass]:
    """The class of one of our passes, imported now."""
    module = importlib.import_module(f"tosaic_passes.{name.replace('-', '_')}")
    return getattr(module, name.title().replace("-", "") + "Pass")
