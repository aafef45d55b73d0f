"""The canister around a program: entry points, Candid border, chained messages, and what each message takes."""

from tosaic.canister.assemble import Canister, assemble
from tosaic.canister.costs import CanisterCosts
from tosaic.canister.overhead import closing_message, message_overhead
from tosaic.canister.planned_message import PlannedMessage

__all__ = ["Canister", "CanisterCosts", "PlannedMessage", "assemble", "closing_message", "message_overhead"]
