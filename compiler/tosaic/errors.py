"""The errors of the compiler. Those of the passes are the same family (one base class, one exit code)."""

from tosaic_passes.errors import (
    LimitTooSmallError,
    TosaicError,
    UnsupportedNode,
    UnsupportedNodesError,
    UsageError,
)

__all__ = ["LimitTooSmallError", "TosaicError", "UnsupportedNode", "UnsupportedNodesError", "UsageError"]
