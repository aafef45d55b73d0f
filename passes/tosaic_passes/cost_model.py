"""What the counting passes ask of a backend. The compiler implements it; passes import nothing from there.

A program is a list of kernels in the order of execution. A message runs a stretch of them and pays

    overhead + sum of the kernels' instructions + page_access * |pages touched| + page_write * |pages written|

where the pages are the union over everything that runs in the message: each page is charged once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch_mlir import ir

    from tosaic_passes.limit_usage import LimitUsage
    from tosaic_passes.program import Program


@dataclass(frozen=True)
class Charge:
    """Instructions without page touches, and the pages touched: bit n stands for the n-th 64 KiB of memory.

    `reads` and `writes` are what is read and what is written; the pages touched are their union.
    """

    instructions: int = 0
    reads: int = 0
    writes: int = 0

    def __add__(self, other: Charge) -> Charge:
        return Charge(
            self.instructions + other.instructions, self.reads | other.reads, self.writes | other.writes
        )


@dataclass(frozen=True)
class Trips:
    """How often a loop runs at most; `exact` where it always runs so often."""

    most: int
    exact: bool


@dataclass(frozen=True)
class KernelCost:
    """Ops that are emitted together and never split.

    `ops` are in program order and `shares` gives the instructions of each of them; they add up to
    `charge.instructions`. `exact` is False where control flow depends on data: the charge is an upper bound. `trips`
    are those of a loop, which is a kernel by itself.
    """

    ops: tuple[ir.Operation, ...]
    shares: tuple[int, ...]
    charge: Charge
    exact: bool = True
    trips: Trips | None = None


class CostModel(Protocol):
    """The prices of pages, the kernels of a program, and what a message pays besides its kernels."""

    page_access: int
    page_write: int

    def kernels(self, program: Program) -> list[KernelCost]:
        """The kernels of `@main` in the order of execution. Every op but constants and the terminator is in one.

        Also sets the integer attribute `ic.kernel` on those ops: ops with the same number are one kernel.
        When `@main` calls `@segment_0`, `@segment_1`, ..., their kernels follow each other.
        """
        ...

    def overhead(self, program: Program, index: int, last: bool) -> Charge:
        """What the message that runs the segment `index` pays besides kernels: entry, arguments, calls, reply.

        `last` says whether the segment is the program's last one. From the second segment on it only matters whether
        the index is odd. The program is not yet cut when this is asked.
        """
        ...

    def closing(self, program: Program, segments: int) -> Charge | None:
        """What a further message pays that only replies, after so many segments; None where there is none.

        There is one after every even number of segments or after none of them, and it always pays the same.
        """
        ...

    def transfers(self, program: Program) -> list[tuple[str, Charge]]:
        """The messages that bring parts of the inputs, each with its method: the same however the program is cut."""
        ...

    def limit_usage(self, program: Program, limit_instructions: int) -> list[LimitUsage]:
        """What the program's canister uses of the network's limits, and its messages of theirs."""
        ...


def message_instructions(model: CostModel, charge: Charge) -> int:
    """The instructions of a message, page touches included."""
    touched = (charge.reads | charge.writes).bit_count()
    return charge.instructions + model.page_access * touched + model.page_write * charge.writes.bit_count()
