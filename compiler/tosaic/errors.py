"""The errors of the compiler. Those of the passes are the same family (one base class, one exit code)."""

from tosaic_passes.errors import TosaicError, UnsupportedNode, UnsupportedNodesError

__all__ = ["TosaicError", "UnsupportedNode", "UnsupportedNodesError"]
