"""matmul: [N, H, C] x [N, C, W], and matmul_t: [N, H, C] x [N, W, C].

A constant right-hand side is packed, a variable one read in place if it can be.
"""

from __future__ import annotations

from dataclasses import replace

from tosaic.prices import PriceList
from tosaic.wasm.kernel import Kernel, KernelOptions, KernelRequest, Operand
from tosaic.wasm.kernels.across import goes_across
from tosaic.wasm.kernels.assembly import Assembly
from tosaic.wasm.kernels.epilogue import Target
from tosaic.wasm.kernels.numbers import numbers_of
from tosaic.wasm.kernels.product import Product, left_view
from tosaic.wasm.kernels.staging import Border

ZERO_POINTS = ("a_zp", "b_zp")


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """Each sum runs over C ascending, starting at zero, but for columns that are summed across (`across.py`)."""
    assembly = Assembly(request, prices, options)
    view = assembly.view(0)
    right_taps, right_columns = (1, 2) if request.op == "matmul" else (2, 1)
    numbers = numbers_of(request, ZERO_POINTS)
    borders = [Border(size, stride) for size, stride in zip(view.shape, view.strides)]
    across = goes_across(numbers, request.inputs[1], assembly.output.shape[2], view.shape[2], view.shape[2])
    place, left = left_view(assembly, numbers.left, borders, [range(size) for size in view.shape], across)
    batches, rows, taps = left.strides
    Product(
        assembly,
        numbers,
        _shared_if_one(request.inputs[1]),
        left=place,
        left_moves=(batches, rows),
        left_taps=((left.shape[2], taps),),
        right_batches=(0,),
        right_taps=(right_taps,),
        right_columns=right_columns,
        goes_across=across,
    ).contract(Target.whole(assembly))
    return assembly.kernel()


def _shared_if_one(right: Operand) -> Operand:
    """A single matrix stands for every batch of the left-hand side (matmul_t broadcasts it)."""
    view = right.view
    if view.shape[0] > 1:
        return right
    return replace(right, view=replace(view, strides=(0, *view.strides[1:])))
