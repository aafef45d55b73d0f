"""Maximum and average pooling of NHWC tensors.

Output rows and columns whose windows lie equally inside the input form a region, so that the border needs no
reading outside and no masks: the inside is one region, each kind of border another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tosaic.prices import PriceList
from tosaic.wasm.float_formats import round_to
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Access, Kernel, KernelOptions, KernelRequest, View
from tosaic.wasm.kernels.fold import Place, fold_axes, fold_for, plain
from tosaic.wasm.kernels.reduction import result_expression
from tosaic.wasm.kernels.staging import touched_runs
from tosaic.wasm.kernels.vector_nest import Own, Work, aligned, build_kernel, stream_inputs
from tosaic.wasm.lanes import FLOAT, KINDS, saturate
from tosaic.wasm.math import splat_f32, splat_i32
from tosaic.wasm.nest import Axis, merge
from tosaic.wasm.operations.rescale import push_scaled


def build(request: KernelRequest, prices: PriceList, options: KernelOptions) -> Kernel:
    """`max_pool2d` and `avg_pool2d`; the average counts only elements inside of the input."""
    rows, columns = list(_regions(request, 0)), list(_regions(request, 1))
    works = [_work(request, r, c) for r in rows for c in columns]
    kernel = build_kernel(request, works, prices, options)
    source = Access(0, _covered(request, rows, columns))
    return replace(kernel, accesses=(source, *kernel.accesses[1:]))


@dataclass(frozen=True)
class _Region:
    """Neighbouring output indices: the first one, how many, where their first window begins, and its size."""

    first: int
    count: int
    start: int
    size: int


def _regions(request: KernelRequest, dimension: int) -> Iterator[_Region]:
    """Split the rows (0) or columns (1) of the output by how much of their windows lies inside."""
    kernel, stride = request.attributes["kernel"][dimension], request.attributes["stride"][dimension]
    before = request.attributes["pad"][2 * dimension]
    size = request.inputs[0].view.shape[1 + dimension]
    count = request.outputs[0].shape[1 + dimension]
    first = 0
    while first < count:
        begin = first * stride - before
        cut, length = max(0, -begin), min(begin + kernel, size) - max(0, begin)
        last = first + 1
        while cut == 0 and last < count and _is_alike(last * stride - before, kernel, size, length):
            last += 1
        yield _Region(first, last - first, max(0, begin), length)
        first = last


def _is_alike(begin: int, kernel: int, size: int, length: int) -> bool:
    return begin >= 0 and min(begin + kernel, size) - begin == length


def _covered(
    request: KernelRequest, rows: list[_Region], columns: list[_Region]
) -> tuple[tuple[int, int], ...]:
    """The bytes of the input that lie in some window."""
    view = request.inputs[0].view
    reached = [sorted(set(_reached(request, i, regions))) for i, regions in enumerate((rows, columns))]
    return touched_runs(view, [range(view.shape[0]), *reached, range(view.shape[3])])


def _reached(request: KernelRequest, dimension: int, regions: list[_Region]) -> Iterator[int]:
    """Input rows or columns inside of some window."""
    for region in regions:
        for i in range(region.count):
            begin = region.start + i * request.attributes["stride"][dimension]
            yield from range(begin, begin + region.size)


def _work(request: KernelRequest, rows: _Region, columns: _Region) -> Work:
    views = [operand.view for operand in request.inputs]
    source, output = views[0], request.outputs[0]
    shape = (output.shape[0], rows.count, columns.count, output.shape[3])
    stride = request.attributes["stride"]
    strides = source.strides
    windows = View(
        source.element, shape, (strides[0], strides[1] * stride[0], strides[2] * stride[1], strides[3])
    )
    inputs, offsets = list(views), {}
    for k in stream_inputs(request.epilogue):
        view = aligned(views[k], output.shape)
        inputs[k] = View(view.element, shape, view.strides)
        offsets[k] = rows.first * view.strides[1] + columns.first * view.strides[2]
    offsets[0] = rows.start * strides[1] + columns.start * strides[2]
    offsets[len(views)] = rows.first * output.strides[1] + columns.first * output.strides[2]
    axes = merge([Axis(n, (s,)) for n, s in ((rows.size, strides[1]), (columns.size, strides[2])) if n > 1])
    return Work(
        request.epilogue or result_expression(output.element),
        inputs,
        View(output.element, shape, output.strides),
        offsets,
        Own((0,), (windows,), _pool(request, axes, rows.size * columns.size)),
    )


def _pool(request: KernelRequest, axes: list[Axis], count: int):
    element, attributes = request.inputs[0].view.element, request.attributes
    maximum = request.op == "max_pool2d"
    fold = fold_for("max" if maximum else "sum", element, attributes.get("nan_mode", "PROPAGATE"))

    def emit(f: Function, lanes: int, places: Sequence[Place]) -> None:
        fold_axes(f, fold, axes or [Axis(1, (0,))], plain(element), lanes, places)
        if maximum:
            return
        if KINDS[element] == FLOAT:
            _divide(f, count)
            round_to(f, element)
        else:
            zero_points = attributes.get("input_zp", 0), attributes.get("output_zp", 0)
            _average(f, lanes, count, element, *zero_points)

    return emit


def _divide(f: Function, count: int) -> None:
    """Divide by the count; by a product where the reciprocal is exact."""
    if count & (count - 1):
        splat_f32(f, count)
        f.op("f32x4.div")
    elif count > 1:
        splat_f32(f, 1 / count)
        f.op("f32x4.mul")


def _average(f: Function, lanes: int, count: int, element: str, input_zp: int, output_zp: int) -> None:
    """The rounded quotient by TOSA's reciprocal_scale and apply_scale_32, with zero points."""
    if input_zp:
        splat_i32(f, count * input_zp)
        f.op("i32x4.sub")
    exponent = (count - 1).bit_length()
    multiplier = (((1 << 30) + 1) << exponent) // count
    push_scaled(f, lanes, partial(splat_i32, f, multiplier), 30 + exponent)
    if output_zp:
        splat_i32(f, output_zp)
        f.op("i32x4.add")
    saturate(f, element)
