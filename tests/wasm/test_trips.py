"""Bounds on trips against loops that are simply run."""

import pytest

from tosaic.errors import TosaicError
from tosaic.wasm.translate import read
from wasm.test_program import parse

LOOP = """func.func @main(%x: tensor<i32>) -> tensor<i32> {{
  %start = "tosa.const"() {{values = dense<{start}> : tensor<i32>}} : () -> tensor<i32>
  %r = tosa.while_loop (%i = {first}) : (tensor<i32>) -> tensor<i32> {{
    %limit = "tosa.const"() {{values = dense<{limit}> : tensor<i32>}} : () -> tensor<i32>
    %c = tosa.{compare} {operands} : (tensor<i32>, tensor<i32>) -> tensor<i1>
    tosa.yield %c : tensor<i1>
  }} do {{
  ^bb0(%k: tensor<i32>):
    %step = "tosa.const"() {{values = dense<{step}> : tensor<i32>}} : () -> tensor<i32>
    %j = tosa.{change} %k, %step : (tensor<i32>, tensor<i32>) -> tensor<i32>
    tosa.yield %j : tensor<i32>
  }}
  return %r : tensor<i32>
}}"""

UP, DOWN = "%limit, %i", "%i, %limit"


def trips(start, change, step, compare, operands, limit, first="%start"):
    text = LOOP.format(**locals())
    (node,) = read(parse(text)).nodes
    return node.attributes["most_trips"]


@pytest.mark.parametrize("compare", ["greater", "greater_equal"])
@pytest.mark.parametrize(("change", "operands"), [("add", UP), ("sub", DOWN)])
@pytest.mark.parametrize("start", [-4, 0, 5])
@pytest.mark.parametrize("step", [1, 3])
def test_bound_is_the_number_of_trips(start, change, step, compare, operands):
    limit, count, i = 2, 0, start
    sign = 1 if change == "add" else -1
    while sign * i < sign * limit or (compare == "greater_equal" and i == limit):
        i, count = i + sign * step, count + 1
    assert trips(start, change, step, compare, operands, limit) == count


@pytest.mark.parametrize(
    "case",
    [
        (0, "sub", 1, "greater", UP, 5),
        (0, "add", 0, "greater", UP, 5),
        (0, "add", 1, "greater_equal", UP, 2**31 - 1),
        (0, "add", 7, "greater", UP, 2**31 - 1),
        (0, "sub", 1, "greater_equal", DOWN, -(2**31)),
        (0, "add", 1, "greater", UP, 5, "%x"),
    ],
    ids=["away", "still", "wraps", "wraps in steps", "wraps below", "start depends on data"],
)
def test_no_bound_is_invented(case):
    with pytest.raises(TosaicError, match="without a bound"):
        trips(*case)
