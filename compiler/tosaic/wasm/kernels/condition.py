"""The condition of a branch or a loop: a bool from memory onto the operand stack."""

from __future__ import annotations

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest, whole_accesses


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """A function that returns the one i1 it is given the address of, as an i32."""
    function = Function("condition", prices, ("i32",), ("i32",))
    function.get(0)
    function.memory("i32.load8_u")
    return Kernel(function, whole_accesses(request))
