"""A limit that works is found in few tries, however little a failure says."""

from __future__ import annotations

import pytest

from counting_model import CHAIN, CountingModel, program_of
from tosaic_passes import smallest_limit as module
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.smallest_limit import PRECISION, smallest_limit


@pytest.mark.parametrize(
    "says", [lambda limit, least: least, lambda limit, least: limit + 1], ids=["all", "little"]
)
def test_both_limits_were_tried_and_are_close(says, monkeypatch) -> None:
    least, tried = 123_456, {}

    def fail_below(program, limit, model):
        tried[limit] = limit >= least
        return None if tried[limit] else LimitTooSmallError("an op", says(limit, least), limit)

    monkeypatch.setattr(module, "_failure", fail_below)
    error = LimitTooSmallError("an op", says(100_000, least), 100_000)
    found = str(smallest_limit(program_of(CHAIN), error, CountingModel()))
    works = min(limit for limit, works in tried.items() if works)
    fails = max([100_000, *(limit for limit, works in tried.items() if not works)])
    assert found.endswith(f"a limit of {works} works, one of {fails} does not")
    assert works - fails <= PRECISION * works + 1
    assert len(tried) < 40


def test_the_program_stays_as_it_is() -> None:
    program = program_of(CHAIN)
    before = str(program.module)
    error = LimitTooSmallError("an op", 401, 400)
    assert str(smallest_limit(program, error, CountingModel())) == (
        "tosa.add needs 403 instructions in one message, the limit is 400; a limit of 405 works, one of 401 does not"
    )
    assert str(program.module) == before
