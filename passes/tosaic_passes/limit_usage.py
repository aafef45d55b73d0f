"""How much of the network's limits a canister uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tosaic_passes.errors import TosaicError


@dataclass(frozen=True)
class LimitUsage:
    """How much of a limit of the network is used. `remedy` says what helps where it is more than allowed."""

    what: str
    used: int
    limit: int
    remedy: str

    def __str__(self) -> str:
        excess = self.used - self.limit
        return f"{self.what}: {self.used:,} where {self.limit:,} are allowed, {excess:,} too many ({self.remedy})"


def refuse_excesses(usage: Iterable[LimitUsage], what: str) -> None:
    """Raise TosaicError naming every limit that is broken."""
    broken = [str(entry) for entry in usage if entry.used > entry.limit]
    if broken:
        raise TosaicError(f"the network would refuse this {what}: " + "; ".join(broken))
