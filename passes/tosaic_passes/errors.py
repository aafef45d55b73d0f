"""What the passes raise when a model cannot be held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_mlir import ir


class TosaicError(Exception):
    """The model, the input or a check is refused: the tools print the message and exit with 1.

    The text is one clear sentence that a user can act on; `remedy` says how.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}; {remedy}")


class LimitTooSmallError(TosaicError):
    """A piece of the program fits no message: `what` needs at least `needed` instructions, more than the `limit`."""

    def __init__(self, what: str, needed: int, limit: int, remedy: str = "") -> None:
        self.what, self.needed, self.limit = what, needed, limit
        super().__init__(
            f"{what} needs {needed:,} instructions in one message, the limit is {limit:,}",
            remedy or f"a limit below {needed} cannot work",
        )


@dataclass(frozen=True)
class UnsupportedNode:
    """One node that cannot be lowered, with its reason and the remedy (may be empty).

    `location` lets the tools name the line of the source.
    """

    node: str
    op: str
    reason: str
    remedy: str = ""
    location: ir.Location | None = None

    def __str__(self) -> str:
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.op} node '{self.node}': {self.reason}{remedy}"


class UnsupportedNodesError(TosaicError):
    """Every node of a model that cannot be lowered, all of them at once."""

    def __init__(self, nodes: list[UnsupportedNode]) -> None:
        self.nodes = nodes
        lines = "\n".join(f"  {node}" for node in nodes)
        plural = "node" if len(nodes) == 1 else "nodes"
        super().__init__(f"{len(nodes)} {plural} cannot be lowered to TOSA:\n{lines}")
