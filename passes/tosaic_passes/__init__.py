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

PASSES: dict[str, str] = {}
"""Pass name -> module. The class is the name in CamelCase with `Pass` behind it."""

PRESETS: dict[str, tuple[str, ...]] = {}
"""Pipeline name -> its elements in order. A preset is written in a pipeline like a pass."""


def pass_class(name: str) -> type[Pass]:
    """The class of a pass, imported now. Raises KeyError for a name that is not ours."""
    module = importlib.import_module(PASSES[name])
    return getattr(module, "".join(word.capitalize() for word in name.split("-")) + "Pass")
