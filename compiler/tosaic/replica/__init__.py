"""Runs canisters here as the network would: metered by its price list, held to its limits.

    canister = Replica().install(wasm)
    response = canister.update("infer", candid.encode([array]))
    response.reply, response.messages                 # bytes, and each message with its instructions

For one module of kernels, without messages:

    instance = instantiate(Module(4, {"kernel": function}).encode(), prices)
    instance.write(address, array)
    usage = instance.call("kernel", address, ...)     # .instructions, .pages_read, .pages_written
    result = instance.array(address, np.float32, shape)
"""

from tosaic.principals import ANONYMOUS, principal_text
from tosaic.replica.instance import Instance, LimitExceeded, Trapped, Usage, instantiate
from tosaic.replica.message import Message, Reject, Response, Ticket
from tosaic.replica.replica import InstalledCanister, Replica

__all__ = [
    "ANONYMOUS",
    "InstalledCanister",
    "Instance",
    "LimitExceeded",
    "Message",
    "Reject",
    "Replica",
    "Response",
    "Ticket",
    "Trapped",
    "Usage",
    "instantiate",
    "principal_text",
]
