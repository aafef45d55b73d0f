"""The least room for which there are parts is found, not guessed."""

from __future__ import annotations

import pytest

from passes.test_tile_operators import CASES
from tosaic_passes.functions import find_function
from tosaic_passes.tile_expression import Expression, is_constant
from tosaic_passes.tile_search import TilingSearch
from wasm.test_program import cost_model, parse


@pytest.mark.parametrize("case", [case for case in CASES if case != "loop"])
def test_there_are_parts_for_the_least_cost_and_none_below(case: str) -> None:
    program, model = parse(CASES[case]), cost_model()
    with program.context:
        for kernel in model.kernels(program):
            expression = Expression.of(kernel.ops)
            assert expression is not None
            search = TilingSearch(expression, kernel.charge, model)
            least = search.least_cost()
            assert search.best(least) is not None
            assert search.best(least - 1) is None


@pytest.mark.parametrize(("first", "known"), [("%x", False), ("%c", True)])
def test_what_is_known_is_told_however_long_the_way_to_it(first: str, known: bool) -> None:
    lines = [
        f"%{i} = tosa.abs {f'%{i - 1}' if i else first} : (tensor<3xi32>) -> tensor<3xi32>"
        for i in range(1500)
    ]
    program = parse(f"""func.func @main(%x: tensor<3xi32>) -> tensor<3xi32> {{
        %c = "tosa.const"() {{values = dense<5> : tensor<3xi32>}} : () -> tensor<3xi32>
        {chr(10).join(lines)}
        return %1499 : tensor<3xi32> }}""")
    last = list(find_function(program.module, "main").entry_block.operations)[-1]
    assert is_constant(last.operands[0]) is known
