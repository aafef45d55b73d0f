"""Look-ups of one table touch as many pages as predicted, whatever the indices are and wherever they are cut."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.program import WasmProgram, compile
from tosaic_passes.program import Program
from wasm.program_runner import SegmentRun, run_segments
from wasm.test_program import STORE, cut, parse

TABLES = {
    "rows that fill a page": np.arange(12 * 16_384, dtype=np.int32).reshape(1, 12, 16_384),
    "rows across pages": np.arange(300 * 700, dtype=np.int32).reshape(1, 300, 700),
}


def table_type(table: np.ndarray) -> str:
    return f"tensor<{'x'.join(map(str, table.shape))}xi32>"


def look_ups(table: np.ndarray, counts: list[int]) -> Program:
    """Each argument holds so many indices, each result is the rows at them."""
    kind, channels = table_type(table), table.shape[2]
    arguments = ", ".join(f"%i{k}: tensor<1x{n}xi32>" for k, n in enumerate(counts))
    results = ", ".join(f"tensor<1x{n}x{channels}xi32>" for n in counts)
    lines = [
        f"%r{k} = tosa.gather %t, %i{k} : ({kind}, tensor<1x{n}xi32>) -> tensor<1x{n}x{channels}xi32>"
        for k, n in enumerate(counts)
    ]
    program = parse(f"""func.func @main({arguments}) -> ({results}) {{
        %t = "tosa.const"() {{values = dense_resource<table> : {kind}}} : () -> {kind}
        {chr(10).join(lines)}
        return {", ".join(f"%r{k}" for k in range(len(counts)))} : {results} }}""")
    program.weights.add("table", table)
    return program


def in_a_loop(table: np.ndarray, count: int, trips: int) -> Program:
    """Looks the indices up and adds the rows; then the same for the next rows."""
    kind, row, index = table_type(table), f"tensor<1x{count}x{table.shape[2]}xi32>", f"tensor<1x{count}xi32>"
    program = parse(f"""func.func @main(%i: {index}, %x: {row}) -> {row} {{
        %zero = "tosa.const"() {{values = dense<0> : tensor<i32>}} : () -> tensor<i32>
        %r:3 = tosa.while_loop (%n = %zero, %j = %i, %s = %x) : (tensor<i32>, {index}, {row})
            -> (tensor<i32>, {index}, {row}) {{
          %limit = "tosa.const"() {{values = dense<{trips}> : tensor<i32>}} : () -> tensor<i32>
          %more = tosa.greater %limit, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
          tosa.yield %more : tensor<i1>
        }} do {{
        ^bb0(%m: tensor<i32>, %k: {index}, %u: {row}):
          %one = "tosa.const"() {{values = dense<1> : tensor<i32>}} : () -> tensor<i32>
          %ones = "tosa.const"() {{values = dense<1> : {index}}} : () -> {index}
          %t = "tosa.const"() {{values = dense_resource<table> : {kind}}} : () -> {kind}
          %g = tosa.gather %t, %k : ({kind}, {index}) -> {row}
          %v = tosa.add %u, %g : ({row}, {row}) -> {row}
          %o = tosa.add %m, %one : (tensor<i32>, tensor<i32>) -> tensor<i32>
          %l = tosa.add %k, %ones : ({index}, {index}) -> {index}
          tosa.yield %o, %l, %v : tensor<i32>, {index}, {row}
        }}
        return %r#2 : {row} }}""")
    program.weights.add("table", table)
    return program


def check_exact(run: SegmentRun) -> None:
    assert run.segment.exact
    assert run.usage.instructions == run.segment.function.cost
    assert len(run.usage.pages_written) == run.segment.writes.bit_count()
    touched = run.usage.pages_read | run.usage.pages_written
    assert len(touched) == (run.segment.reads | run.segment.writes).bit_count()


def run(program: WasmProgram, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return run_segments(program, arrays, check_exact)


@given(
    st.sampled_from(list(TABLES)),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.integers(0, 1 << 30),
)
def test_every_message_pays_the_same_for_any_indices(kind, counts, seed):
    table, rng = TABLES[kind], np.random.default_rng(seed)
    program = look_ups(table, counts)
    cut(program, random.Random(seed))
    compiled = compile(program, kernels=STORE)
    most = int(rng.choice([1, 2, table.shape[1]]))
    indices = [rng.integers(0, most, (1, count)).astype(np.int32) for count in counts]
    for found, chosen in zip(run(compiled, indices), indices, strict=True):
        np.testing.assert_array_equal(found, table[:, chosen[0]])


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("trips", [1, 3, 7])
def test_loops_pay_the_same_for_any_indices(kind, start, trips):
    table = TABLES[kind]
    compiled = compile(in_a_loop(table, 2, trips), kernels=STORE)
    indices = np.array([[start, 0]], np.int32)
    (found,) = run(compiled, [indices, np.zeros((1, 2, table.shape[2]), np.int32)])
    np.testing.assert_array_equal(found, sum(table[:, indices[0] + trip] for trip in range(trips)))


def test_an_inference_knows_nothing_of_the_one_before():
    table = TABLES["rows that fill a page"]
    compiled = compile(look_ups(table, [3, 3]), kernels=STORE)
    apart = [np.array([[0, 1, 2]], np.int32), np.array([[3, 4, 5]], np.int32)]
    run_segments(compiled, apart, check_exact, times=2)
