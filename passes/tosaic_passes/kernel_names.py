"""What a kernel is called in messages for users."""

from __future__ import annotations

from torch_mlir import ir

from tosaic_passes.cost_model import KernelCost


def describe(kernel: KernelCost) -> str:
    """The op of a kernel that takes most, with the name of its node."""
    if not kernel.ops:
        return "copying arguments into the results"
    dearest = kernel.ops[max(range(len(kernel.ops)), key=lambda i: kernel.shares[i])]
    location = dearest.location
    name = f" '{location.name_str}'" if isinstance(location, ir.NameLoc) else ""
    return f"{dearest.name}{name}"
