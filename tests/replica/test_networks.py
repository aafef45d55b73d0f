"""What a canister does is the same on every network: the replica, a stand-in for PocketIC, and PocketIC itself."""

from __future__ import annotations

import numpy as np
import pytest

from chained_program import ARGUMENT, POISON, PRICES, check, program, rejection
from copying_program import copying_program, numbers, tensor_types
from tosaic.canister import Canister, assemble
from tosaic.canister.client import Cost, infer, infer_cbor, last_cost
from tosaic.policy import Access, Policy
from tosaic.replica import InstalledCanister, Replica
from tosaic.replica.pocket_ic import PocketIcCanister
from tosaic.tensors.candid import decode_values, encode

FRIEND, STRANGER = b"\x08" * 10, b"\x09" * 29
LARGE = 540_000
"""So many numbers that no message carries them: three parts."""


def install(canister: Canister, network: str) -> InstalledCanister | PocketIcCanister:
    if network == "replica":
        return Replica(PRICES).install(canister.wasm)
    return PocketIcCanister(canister.wasm, PRICES)


def predicted(messages) -> Cost:
    counts = tuple(message.instructions(PRICES) for message in messages if message.kind != "query")
    return Cost(sum(counts), counts)


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_the_network_counts_what_was_predicted(segments: int, network: str) -> None:
    canister = assemble(program(segments), PRICES)
    installed = install(canister, network)
    for _ in range(2):
        check(installed.update("infer", ARGUMENT), segments)
        assert last_cost(installed) == predicted(canister.messages)


def test_parts_and_cbor(network: str) -> None:
    canister = assemble(copying_program(PRICES, 2, LARGE), PRICES)
    installed = install(canister, network)
    x, y = tensor_types(LARGE)
    found = infer(installed, [x], [y], [numbers(LARGE)], PRICES)
    np.testing.assert_array_equal(found.outputs[0], numbers(LARGE))
    assert last_cost(installed) == predicted(canister.messages)
    assert [message.name for message in canister.messages].count("put") == 3
    small = assemble(copying_program(PRICES, 2), PRICES)
    installed = install(small, network)
    x, y = tensor_types()
    (output,) = infer_cbor(installed, [x], [y], [numbers()]).outputs
    np.testing.assert_array_equal(output, numbers())
    assert last_cost(installed) == predicted(small.cbor)


def test_a_query_gives_the_same_and_keeps_nothing(network: str) -> None:
    installed = install(assemble(program(1), PRICES), network)
    check(installed.query("infer_query", ARGUMENT), 1)
    assert last_cost(installed) == Cost(0, ())
    assert decode_values(installed.query("progress", encode([])).reply) == [0, 1]


def test_refusals_change_nothing(network: str) -> None:
    canister = assemble(program(3), PRICES)
    installed = install(canister, network)
    wrong = ARGUMENT.replace(b"\x6d\x73", b"\x6d\x75")
    misfit = encode([np.zeros(4, np.float32), np.array([1 << 31, 0])])
    for argument, text in ((b"", "wrong length"), (wrong, "other types"), (misfit, "cannot hold")):
        response = installed.update("infer", argument)
        assert text in rejection(response)
        assert response.result.code == 4
    assert "no query method" in rejection(installed.query("infer_query", ARGUMENT))
    assert installed.update("step").result.code == 4
    check(installed.update("infer", ARGUMENT), 3)
    assert last_cost(installed) == predicted(canister.messages)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_trap_reaches_the_caller_and_frees_the_canister(k: int, network: str) -> None:
    installed = install(assemble(program(3), PRICES), network)
    x = np.ones(4, np.float32)
    x[k] = POISON
    response = installed.update("infer", encode([x, np.zeros(2, np.int64)]))
    assert "unreachable" in rejection(response)
    assert last_cost(installed) == Cost(0, ())
    check(installed.update("infer", ARGUMENT), 3)


def test_access(network: str) -> None:
    policy = Policy(Access(principals=(FRIEND,)))
    installed = install(assemble(copying_program(PRICES), PRICES, policy=policy), network)
    argument = encode([numbers()])
    assert installed.update("infer", argument, FRIEND).reply == argument
    assert installed.query("infer_query", argument, FRIEND).reply == argument
    assert installed.update("infer", argument, STRANGER).result.code == 4
    assert "lets only these call it" in rejection(installed.query("infer_query", argument, STRANGER))
    assert "lets only these call it" in rejection(installed.query("last_cost", encode([]), STRANGER))
