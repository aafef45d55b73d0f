"""Whole programs in wasmtime: random ones against numpy, exact costs, and cuts that change nothing."""

import contextlib
import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch_mlir import ir

from tosaic.errors import LimitTooSmallError, TosaicError
from tosaic.prices import PriceList
from tosaic.wasm.cost_model import WasmCostModel
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.program import KernelStore, compile, plan
from tosaic_passes.cost_model import Charge
from tosaic_passes.program import Program
from tosaic_passes.segments import build_segments
from tosaic_passes.tile_operators import TileOperatorsPass
from tosaic_passes.weights import WeightTable
from wasm.program_runner import run_program
from wasm.random_programs import RandomProgram

STORE = KernelStore(PriceList.load(), KernelOptions())


def parse(text: str) -> Program:
    context = ir.Context()
    context.allow_unregistered_dialects = True
    return Program(ir.Module.parse(text, context), WeightTable())


class FreeMessages:
    def overhead(self, program, index, last):
        return Charge()

    def closing(self, program, segments):
        return None

    def transfers(self, program):
        return []


def cost_model() -> WasmCostModel:
    return WasmCostModel(STORE, FreeMessages(), control_bytes=64)


def cut(program: Program, rng: random.Random) -> None:
    """Cut the program between kernels, anywhere."""
    kernels = cost_model().kernels(program)
    pieces: list[list[ir.Operation]] = [[]]
    for kernel in kernels:
        if pieces[-1] and rng.random() < 0.3:
            pieces.append([])
        pieces[-1] += kernel.ops
    with program.context, ir.Location.unknown():
        build_segments(program.module.body.operations[0], pieces)


@given(st.integers(0, 1 << 30))
def test_random_program_computes_what_numpy_computes(seed):
    case = RandomProgram.make(seed)
    outputs = run_program(compile(parse(case.text()), kernels=STORE), [array for _, array in case.inputs])
    for output, (name, expected) in zip(outputs, case.outputs, strict=True):
        np.testing.assert_array_equal(output, expected, err_msg=name)


@given(st.integers(0, 1 << 30), st.sampled_from([0.5, 0.7, 0.9]))
def test_computing_in_parts_changes_no_bit(seed, share):
    """Pages are free here: small programs cannot be tiled below what their pages cost."""
    case = RandomProgram.make(seed)
    program, model = parse(case.text()), cost_model()
    model.page_access = model.page_write = 0
    limit = int(share * max((kernel.charge.instructions for kernel in model.kernels(program)), default=0))
    with contextlib.suppress(LimitTooSmallError):
        TileOperatorsPass(limit, model).run(program)
    assert program.module.operation.verify()
    outputs = run_program(compile(program, kernels=STORE), [array for _, array in case.inputs])
    for output, (name, expected) in zip(outputs, case.outputs, strict=True):
        np.testing.assert_array_equal(output, expected, err_msg=name)


@given(st.integers(0, 1 << 30))
def test_cutting_moves_nothing_and_changes_no_bit(seed):
    case = RandomProgram.make(seed)
    program = parse(case.text())
    whole = compile(program, kernels=STORE)
    cut(program, random.Random(seed))
    pieces = compile(program, kernels=STORE)
    assert (pieces.inputs, pieces.outputs) == (whole.inputs, whole.outputs)
    assert [(s.address, bytes(s.data)) for s in pieces.data] == [
        (s.address, bytes(s.data)) for s in whole.data
    ]
    entries = (len(pieces.segments) - len(whole.segments)) * STORE.prices.function_entry
    assert pieces.instructions == whole.instructions + entries
    outputs = run_program(pieces, [array for _, array in case.inputs])
    for output, (_, expected) in zip(outputs, case.outputs, strict=True):
        np.testing.assert_array_equal(output, expected)


