"""What the passes raise when a model cannot be held.

Every error is made again from its `args`, so it travels between processes as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TosaicError(Exception):
    """The model, the input or a check is refused: the tools print the message and exit with 1.

    `message` is one clear sentence, `remedy` says what a user can do (it may be empty); the text is both.
    """

    message: str
    remedy: str

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message, self.remedy = message, remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(TosaicError):
    """What was asked for makes no sense, whatever the model is: the tools exit with 2."""


class LimitTooSmallError(TosaicError):
    """A piece of the program fits no message: `what` needs at least `needed` instructions, more than the `limit`."""

    def __init__(self, what: str, needed: int, limit: int, remedy: str = "") -> None:
        super().__init__(
            f"{what} needs {needed:,} instructions in one message, the limit is {limit:,}",
            remedy or f"a limit below {needed} cannot work",
        )
        self.what, self.needed, self.limit = what, needed, limit
        self.args = (what, needed, limit, remedy)


@dataclass(frozen=True)
class UnsupportedNode:
    """One node that cannot be lowered, with its reason and the remedy (may be empty).

    `location` is MLIR's text of where the node stands (`loc("model.mlir":3:8)`), empty where nobody knows.
    """

    node: str
    op: str
    reason: str
    remedy: str = ""
    location: str = ""

    def __str__(self) -> str:
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.op} node '{self.node}': {self.reason}{remedy}"


class UnsupportedNodesError(TosaicError):
    """Every node of a model that cannot be lowered, all of them at once."""

    def __init__(self, nodes: Sequence[UnsupportedNode]) -> None:
        lines = "\n".join(f"  {node}" for node in nodes)
        plural = "node" if len(nodes) == 1 else "nodes"
        super().__init__(f"{len(nodes)} {plural} cannot be lowered to TOSA:\n{lines}")
        self.nodes = list(nodes)
        self.args = (self.nodes,)
