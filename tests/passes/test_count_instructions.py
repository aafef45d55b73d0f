"""Counting writes the shares of the ops, and they add up."""

from __future__ import annotations

import pytest

from counting_model import CHAIN, CountingModel, program_of
from tosaic_passes.count_instructions import CountInstructionsPass
from tosaic_passes.functions import find_function, segments
from tosaic_passes.pipeline import run_pipeline
from tosaic_passes.split_execution import SplitExecutionPass


@pytest.fixture
def model():
    return CountingModel()


def figures(function):
    found = [(op.operation.name, op.attributes) for op in function.entry_block.operations]
    return {name: a["ic.instructions"].value for name, a in found if "ic.instructions" in a}


def test_every_op_has_its_share_and_main_the_total(model):
    program = program_of(CHAIN.replace("tosa.add %1, %0", "tosa.sub %1, %0"))
    run_pipeline(program, [CountInstructionsPass(model)])
    main = find_function(program.module, "main")
    assert figures(main) == {"tosa.abs": 100, "tosa.add": 200, "tosa.sub": 300}
    assert main.attributes["ic.instructions"].value == 600
    assert "ic.upper_bound" not in main.attributes


def test_counting_a_program_in_segments_gives_the_same(model):
    program = program_of(CHAIN.replace("tosa.add %1, %0", "tosa.sub %1, %0"))
    run_pipeline(program, [SplitExecutionPass(450, model), CountInstructionsPass(model)])
    assert [figures(f) for f in segments(program.module)] == [
        {"tosa.abs": 100},
        {"tosa.add": 200},
        {"tosa.sub": 300},
    ]
    assert find_function(program.module, "main").attributes["ic.instructions"].value == 600


def test_a_total_with_a_bound_in_it_is_marked(model):
    program = program_of(CHAIN.replace("t.instructions = 200", "t.bound, t.instructions = 200"))
    run_pipeline(program, [CountInstructionsPass(model)])
    assert "ic.upper_bound" in find_function(program.module, "main").attributes
