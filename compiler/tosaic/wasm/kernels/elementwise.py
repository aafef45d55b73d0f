"""Elementwise arithmetic, copies between views of every kind, and filling with a constant."""

from __future__ import annotations

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.kernel import Expression, Kernel, KernelOptions, KernelRequest
from tosaic.wasm.kernels.vector_nest import Work, build_kernel


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """The epilogue, or a copy of the only input, for every element of the output."""
    inputs, output = [operand.view for operand in request.inputs], request.outputs[0]
    expression = request.epilogue or _copy(inputs[0].element, output.element)
    return build_kernel(request, [Work(expression, inputs, output)], prices, options)


def _copy(source: str, target: str) -> Expression:
    if source != target:
        raise TosaicError(f"a copy from {source} to {target} changes the element type", "use a cast")
    return Expression((("input", (0,), ()),), (source,))
