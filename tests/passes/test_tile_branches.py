"""Branches larger than the limit run in several messages, with the same bits and no dearer than predicted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tosaic
from tosaic.wasm.program import compile
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.tile_operators import TileOperatorsPass
from wasm.program_runner import run_program
from wasm.random_control import RandomControl
from wasm.test_program import STORE, cost_model, parse

ROWS = "tensor<1x96x96xf32>"


def matmul(result: str, left: str, right: str) -> str:
    types = f"({ROWS}, {ROWS}, tensor<1xf32>, tensor<1xf32>) -> {ROWS}"
    return f"%{result} = tosa.matmul %{left}, %{right}, %z, %z : {types}"


ZERO = '%z = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>'
BRANCH = f"""func.func @main(%c: tensor<i1>, %x: {ROWS}, %y: {ROWS}) -> ({ROWS}, {ROWS}) {{
  %r:2 = tosa.cond_if %c (%a = %x, %b = %y) : tensor<i1> ({ROWS}, {ROWS}) -> ({ROWS}, {ROWS}) {{
  ^bb0(%h: {ROWS}, %i: {ROWS}):
    {ZERO}
    {matmul("m", "h", "i")}
    {matmul("n", "m", "i")}
    %e = tosa.tanh %m : ({ROWS}) -> {ROWS}
    {matmul("o", "n", "e")}
    tosa.yield %o, %m : {ROWS}, {ROWS}
  }} else {{
  ^bb0(%f: {ROWS}, %g: {ROWS}):
    {ZERO}
    %e = tosa.abs %g : ({ROWS}) -> {ROWS}
    {matmul("m", "e", "f")}
    tosa.yield %m, %f : {ROWS}, {ROWS}
  }}
  return %r#0, %r#1 : {ROWS}, {ROWS}
}}"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("branch") / "model.mlir"
    path.write_text(BRANCH)
    return path


@pytest.mark.parametrize("share", [0.9, 0.6])
def test_stages_give_the_same_bits_and_keep_to_their_bounds(
    share: float, source: Path, tmp_path: Path
) -> None:
    whole = tosaic.load(tosaic.compile_model(source, tmp_path / "whole"))
    limit = int(whole.manifest["total_predicted"] * share)
    parts = tosaic.load(tosaic.compile_model(source, tmp_path / "parts", limit_instructions=limit))
    inputs = whole.random_inputs(3)
    for condition in (True, False):
        given_inputs = inputs | {"input_0": np.array(condition)}
        expected, found = whole.run(given_inputs), parts.run(given_inputs)
        assert len(found.messages) > 1
        assert all(m.metered <= m.predicted <= limit for m in found.messages)
        for name, array in expected.outputs.items():
            assert found.outputs[name].tobytes() == array.tobytes()


def test_stages_are_valid_tosa(source: Path, tmp_path: Path) -> None:
    artifact = tosaic.compile_model(source, tmp_path / "parts", limit_instructions=6_000_000)
    command = [Path(sys.executable).parent / "tosa-opt", "--tosa-validate=strict-op-spec-alignment"]
    found = subprocess.run([*command, artifact.path / "program.mlirbc"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("tosa.cond_if") > 1


def test_an_op_of_an_arm_that_cannot_be_cut_so_far_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(LimitTooSmallError, match=r"^tosa\.matmul needs .* a limit of \d+ works"):
        tosaic.compile_model(source, tmp_path / "none", limit_instructions=1_000_000)


COUNTING = """func.func @main(%c: tensor<i1>, %x: tensor<4xi32>) -> tensor<4xi32> {
  %zero = "tosa.const"() <{values = dense<0> : tensor<i32>}> : () -> tensor<i32>
  %r = tosa.cond_if %c (%s = %zero, %a = %x) : tensor<i1> (tensor<i32>, tensor<4xi32>) -> tensor<4xi32> {
  ^bb0(%start: tensor<i32>, %b: tensor<4xi32>):
    %l:2 = tosa.while_loop (%i = %start, %d = %b) : (tensor<i32>, tensor<4xi32>) -> (tensor<i32>, tensor<4xi32>) {
      %n = "tosa.const"() <{values = dense<9> : tensor<i32>}> : () -> tensor<i32>
      %more = tosa.greater %n, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
      tosa.yield %more : tensor<i1>
    } do {
    ^bb0(%j: tensor<i32>, %e: tensor<4xi32>):
      %one = "tosa.const"() <{values = dense<1> : tensor<i32>}> : () -> tensor<i32>
      %k = tosa.add %j, %one : (tensor<i32>, tensor<i32>) -> tensor<i32>
      %f = tosa.add %e, %e : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
      tosa.yield %k, %f : tensor<i32>, tensor<4xi32>
    }
    tosa.yield %l#1 : tensor<4xi32>
  } else {
  ^bb0(%t: tensor<i32>, %g: tensor<4xi32>):
    tosa.yield %g : tensor<4xi32>
  }
  return %r : tensor<4xi32>
}"""


def test_constants_that_an_arm_takes_stay_known() -> None:
    """From one of them the arm's loop starts to count."""
    program, model = parse(COUNTING), cost_model()
    model.page_access = model.page_write = 0
    TileOperatorsPass(model.kernels(program)[0].charge.instructions // 2, model).run(program)
    assert str(program.module).count("tosa.while_loop") > 1
    (found,) = run_program(compile(program, kernels=STORE), [np.array(True), np.arange(4, dtype=np.int32)])
    np.testing.assert_array_equal(found, np.arange(4) << 9)


@given(st.integers(0, 1 << 30), st.sampled_from([0.3, 0.6, 0.9]), st.booleans())
@settings(max_examples=40)
def test_random_nests_in_stages_compute_what_python_computes(seed: int, share: float, flag: bool) -> None:
    """Pages are free here: small programs cannot be cut below what their pages cost."""
    case = RandomControl(seed)
    program, model = parse(case.text), cost_model()
    model.page_access = model.page_write = 0
    kernels = model.kernels(program)
    dearest = max((kernel.charge.instructions for kernel in kernels), default=0)
    try:
        TileOperatorsPass(int(share * dearest), model).run(program)
    except LimitTooSmallError:
        return
    assert program.module.operation.verify()
    rows = [np.random.default_rng(seed + i).integers(-99, 99, 4).astype(np.int32) for i in range(3)]
    found = run_program(compile(program, kernels=STORE), [*rows, np.array(flag)])
    for output, expected in zip(found, case.run(rows, flag), strict=True):
        np.testing.assert_array_equal(output, expected)
