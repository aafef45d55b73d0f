"""SHA-256 in WebAssembly against hashlib; its cost against the meter."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from tosaic.canister.sha256 import block_cost, compression, initial_state, last_block
from tosaic.prices import PriceList
from tosaic.replica import instantiate
from tosaic.wasm.module import Module

PRICES = PriceList.load()
STATE, DATA = 0, 64


@pytest.mark.parametrize("blocks", [1, 2, 3, 40])
def test_digest_and_cost(blocks: int) -> None:
    size = 64 * blocks
    data = np.random.default_rng(blocks).bytes(size)
    function = compression(PRICES, blocks)
    instance = instantiate(Module(1, {"sha256": function}).encode(), PRICES)
    instance.write(STATE, initial_state())
    instance.write(DATA, data + last_block(size))
    assert instance.call("sha256", STATE, DATA, DATA + size).instructions == function.cost
    instance.call("sha256", STATE, DATA + size, DATA + size + 64)
    words = struct.unpack(">8I", hashlib.sha256(data).digest())
    assert instance.read(STATE, 32) == struct.pack("<8I", *words)


def test_each_block_costs_the_same() -> None:
    assert compression(PRICES, 40).cost - compression(PRICES, 10).cost == 30 * block_cost(PRICES)