@given(st.integers(0, 1 << 30))
def test_costs_of_kernels_add_up_to_the_program(seed):
    program = parse(RandomProgram.make(seed).text())
    kernels = cost_model().kernels(program)
    segment = compile(program, kernels=STORE, control_bytes=64).segments[0]
    total = sum((kernel.charge for kernel in kernels), Charge())
    assert total.instructions == segment.function.cost - STORE.prices.function_entry
    assert (total.reads, total.writes) == (segment.reads, segment.writes)
    assert all(sum(kernel.shares) == kernel.charge.instructions for kernel in kernels if kernel.ops)


@given(st.integers(0, 1 << 30))
@example(888)
@example(336869)
def test_arena_is_close_to_the_largest_live_set(seed):
    memory = plan(parse(RandomProgram.make(seed, ops=25).text()), STORE).memory
    assert memory.arena_bytes <= 1.15 * memory.largest_live_bytes + 256


def test_equal_layers_share_their_code():
    program = parse("""
      func.func @main(%x: tensor<64xf32>, %y: tensor<64xf32>) -> (tensor<64xf32>, tensor<64xf32>) {
        %0 = tosa.abs %x : (tensor<64xf32>) -> tensor<64xf32>
        %1 = tosa.abs %y : (tensor<64xf32>) -> tensor<64xf32>
        return %0, %1 : tensor<64xf32>, tensor<64xf32>
      }""")
    assert len(compile(program, kernels=STORE).segments[0].function.callees()) == 2
    assert len(set(compile(program, kernels=STORE).segments[0].function.callees())) == 1


def test_a_kernel_that_runs_often_may_take_more_code():
    """One step of a recurrent net, and five hundred."""

    def first_kernel(steps):
        lines = [
            f"%{i + 1} = tosa.matmul %{i}, %w, %z, %z : (tensor<1x1x64xf32>, tensor<1x64x64xf32>, tensor<1xf32>, "
            "tensor<1xf32>) -> tensor<1x1x64xf32>"
            for i in range(steps)
        ]
        planned = plan(
            parse(f"""
            func.func @main(%0: tensor<1x1x64xf32>, %w: tensor<1x64x64xf32>) -> tensor<1x1x64xf32> {{
              %z = "tosa.const"() {{values = dense<0.0> : tensor<1xf32>}} : () -> tensor<1xf32>
              {chr(10).join(lines)}
              return %{steps} : tensor<1x1x64xf32>
            }}"""),
            STORE,
        )
        return next(iter(planned.step_of.values())).kernel

    one, many = first_kernel(1), first_kernel(500)
    assert many.cost < one.cost


def test_border_tensors_have_room_for_their_onnx_dtype():
    program = parse("""
      func.func @main(%x: tensor<6xi32> {ic.name = "ids", ic.dtype = "int64"})
          -> (tensor<6xi32> {ic.name = "next", ic.dtype = "int64"}) {
        %0 = tosa.add %x, %x : (tensor<6xi32>, tensor<6xi32>) -> tensor<6xi32>
        return %0 : tensor<6xi32>
      }""")
    compiled = compile(program, kernels=STORE)
    (given_in,), (given_out,) = compiled.inputs, compiled.outputs
    assert (given_in.name, given_in.dtype, given_in.element, given_in.room) == ("ids", "int64", "i32", 48)
    assert given_out.room == 48
    spans = sorted((t.address, t.address + t.room) for t in (given_in, given_out))
    assert spans[0][1] <= spans[1][0]
    assert spans[1][1] <= compiled.memory_bytes


def test_argument_that_is_a_result_is_copied():
    program = parse("func.func @main(%x: tensor<5xi32>) -> tensor<5xi32> { return %x : tensor<5xi32> }")
    compiled = compile(program, kernels=STORE)
    assert compiled.outputs[0].address != compiled.inputs[0].address
    np.testing.assert_array_equal(run_program(compiled, [np.arange(5, dtype=np.int32)])[0], np.arange(5))


def test_op_without_a_kernel_is_named():
    text = 'func.func @main(%x: tensor<5xi32>) { %0 = "other.op"(%x) : (tensor<5xi32>) -> tensor<5xi32>\n return }'
    with pytest.raises(TosaicError, match=r"other\.op"):
        compile(parse(text), kernels=STORE)
