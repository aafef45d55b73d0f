"""Kernels for TOSA ops: a table from the op to its builder, imported on first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest
from tosaic.wasm.kernels.reduced_scales import with_reduced_scales
from tosaic.wasm.kernels.shifts import with_factors
from tosaic.wasm.simplify import simplified

Builder = Callable[[KernelRequest, PriceList, KernelOptions], Kernel]

_MODULES = {
    "condition": ("condition",),
    "convolution": ("conv2d", "conv3d"),
    "depthwise": ("depthwise_conv2d",),
    "elementwise": ("elementwise",),
    "indexing": ("gather", "row_gather", "scatter"),
    "matmul": ("matmul", "matmul_t"),
    "pooling": ("avg_pool2d", "max_pool2d"),
    "reduction": (
        *(f"reduce_{fold}" for fold in ("sum", "product", "max", "min", "any", "all")),
        "argmax",
    ),
    "resize": ("resize",),
    "transposed": ("transpose_conv2d",),
}
"""Module of this package -> the ops that its `build` takes."""

_MODULE_OF = {op: module for module, ops in _MODULES.items() for op in ops}


def build(request: KernelRequest, prices: PriceList, options: KernelOptions | None = None) -> Kernel:
    """The kernel for a request.

    Raises `TosaicError` when there is none for the op or its element types.
    """
    if (module := _MODULE_OF.get(request.op)) is None:
        raise TosaicError(f"tosa.{request.op} has no kernel")
    builder: Builder = import_module(f"{__name__}.{module}").build
    if request.epilogue is not None:
        request = replace(request, epilogue=simplified(request.epilogue))
    if request.prologue is not None:
        request = replace(request, prologue=simplified(request.prologue))
    request, scales = with_reduced_scales(request)
    request, factors = with_factors(request)
    kernel = builder(request, prices, options or KernelOptions())
    return replace(kernel, constants={**kernel.constants, **scales, **factors})
