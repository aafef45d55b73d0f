"""The least room for which there are parts is found, not guessed."""

from __future__ import annotations

import pytest

from passes.test_tile_operators import CASES
from tosaic_passes.tile_expression import Expression
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
