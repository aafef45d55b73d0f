"""The price list answers as its document says."""

from __future__ import annotations

import pytest

from tosaic.prices import PriceList


@pytest.mark.parametrize(
    ("instructions", "rounds"), [(1, 1), (2_000_000_000, 1), (2_000_000_001, 2), (40_000_000_000, 20)]
)
def test_a_message_takes_a_round_for_each_started_slice(instructions: int, rounds: int) -> None:
    assert PriceList.load().rounds(instructions) == rounds
