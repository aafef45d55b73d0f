"""No function of a kernel exceeds the bytes and locals that the options allow: compilers take long over large ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Expression, KernelOptions, KernelRequest, Operand, View
from wasm.harness import view_of
from wasm.kernels.products import Case, Geometry, case, integers, values
from wasm.kernels.test_requantization import ending_in

SAME = Geometry(((1, 1), (1, 1)), (1, 1), (1, 1))


def functions(f: Function) -> Iterator[Function]:
    yield f
    for callee in f.callees():
        if isinstance(callee, Function):
            yield from functions(callee)


def convolution(op: str, window: tuple[int, ...], dtype: str, result: str) -> Case:
    rng = np.random.default_rng(0)
    draw = values if dtype == "f32" else lambda rng, *shape: integers(rng, np.int8, *shape)
    image, weights = draw(rng, 1, 28, 28, 96), draw(rng, *window)
    bias = np.zeros(96, np.float32 if dtype == "f32" else np.int32)
    operands = [(image, False), (weights, True), (bias, True)]
    return case(op, operands, (1, 28, 28, 96), SAME.attributes, result=result)


def followed(product: Case, ops: int) -> Case:
    """The product with a chain of additions and bounds behind it, one operand for each addition."""
    request, shape = product.request, product.request.outputs[0].shape
    first = len(request.inputs)
    operands = [np.ones(shape, np.float32) for _ in range(ops)]
    nodes: list[tuple] = [("result", (), ())]
    for k in range(ops):
        nodes.append(("input", (first + k,), ()))
        nodes.append(("add", (len(nodes) - 2, len(nodes) - 1), ()))
        nodes.append(("clamp", (len(nodes) - 1,), (("min_val", -9.0), ("max_val", 9.0))))
    expression = Expression(tuple(nodes), ("f32",) * len(nodes))
    inputs = (*request.inputs, *(Operand(view_of(array, "f32")) for array in operands))
    return Case(replace(request, inputs=inputs, epilogue=expression), [*product.arrays, *operands])


def in_f16() -> Case:
    """Long conversions, on a residual in f16 as well."""
    rng = np.random.default_rng(0)
    image, weights = (values(rng, *shape).astype(np.float16) for shape in ((1, 14, 14, 64), (96, 3, 3, 64)))
    operands = [(image, False), (weights, True), (np.zeros(96, np.float16), True)]
    product = case("conv2d", operands, (1, 14, 14, 96), SAME.attributes, result="f16")
    residual = np.ones((1, 14, 14, 96), np.float16)
    nodes = (("result", (), ()), ("input", (3,), ()), ("add", (0, 1), ()))
    inputs = (*product.request.inputs, Operand(view_of(residual, "f16")))
    request = replace(product.request, inputs=inputs, epilogue=Expression(nodes, ("f16",) * 3))
    return Case(request, [*product.arrays, residual])


def requantised(product: Case) -> Case:
    multiplier = np.arange(96, dtype=np.int32) * 1000 + (1 << 30)
    return ending_in(product, multiplier, np.arange(96, dtype=np.int8) % 4 + 38, 5)


def elementwise() -> Case:
    """Sixteen sines in a row."""
    x = np.ones((64, 64), np.float32)
    nodes = (("input", (0,), ()), *(("sin", (k,), ()) for k in range(16)))
    expression = Expression(nodes, ("f32",) * 17)
    view = View.contiguous("f32", x.shape)
    return Case(KernelRequest("elementwise", (Operand(view),), (view,), {}, "", expression), [x])


def max_pool() -> Case:
    """Windows of 9 by 9 that meet each border in four ways: 81 regions."""
    x = np.ones((1, 30, 30, 20), np.float32)
    view = View.contiguous("f32", x.shape)
    attributes = {"kernel": (9, 9), "stride": (1, 1), "pad": (4, 4, 4, 4)}
    return Case(KernelRequest("max_pool2d", (Operand(view),), (view,), attributes, "f32"), [x])


def reduction(element: str, dtype: type[np.generic]) -> Case:
    """The longest prologue: the least of twelve operands, summed along an axis."""
    arrays = [np.ones((40, 33), dtype) for _ in range(12)]
    nodes: list[tuple] = [("input", (0,), ())]
    for k in range(1, 12):
        nodes += [("input", (k,), ()), ("minimum", (len(nodes) - 1, len(nodes)), ())]
    prologue = Expression(tuple(nodes), (element,) * len(nodes))
    operands = tuple(Operand(view_of(array, element)) for array in arrays)
    sums = (View.contiguous(element, (40, 1)),)
    request = KernelRequest("reduce_sum", operands, sums, {"axis": 1}, element, prologue=prologue)
    return Case(request, arrays)


CASES = {
    "conv2d": lambda: convolution("conv2d", (96, 3, 3, 96), "f32", "f32"),
    "conv2d with a long end": lambda: followed(convolution("conv2d", (96, 3, 3, 96), "f32", "f32"), 8),
    "conv2d in f16": in_f16,
    "conv2d in i8": lambda: requantised(convolution("conv2d", (96, 3, 3, 96), "i8", "i32")),
    "depthwise_conv2d": lambda: convolution("depthwise_conv2d", (3, 3, 96, 1), "f32", "f32"),
    "depthwise_conv2d with a long end": lambda: followed(
        convolution("depthwise_conv2d", (3, 3, 96, 1), "f32", "f32"), 8
    ),
    "depthwise_conv2d in i8": lambda: requantised(
        convolution("depthwise_conv2d", (3, 3, 96, 1), "i8", "i32")
    ),
    "elementwise": elementwise,
    "max_pool2d": max_pool,
    "reduction of much": lambda: reduction("f32", np.float32),
    "reduction of much in i64": lambda: reduction("i64", np.int64),
}


@pytest.mark.parametrize(
    "options", [KernelOptions(calls_per_install=10**6), KernelOptions(function_bytes=20_000)], ids=str
)
@pytest.mark.parametrize("name", CASES)
def test_functions_keep_the_limits(name: str, options: KernelOptions) -> None:
    for function in functions(CASES[name]().kernel(options).function):
        assert function.byte_size <= options.function_bytes
        assert function.local_count <= options.locals
