"""The cut is the best one there is, and the segments compute what the program computed."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting_model import CHAIN, CountingModel, program_of
from tosaic_passes.cost_model import Charge, KernelCost, message_instructions
from tosaic_passes.errors import LimitTooSmallError, TosaicError
from tosaic_passes.functions import find_function, segments
from tosaic_passes.pipeline import run_pipeline
from tosaic_passes.program import Program
from tosaic_passes.split_execution import SplitExecutionPass, _Messages, best_cuts

MODEL = CountingModel()


class UnevenModel(CountingModel):
    """Callees and callbacks take turns: they pay differently, and only a callback can reply at the end."""

    closing_instructions = 11

    def overhead(self, program, index, last):
        return super().overhead(program, index, last) + Charge(40 * (index % 2))

    def closing(self, program, segments):
        return None if segments % 2 else Charge(self.closing_instructions, reads=15)


class DearClosingModel(UnevenModel):
    """A message that only replies takes as much as some limits allow."""

    closing_instructions = 600


def costs_of(model, kernels, cuts):
    """The cost of each message under these cuts, computed from the definition."""
    bounds = [0, *cuts, len(kernels)]
    charges = []
    for index, (start, end) in enumerate(itertools.pairwise(bounds)):
        charge = sum((k.charge for k in kernels[start:end]), Charge())
        charges.append(charge + model.overhead(None, index, end == len(kernels)))
    closing = model.closing(None, len(charges))
    return [message_instructions(model, charge) for charge in [*charges, *([closing] if closing else [])]]


def brute_force(model, kernels, limit):
    """(messages, instructions, cuts) of the best cut, None where there is none."""
    inner = range(1, len(kernels))
    fitting = [
        (len(costs), sum(costs), cuts)
        for count in range(len(kernels))
        for cuts in itertools.combinations(inner, count)
        if max(costs := costs_of(model, kernels, cuts)) <= limit
    ]
    return min(fitting, default=None)


def smallest_dearest_message(model, kernels):
    """Of all cuts, what the dearest message takes in the one where it takes least."""
    inner = range(1, len(kernels))
    return min(
        max(costs_of(model, kernels, cuts))
        for count in range(len(kernels))
        for cuts in itertools.combinations(inner, count)
    )


OP = SimpleNamespace(name="t.op", location=None)


def test_the_limit_that_a_refusal_names_works():
    copy = KernelCost((), (), Charge(900))
    for kernels in ([copy], [copy, KernelCost((OP,), (1,), Charge(1))]):
        with pytest.raises(TosaicError, match=r"the limit is 300; a limit of (\d+) or more works") as error:
            best_cuts(kernels, 300, _Messages(UnevenModel(), None))
        enough = int(re.search(r"a limit of (\d+)", str(error.value))[1])
        best_cuts(kernels, enough, _Messages(UnevenModel(), None))


kernel = st.builds(
    lambda instructions, reads, writes: KernelCost(
        (OP,), (instructions,), Charge(instructions, reads, writes)
    ),
    st.integers(0, 400) | st.sampled_from([0, 100, 200]),  # ties
    st.integers(0, 31),
    st.integers(0, 31),
)


@pytest.mark.parametrize(
    "model", [CountingModel(), UnevenModel(), DearClosingModel()], ids=["even", "uneven", "dear"]
)
@given(kernels=st.lists(kernel, min_size=1, max_size=7), limit=st.integers(300, 3000))
def test_no_cut_is_better(model, kernels, limit):
    expected = brute_force(model, kernels, limit)
    messages = _Messages(model, None)
    if expected is None:
        with pytest.raises(LimitTooSmallError) as error:
            best_cuts(kernels, limit, messages)
        assert error.value.needed == smallest_dearest_message(model, kernels)
    else:
        assert best_cuts(kernels, limit, messages) == expected[2]


def test_the_message_that_only_replies_has_the_same_limit():
    kernels = [KernelCost((OP,), (200,), Charge(200))] * 2
    messages = _Messages(UnevenModel(), None)
    assert messages.closing_cost(2) == 411
    assert best_cuts(kernels, 411, messages) == (1,)
    with pytest.raises(TosaicError, match="the reply needs 411 instructions"):
        best_cuts(kernels, 410, messages)


def split(program: Program, limit: int) -> list:
    run_pipeline(program, [SplitExecutionPass(limit, MODEL)])
    return segments(program.module)


def body_of(function) -> list[str]:
    return [op.operation.name for op in function.entry_block.operations]


def test_a_program_that_fits_is_one_segment():
    program = program_of(CHAIN)
    (function,) = split(program, 10**6)
    assert body_of(function) == ["tosa.const", "tosa.abs", "tosa.add", "tosa.add", "func.return"]


def test_constants_go_where_they_are_read():
    program = program_of(CHAIN)
    first, second, third = split(program, 450)
    assert body_of(first) == ["tosa.abs", "func.return"]
    assert body_of(second) == ["tosa.const", "tosa.add", "func.return"]
    assert body_of(third) == ["tosa.add", "func.return"]
    assert body_of(find_function(program.module, "main")) == ["func.call"] * 3 + ["func.return"]


def test_a_value_that_a_later_segment_reads_goes_around_the_one_between():
    program = program_of(CHAIN)
    split(program, 450)
    main = find_function(program.module, "main")
    calls = [op.operation for op in main.entry_block.operations][:3]
    assert list(calls[2].operands) == [calls[1].results[0], calls[0].results[0]]


def test_segments_carry_their_figures():
    program = program_of(CHAIN)
    figures = [
        (f.attributes["ic.instructions"].value, f.attributes["ic.message_instructions"].value)
        for f in split(program, 450)
    ]
    assert figures == [(100, 100 + 7 + 150), (200, 200 + 3 + 100), (300, 300 + 3 + 5 + 100)]


def test_a_kernel_is_never_torn():
    grouped = CHAIN.replace("t.instructions", "t.group = 0 : i64, t.instructions", 1)
    grouped = grouped.replace("{t.instructions = 200", "{t.group = 0 : i64, t.instructions = 200")
    program = program_of(grouped)
    first, second = split(program, 500)
    assert body_of(first) == ["tosa.const", "tosa.abs", "tosa.add", "func.return"]
    assert body_of(second) == ["tosa.add", "func.return"]


def test_limit_below_one_kernel_names_the_op_and_a_limit_that_works():
    with pytest.raises(TosaicError) as error:
        split(program_of(CHAIN), 400)
    assert str(error.value) == (
        "tosa.add needs 408 instructions in one message, the limit is 400; a limit of 408 or more works"
    )
    program = program_of(CHAIN)
    assert len(split(program, 408)) == 3


def test_the_name_of_the_node_is_in_the_message():
    body = CHAIN.replace("tensor<4xf32>\n  return", 'tensor<4xf32> loc("/head/Add")\n  return')
    body = body.replace("= 300", "= 3000")
    with pytest.raises(TosaicError, match=r"tosa\.add '/head/Add' needs 3,108 instructions"):
        split(program_of(body), 200)


def test_upper_bounds_are_marked():
    body = CHAIN.replace("t.instructions = 200", "t.bound, t.instructions = 200")
    program = program_of(body)
    assert ["ic.upper_bound" in f.attributes for f in split(program, 450)] == [False, True, False]


def test_a_program_without_kernels_is_one_empty_segment():
    program = program_of("return %x : tensor<4xf32>")
    (function,) = split(program, 10**6)
    assert body_of(function) == ["func.return"]


def test_values_read_inside_regions_cross_the_cut():
    body = """
      %0 = tosa.abs %x {t.instructions = 100 : i64} : (tensor<4xf32>) -> tensor<4xf32>
      %1 = tosa.cond_if %p : tensor<i1> -> tensor<4xf32> {
        tosa.yield %0 : tensor<4xf32>
      } else {
        tosa.yield %x : tensor<4xf32>
      } {t.instructions = 100 : i64}
      return %1 : tensor<4xf32>"""
    program = program_of(body, "%x: tensor<4xf32>, %p: tensor<i1>")
    _, second = split(program, 300)
    assert len(second.entry_block.arguments) == 3
    assert program.module.operation.verify()
