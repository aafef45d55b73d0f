"""Of the weights of two arms a message pays for those of one, wherever that is sure."""

import numpy as np
import pytest

from tosaic.prices import PAGE_BYTES
from tosaic.wasm.program import WasmProgram, compile
from tosaic_passes.program import Program
from wasm.program_runner import SegmentRun, run_segments
from wasm.test_program import STORE, parse

SHORT, LONG = (np.arange(pages * PAGE_BYTES // 4, dtype=np.int32).reshape(1, -1) for pages in (3, 7))
KINDS = {"short": f"tensor<1x{SHORT.size}xi32>", "long": f"tensor<1x{LONG.size}xi32>"}


def constant(name: str) -> str:
    kind = KINDS[name]
    return f'%{name} = "tosa.const"() {{values = dense_resource<{name}> : {kind}}} : () -> {kind}'


def largest(name: str, floor: str, result: str) -> str:
    """The largest number of a weight, or %`floor` if that is larger: reads the whole weight."""
    return f"""{constant(name)}
        %m = tosa.maximum %{name}, %{floor} : ({KINDS[name]}, tensor<1x1xi32>) -> {KINDS[name]}
        %{result} = tosa.reduce_max %m {{axis = 1 : i32}} : ({KINDS[name]}) -> tensor<1x1xi32>"""


def branch(then: str, otherwise: str, condition: str = "c", floor: str = "h") -> str:
    """Either arm reads a weight."""
    return f"""%r = tosa.cond_if %{condition} (%x = %{floor}) : tensor<i1> (tensor<1x1xi32>) -> tensor<1x1xi32> {{
        ^bb0(%f: tensor<1x1xi32>):
          {largest(then, "f", "y")}
          tosa.yield %y : tensor<1x1xi32>
        }} else {{
        ^bb0(%g: tensor<1x1xi32>):
          {largest(otherwise, "g", "y")}
          tosa.yield %y : tensor<1x1xi32>
        }}"""


def program_of(body: str) -> Program:
    program = parse(f"""func.func @main(%c: tensor<i1>, %h: tensor<1x1xi32>) -> tensor<1x1xi32> {{
        {body}
        return %r : tensor<1x1xi32> }}""")
    program.weights.add("short", SHORT)
    program.weights.add("long", LONG)
    return program


def weight_pages(program: WasmProgram) -> int:
    """The pages of weights that a message is said to read."""
    return (program.segments[0].reads >> program.data[0].address // PAGE_BYTES).bit_count()


@pytest.mark.parametrize(("then", "otherwise"), [("short", "long"), ("long", "short")])
def test_the_longer_weights_stand_for_both(then, otherwise):
    compiled = compile(program_of(branch(then, otherwise)), kernels=STORE)
    assert not compiled.segments[0].exact
    assert weight_pages(compiled) == 7
    for flag, name in ((True, then), (False, otherwise)):
        used: list[SegmentRun] = []
        (found,) = run_segments(compiled, [np.array(flag), np.zeros((1, 1), np.int32)], used.append)
        assert found == {"short": SHORT, "long": LONG}[name].max()
        touched = used[0].usage.pages_read | used[0].usage.pages_written
        most = (compiled.segments[0].reads | compiled.segments[0].writes).bit_count()
        assert len(touched) == most - (0 if name == "long" else 4)


def test_weights_of_both_arms_are_paid_for():
    assert weight_pages(compile(program_of(branch("short", "short")), kernels=STORE)) == 3


def test_weights_that_are_read_elsewhere_are_paid_for():
    body = largest("short", "h", "z").replace("%short", "%w").replace("%m", "%v") + branch(
        "short", "long", floor="z"
    )
    assert weight_pages(compile(program_of(body), kernels=STORE)) == 10


def test_a_loop_may_run_both_arms():
    loop = f"""%zero = "tosa.const"() {{values = dense<0> : tensor<i32>}} : () -> tensor<i32>
        %q:3 = tosa.while_loop (%i = %zero, %a = %c, %b = %h) : (tensor<i32>, tensor<i1>, tensor<1x1xi32>)
            -> (tensor<i32>, tensor<i1>, tensor<1x1xi32>) {{
          %two = "tosa.const"() {{values = dense<2> : tensor<i32>}} : () -> tensor<i32>
          %more = tosa.greater %two, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
          tosa.yield %more : tensor<i1>
        }} do {{
        ^bb0(%j: tensor<i32>, %e: tensor<i1>, %k: tensor<1x1xi32>):
          %one = "tosa.const"() {{values = dense<1> : tensor<i32>}} : () -> tensor<i32>
          %l = tosa.add %j, %one : (tensor<i32>, tensor<i32>) -> tensor<i32>
          %not = tosa.logical_not %e : (tensor<i1>) -> tensor<i1>
          {branch("short", "long", "e", "k")}
          tosa.yield %l, %not, %r : tensor<i32>, tensor<i1>, tensor<1x1xi32>
        }}"""
    program = program_of(f"{loop}\n%r = tosa.identity %q#2 : (tensor<1x1xi32>) -> tensor<1x1xi32>")
    assert weight_pages(compile(program, kernels=STORE)) == 10
