"""How a lowering says that it cannot hold a node."""

from __future__ import annotations


class LoweringFailure(Exception):
    """One node cannot be lowered; the walk collects these and reports all nodes at once."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason)
