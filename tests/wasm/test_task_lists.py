"""Long programs are several functions, exactly counted, wherever they are cut."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_mlir import ir

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.module import Module
from tosaic.wasm.program import KernelStore, WasmProgram, compile
from tosaic_passes.cost_model import Charge, KernelCost
from tosaic_passes.functions import find_function
from tosaic_passes.program import Program
from tosaic_passes.segments import build_segments
from wasm.program_runner import run_program
from wasm.random_control import RandomControl
from wasm.test_program import STORE, cost_model, parse

STEPS = 4500
TIGHT = KernelStore(PriceList.load(), KernelOptions(function_bytes=256))


def long_chain() -> str:
    lines = [
        f"%{i + 1} = tosa.matmul %{i}, %w, %z, %z : (tensor<1x1x4xf32>, tensor<1x4x4xf32>, tensor<1xf32>, "
        "tensor<1xf32>) -> tensor<1x1x4xf32>"
        for i in range(STEPS)
    ]
    return f"""
    func.func @main(%0: tensor<1x1x4xf32>, %w: tensor<1x4x4xf32>) -> tensor<1x1x4xf32> {{
      %z = "tosa.const"() {{values = dense<0.0> : tensor<1xf32>}} : () -> tensor<1xf32>
      {chr(10).join(lines)}
      return %{STEPS} : tensor<1x1x4xf32>
    }}"""


def functions_of(program: WasmProgram) -> list[Function]:
    return Module(1, {segment.name: segment.function for segment in program.segments}).functions()


def code_bytes(function: Function) -> int:
    return len(function.code(lambda _: 1_000))


def cut_in_five(program: Program, kernels: Sequence[KernelCost]) -> None:
    operations = [op for kernel in kernels for op in kernel.ops]
    size = -(-len(operations) // 5)
    with program.context, ir.Location.unknown():
        build_segments(
            find_function(program.module, "main"),
            [operations[start : start + size] for start in range(0, len(operations), size)],
        )


def test_thousands_of_calls_are_several_functions_that_cost_what_the_kernels_cost():
    program = parse(long_chain())
    kernels = cost_model().kernels(program)
    whole = compile(program, kernels=STORE)
    assert max(map(code_bytes, functions_of(whole))) < STORE.options.function_bytes
    cut_in_five(program, kernels)
    pieces = compile(program, kernels=STORE)
    total = sum((kernel.charge for kernel in kernels), Charge()).instructions
    assert whole.instructions == total + STORE.prices.function_entry
    assert pieces.instructions == total + 5 * STORE.prices.function_entry
    turn = np.eye(4, dtype=np.float32)[[1, 2, 3, 0]]
    row = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    (found,) = run_program(pieces, [row, turn[None]])
    np.testing.assert_array_equal(found, row)


@given(st.integers(0, 1 << 30), st.booleans())
@settings(max_examples=20)
def test_long_arms_and_bodies_are_several_functions_too(seed, flag):
    case = RandomControl(seed)
    rows = [np.random.default_rng(seed + i).integers(-99, 99, 4).astype(np.int32) for i in range(3)]
    compiled = compile(parse(case.text), kernels=TIGHT)
    stretches = [function for function in functions_of(compiled) if function.name == "stretch"]
    assert all(code_bytes(function) <= TIGHT.options.function_bytes for function in stretches)
    for output, expected in zip(
        run_program(compiled, [*rows, np.array(flag)]), case.run(rows, flag), strict=True
    ):
        np.testing.assert_array_equal(output, expected)
