"""Random nodes of every operator: a table of strategies, one for each op, in modules by family."""

import importlib

from random_nodes.case import STRATEGIES, Case, cases

for _family in (
    "elementwise",
    "movement",
    "indexing",
    "reduction",
    "products",
    "windows",
    "quantized",
    "contrib",
    "classical",
):
    importlib.import_module(f"{__name__}.{_family}")

__all__ = ["STRATEGIES", "Case", "cases"]
