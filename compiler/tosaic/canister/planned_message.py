"""A message as it is predicted: what it takes, what it carries, what it is charged."""

from __future__ import annotations

from dataclasses import dataclass

from tosaic.prices import PriceList
from tosaic_passes.cost_model import Charge

STEP = "step"
"""The method by which a canister calls itself."""
REPLY_CALLBACK = "reply callback"


@dataclass(frozen=True)
class PlannedMessage:
    """A message: its name as the replica records it, what it takes, and for a bound `exact` False.

    `received_bytes` are those of the method's name and argument; of a callback those of the call that it answers, both
    ways, where the callee is another canister. `replied_bytes` are those of the reply's tensors.
    """

    name: str
    kind: str
    charge: Charge
    exact: bool
    received_bytes: int = 0
    replied_bytes: int = 0

    def instructions(self, prices: PriceList) -> int:
        """All of it, page touches included."""
        return self.charge.instructions + self.page_touch(prices)

    def page_touch(self, prices: PriceList) -> int:
        """What the touched pages cost; a query does not pay for writes."""
        accessed = (self.charge.reads | self.charge.writes).bit_count()
        written = 0 if self.kind == "query" else self.charge.writes.bit_count()
        return accessed * prices.page_access + written * prices.page_write

    def cycles(self, prices: PriceList) -> int:
        """What the network charges for the message: its instructions, its start, and how it got there."""
        if self.kind == "query":
            return 0
        fees = prices.cycles
        executed = fees["per_update_message"] + fees["per_instruction"] * self.instructions(prices)
        if self.kind != "update" and not self.received_bytes:
            return executed
        if self.name == STEP or self.kind != "update":
            return executed + fees["per_call"] + fees["per_call_byte"] * self.received_bytes
        return executed + fees["per_ingress_message"] + fees["per_ingress_byte"] * self.received_bytes
