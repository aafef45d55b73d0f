"""Runs canisters here as the network would: metered by its price list, held to its limits.

For one module of kernels, without messages:

    instance = instantiate(Module(4, {"kernel": function}).encode(), prices)
    instance.write(address, array)
    usage = instance.call("kernel", address, ...)     # .instructions, .pages_read, .pages_written
    result = instance.array(address, np.float32, shape)
"""

from tosaic.replica.instance import Instance, LimitExceeded, Trapped, Usage, instantiate

__all__ = ["Instance", "LimitExceeded", "Trapped", "Usage", "instantiate"]
