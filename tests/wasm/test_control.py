"""Branches and loops in WebAssembly: the numbers of Arm's reference model and of Python, never dearer than said."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_model
from tosaic.errors import TosaicError
from tosaic.wasm.program import compile
from wasm.program_runner import run_program
from wasm.random_control import RandomControl
from wasm.test_program import STORE, cost_model, cut, parse

BRANCH = """
func.func @main(%c: tensor<i1>, %x: tensor<1x4x4xf32>, %y: tensor<1x4x4xf32>)
    -> (tensor<1x4x4xf32> {ic.dtype = "float32"}, tensor<1x4x4xf32> {ic.dtype = "float32"}) {
  %s = tosa.add %x, %y : (tensor<1x4x4xf32>, tensor<1x4x4xf32>) -> tensor<1x4x4xf32>
  %r:2 = tosa.cond_if %c (%a = %s, %b = %y) : tensor<i1> (tensor<1x4x4xf32>, tensor<1x4x4xf32>)
      -> (tensor<1x4x4xf32>, tensor<1x4x4xf32>) {
  ^bb0(%h: tensor<1x4x4xf32>, %i: tensor<1x4x4xf32>):
    %z = "tosa.const"() {values = dense<0.0> : tensor<1xf32>} : () -> tensor<1xf32>
    %m = tosa.matmul %h, %i, %z, %z : (tensor<1x4x4xf32>, tensor<1x4x4xf32>, tensor<1xf32>, tensor<1xf32>)
        -> tensor<1x4x4xf32>
    %n = tosa.sub %m, %i : (tensor<1x4x4xf32>, tensor<1x4x4xf32>) -> tensor<1x4x4xf32>
    tosa.yield %n, %h : tensor<1x4x4xf32>, tensor<1x4x4xf32>
  } else {
  ^bb0(%f: tensor<1x4x4xf32>, %g: tensor<1x4x4xf32>):
    %e = tosa.abs %g : (tensor<1x4x4xf32>) -> tensor<1x4x4xf32>
    tosa.yield %e, %e : tensor<1x4x4xf32>, tensor<1x4x4xf32>
  }
  return %r#0, %r#1 : tensor<1x4x4xf32>, tensor<1x4x4xf32>
}"""

FIBONACCI = """
func.func @main(%n: tensor<i32>, %a: tensor<i32>, %b: tensor<i32>, %flag: tensor<i1>)
    -> (tensor<i32> {ic.dtype = "int32"}) {
  %zero = "tosa.const"() {values = dense<0> : tensor<i32>} : () -> tensor<i32>
  %r:5 = tosa.while_loop (%i = %zero, %p = %a, %q = %b, %m = %n, %u = %flag)
      : (tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i1>)
      -> (tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i1>) {
    %limit = "tosa.const"() {values = dense<20> : tensor<i32>} : () -> tensor<i32>
    %d = tosa.greater %limit, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %e = tosa.greater %m, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %f = tosa.logical_and %e, %d : (tensor<i1>, tensor<i1>) -> tensor<i1>
    %h = tosa.logical_and %u, %d : (tensor<i1>, tensor<i1>) -> tensor<i1>
    tosa.yield YIELD : tensor<i1>
  } do {
  ^bb0(%i1: tensor<i32>, %p1: tensor<i32>, %q1: tensor<i32>, %m1: tensor<i32>, %u1: tensor<i1>):
    %one = "tosa.const"() {values = dense<1> : tensor<i32>} : () -> tensor<i32>
    %j = tosa.add %i1, %one : (tensor<i32>, tensor<i32>) -> tensor<i32>
    %s = tosa.add %p1, %q1 : (tensor<i32>, tensor<i32>) -> tensor<i32>
    tosa.yield %j, %q1, %s, %m1, %u1 : tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i1>
  } ATTRIBUTES
  %t = tosa.add %r#1, %r#3 : (tensor<i32>, tensor<i32>) -> tensor<i32>
  return %t : tensor<i32>
}"""


def fibonacci(goes_on: str, attributes: str = "") -> str:
    written = f"attributes {{{attributes}}}" if attributes else ""
    return FIBONACCI.replace("YIELD", goes_on).replace("ATTRIBUTES", written)


@pytest.mark.parametrize("condition", [True, False])
def test_branch_computes_what_the_reference_model_computes(condition):
    rng = np.random.default_rng(0)
    inputs = [np.array(condition), *(rng.normal(size=(1, 4, 4)).astype(np.float32) for _ in range(2))]
    program = parse(BRANCH)
    expected = reference_model.run(program, inputs)
    for found, wanted in zip(run_program(compile(program, kernels=STORE), inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("trips", [-1, 0, 1, 7, 30])
def test_loop_computes_what_the_reference_model_computes(trips):
    inputs = [*(np.array(value, np.int32) for value in (trips, 3, 5)), np.array(True)]
    program = parse(fibonacci("%f"))
    expected = reference_model.run(program, inputs)
    assert run_program(compile(program, kernels=STORE), inputs)[0] == expected[0]


@given(st.integers(0, 1 << 30), st.booleans())
@settings(max_examples=60)
def test_random_nests_compute_what_python_computes(seed, flag):
    case = RandomControl(seed)
    rows = [np.random.default_rng(seed + i).integers(-99, 99, 4).astype(np.int32) for i in range(3)]
    found = run_program(compile(parse(case.text), kernels=STORE), [*rows, np.array(flag)])
    for output, expected in zip(found, case.run(rows, flag), strict=True):
        np.testing.assert_array_equal(output, expected)


@given(st.integers(0, 1 << 30))
@settings(max_examples=20)
def test_cuts_beside_branches_and_loops_change_nothing(seed):
    case = RandomControl(seed)
    rows = [np.random.default_rng(seed + i).integers(-99, 99, 4).astype(np.int32) for i in range(3)]
    program = parse(case.text)
    cut(program, random.Random(seed))
    found = run_program(compile(program, kernels=STORE), [*rows, np.array(True)])
    for output, expected in zip(found, case.run(rows, True), strict=True):
        np.testing.assert_array_equal(output, expected)


def test_branch_costs_its_dearer_arm():
    program = compile(parse(BRANCH), kernels=STORE)
    assert not program.segments[0].exact
    assert program.macs == 4 * 4 * 4


def test_op_with_regions_is_one_kernel():
    kernels = cost_model().kernels(parse(BRANCH))
    names = [[operation.name for operation in kernel.ops] for kernel in kernels]
    assert names == [["tosa.add"], ["tosa.cond_if"]]
    assert [kernel.exact for kernel in kernels] == [True, False]


def test_loop_is_counted_for_its_bound_on_trips():
    counted = compile(parse(fibonacci("%d")), kernels=STORE)
    fewer = compile(parse(fibonacci("%e", "ic.most_trips = 10 : i64")), kernels=STORE)
    assert fewer.instructions < counted.instructions < 3 * fewer.instructions


@pytest.mark.parametrize(("goes_on", "exact"), [("%d", True), ("%f", False), ("%h", False)])
def test_loop_that_only_counts_has_an_exact_cost(goes_on, exact):
    program = compile(parse(fibonacci(goes_on)), kernels=STORE)
    assert program.segments[0].exact is exact
    run_program(program, [*(np.array(value, np.int32) for value in (5, 3, 5)), np.array(False)])


def scattering(length: int, other: str = "%k1") -> str:
    """Trip i writes the row x + i to row 2 i of a buffer of 2 `length` rows; another one becomes `other`."""
    buffer = f"tensor<1x{2 * length}x4xi32>"
    return f"""
    func.func @main(%x: tensor<1x1x4xi32>, %start: {buffer})
        -> ({buffer} {{ic.dtype = "int32"}}, {buffer} {{ic.dtype = "int32"}}) {{
      %zero = "tosa.const"() {{values = dense<0> : tensor<1x1xi32>}} : () -> tensor<1x1xi32>
      %r:4 = tosa.while_loop (%i = %zero, %b = %start, %k = %start, %v = %x)
          : (tensor<1x1xi32>, {buffer}, {buffer}, tensor<1x1x4xi32>)
          -> (tensor<1x1xi32>, {buffer}, {buffer}, tensor<1x1x4xi32>) {{
        %limit = "tosa.const"() {{values = dense<{length}> : tensor<1x1xi32>}} : () -> tensor<1x1xi32>
        %d = tosa.greater %limit, %i : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi1>
        %shape = tosa.const_shape {{values = dense<> : tensor<0xindex>}} : () -> !tosa.shape<0>
        %s = tosa.reshape %d, %shape : (tensor<1x1xi1>, !tosa.shape<0>) -> tensor<i1>
        tosa.yield %s : tensor<i1>
      }} do {{
      ^bb0(%i1: tensor<1x1xi32>, %b1: {buffer}, %k1: {buffer}, %v1: tensor<1x1x4xi32>):
        %one = "tosa.const"() {{values = dense<1> : tensor<1x1xi32>}} : () -> tensor<1x1xi32>
        %all = "tosa.const"() {{values = dense<1> : tensor<1x1x1xi32>}} : () -> tensor<1x1x1xi32>
        %j = tosa.add %i1, %one : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi32>
        %row = tosa.add %i1, %i1 : (tensor<1x1xi32>, tensor<1x1xi32>) -> tensor<1x1xi32>
        %w = tosa.add %v1, %all : (tensor<1x1x4xi32>, tensor<1x1x1xi32>) -> tensor<1x1x4xi32>
        %n = tosa.scatter %b1, %row, %v1 : ({buffer}, tensor<1x1xi32>, tensor<1x1x4xi32>) -> {buffer}
        tosa.yield %j, %n, {other}, %w : tensor<1x1xi32>, {buffer}, {buffer}, tensor<1x1x4xi32>
      }}
      return %r#1, %r#2 : {buffer}, {buffer}
    }}"""


@pytest.mark.parametrize("other", ["%k1", "%n", "%b1"])
def test_rows_that_a_loop_collects(other):
    """In place, or beside the buffer where that is handed on twice or wanted as it was before."""
    x, start = np.arange(4, dtype=np.int32).reshape(1, 1, 4), np.full((1, 14, 4), -1, np.int32)
    before, after = start, start
    for i in range(7):
        before, after = after, after.copy()
        after[0, 2 * i] = x[0, 0] + i
    found = run_program(compile(parse(scattering(7, other)), kernels=STORE), [x, start])
    np.testing.assert_array_equal(found[0], after)
    np.testing.assert_array_equal(found[1], {"%k1": start, "%n": after, "%b1": before}[other])


def test_a_collected_row_costs_no_copy_of_the_others():
    """The buffer grows with the trips, so a copy of it in each trip would make four times the price."""
    short, long = (compile(parse(scattering(length)), kernels=STORE).instructions for length in (100, 200))
    assert long < 2.1 * short


def test_loop_without_a_bound_is_refused():
    with pytest.raises(TosaicError, match="depend on data without a bound"):
        compile(parse(fibonacci("%e")), kernels=STORE)
