"""The instructions of a kernel among its ops: they add up, and a dear op has more than a cheap one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_mlir import ir

from tosaic.prices import PriceList
from tosaic.wasm.cost_model import WasmCostModel
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.program import KernelStore
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable
from wasm.random_programs import RandomProgram

STORE = KernelStore(PriceList.load(), KernelOptions())
T = "tensor<1x64x32xf32>"


def kernels(text: str):
    context = ir.Context()
    context.allow_unregistered_dialects = True
    program = Program(ir.Module.parse(text, context), WeightTable())
    return WasmCostModel(STORE, None, control_bytes=64).kernels(program)


def shares(*ops: str) -> list[int]:
    """The shares of a chain of unary ops on a product."""
    lines = [
        '%z = "tosa.const"() {values = dense<0.0> : tensor<1xf32>} : () -> tensor<1xf32>',
        '%w = "tosa.const"() {values = dense<0.5> : tensor<1x32x32xf32>} : () -> tensor<1x32x32xf32>',
        f"%0 = tosa.matmul %x, %w, %z, %z : ({T}, tensor<1x32x32xf32>, tensor<1xf32>, tensor<1xf32>) -> {T}",
    ]
    lines += [f"%{i + 1} = tosa.{op} %{i} : ({T}) -> {T}" for i, op in enumerate(ops)]
    text = f"func.func @main(%x: {T}) -> {T} {{\n" + "\n".join(lines) + f"\nreturn %{len(ops)} : {T}\n}}"
    (kernel,) = kernels(text)
    assert sum(kernel.shares) == kernel.charge.instructions
    return list(kernel.shares)


@given(st.integers(0, 1 << 30))
def test_shares_add_up_to_the_kernel(seed):
    for kernel in kernels(RandomProgram.make(seed).text()):
        assert all(share >= 0 for share in kernel.shares)
        assert sum(kernel.shares) == kernel.charge.instructions if kernel.ops else True


def test_fused_op_costs_its_operators_and_leaves_the_rest_to_the_product():
    product, ceil = shares("ceil")
    assert ceil == 64 * 32 // 4 * 3  # local.get 1, f32x4.ceil 2
    assert product == pytest.approx(shares("ceil", "floor")[0], rel=0.01)


def test_dear_op_has_more_than_a_cheap_one():
    _, absolute, root = shares("abs", "rsqrt")
    assert root > 3 * absolute
