"""The canister around a program: entry points, Candid border, chained messages, and what each message takes."""

from tosaic.canister.assemble import Canister, assemble
from tosaic.canister.messages import PlannedMessage, message_overhead

__all__ = ["Canister", "PlannedMessage", "assemble", "message_overhead"]
