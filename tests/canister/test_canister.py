"""Canisters of small programs written by hand, run in the replica: results, exact prediction, refusals, recovery."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy)
import numpy as np
import pytest

from chained_program import ARGUMENT, POISON, PRICES, VALUES, check, copying, program, rejection
from copying_program import prices_with
from proxy_canister import Proxy
from tosaic.canister import Canister, assemble, message_overhead
from tosaic.errors import TosaicError
from tosaic.replica import Replica, Response
from tosaic.replica.message import Reject
from tosaic.tensors.candid import TensorType, decode, decode_values, encode
from tosaic.tensors.dtypes import dtype_of


def install(segments: int, **limits: int):
    canister = assemble(program(segments), PRICES)
    return canister, Replica(PRICES, **limits).install(canister.wasm)


def planned(canister: Canister) -> list[tuple]:
    return [(m.name, m.kind, m.instructions(PRICES), m.page_touch(PRICES)) for m in canister.messages]


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 7])
def test_every_message_takes_what_was_predicted(segments: int) -> None:
    canister, installed = install(segments)
    for _ in range(2):
        response = installed.update("infer", ARGUMENT)
        check(response, segments)
        assert [(m.name, m.kind, m.metered, m.page_touch) for m in response.messages] == planned(canister)


@pytest.mark.parametrize(("segments", "messages"), [(1, 1), (2, 3), (3, 3), (4, 5), (5, 5)])
def test_callee_and_callback_take_turns(segments: int, messages: int) -> None:
    assert len(assemble(program(segments), PRICES).messages) == messages


def test_cycles_are_those_of_ingress_calls_and_executions() -> None:
    messages = assemble(program(3), PRICES).messages
    fees = [
        message.cycles(PRICES) - message.instructions(PRICES) * PRICES.cycles["per_instruction"]
        for message in messages
    ]
    started, sent = 5_000_000, 2_000 * len(b"infer" + ARGUMENT)
    assert [m.kind for m in messages] == ["update", "update", "reply callback"]
    assert fees == [started + 1_200_000 + sent, started + 260_000 + 1_000 * len(b"step"), started]


def test_a_query_is_free() -> None:
    query = assemble(program(1), PRICES).query
    assert query is not None
    assert query.cycles(PRICES) == 0


def test_query_takes_what_was_predicted() -> None:
    canister, installed = install(1)
    response = installed.query("infer_query", ARGUMENT)
    check(response, 1)
    assert canister.query is not None
    assert response.messages[0].metered == canister.query.instructions(PRICES)
    assert canister.query.instructions(PRICES) < canister.messages[0].instructions(PRICES)


def test_a_program_in_pieces_has_no_query() -> None:
    canister, installed = install(2)
    assert canister.query is None
    assert "no query method" in rejection(installed.query("infer_query", ARGUMENT))


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (b"", "wrong length"),
        (ARGUMENT[:-1], "wrong length"),
        (ARGUMENT + b"\0", "wrong length"),
        (b"DIDX" + ARGUMENT[4:], "other types or lengths"),
        (ARGUMENT.replace(b"\x6d\x73", b"\x6d\x75"), "other types or lengths"),
        (ARGUMENT[:-17] + b"\x01" + ARGUMENT[-16:], "other types or lengths"),
        (encode([np.zeros(4, np.float32), np.array([0, 1 << 31])]), "cannot hold"),
        (encode([np.zeros(4, np.float32), np.array([-(1 << 31) - 1, 0])]), "cannot hold"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("segments", [1, 3])
def test_refuses_malformed_arguments(segments: int, argument: bytes, text: str) -> None:
    _, installed = install(segments)
    assert text in rejection(installed.update("infer", argument))
    check(installed.update("infer", ARGUMENT), segments)


def steps_of(installed, count: int):
    """A call of `infer` after so many messages."""
    ticket = installed.submit("infer", ARGUMENT)
    for _ in range(count):
        installed.replica.step()
    return ticket


@pytest.mark.parametrize("executed", [1, 2])
def test_an_upgrade_waits_for_a_running_inference(executed: int) -> None:
    canister, installed = install(3)
    ticket = steps_of(installed, executed)
    with pytest.raises(TosaicError, match="an inference is running: stop the canister first"):
        installed.upgrade(canister.wasm)
    while installed.replica.step():
        pass
    assert isinstance(ticket.result, bytes)
    installed.upgrade(canister.wasm)
    check(installed.update("infer", ARGUMENT), 3)


@pytest.mark.parametrize(
    ("executed", "text"), [(1, "no inference is running"), (2, "tensors of this inference are lost")]
)
def test_an_inference_of_a_canister_that_is_installed_anew_gives_no_numbers(executed: int, text: str) -> None:
    canister, installed = install(3)
    ticket = steps_of(installed, executed)
    installed.reinstall(canister.wasm)
    while installed.replica.step():
        pass
    assert isinstance(ticket.result, Reject)
    assert text in ticket.result.text
    check(installed.update("infer", ARGUMENT), 3)


def test_a_second_caller_is_told_to_wait() -> None:
    _, installed = install(5)
    first, second = installed.submit("infer", ARGUMENT), installed.submit("infer", ARGUMENT)
    while installed.replica.step():
        pass
    assert isinstance(second.result, Reject)
    assert "another inference is running" in second.result.text
    assert isinstance(first.result, bytes)
    check(Response(first.result, ()), 5)
    check(installed.update("infer", ARGUMENT), 5)


@pytest.mark.parametrize("executed", [1, 2, 3])
def test_stopping_the_canister_ends_an_inference_and_frees_it(executed: int) -> None:
    _, installed = install(5)
    ticket = installed.submit("infer", ARGUMENT)
    for _ in range(executed):
        installed.replica.step()
    installed.stop()
    while installed.replica.step():
        pass
    assert isinstance(ticket.result, Reject)
    assert "is stopped" in ticket.result.text
    installed.start()
    check(installed.update("infer", ARGUMENT), 5)


def test_progress() -> None:
    _, installed = install(5)
    installed.submit("infer", ARGUMENT)
    seen = []
    while installed.replica.step():
        seen.append(tuple(decode_values(installed.query("progress", b"DIDL\0\0").reply)))
    assert seen == [(1, 5), (1, 5), (3, 5), (3, 5), (0, 5)]


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_a_trap_reaches_the_caller_and_frees_the_canister(k: int) -> None:
    _, installed = install(4)
    x = np.ones(4, np.float32)
    x[k] = POISON
    response = installed.update("infer", encode([x, np.zeros(2, np.int64)]))
    assert "unreachable" in rejection(response)
    with pytest.raises(TosaicError, match="index lies outside of its table"):
        _ = response.reply
    check(installed.update("infer", ARGUMENT), 4)


def test_exceeding_the_limit_frees_the_canister() -> None:
    canister = assemble(program(3), PRICES)
    limit = canister.messages[2].instructions(PRICES)
    assert limit < canister.messages[0].instructions(PRICES)
    installed = Replica(PRICES, update_limit=limit).install(canister.wasm)
    for _ in range(2):
        assert "instruction limit" in rejection(installed.update("infer", ARGUMENT))


@pytest.mark.parametrize("executed", [0, 1, 2])
def test_a_canister_that_cannot_call_itself_says_so_and_is_free(executed: int) -> None:
    """The queue is full, or the cycles for a further message are not there: at the first or at a later call."""
    prices = prices_with()
    installed = Replica(prices).install(assemble(program(5), prices).wasm)
    ticket = steps_of(installed, executed)
    most = prices.document["limits"]["queued_calls"]
    prices.document["limits"]["queued_calls"] = 0
    while installed.replica.step():
        pass
    assert isinstance(ticket.result, Reject)
    assert "cannot call itself now" in ticket.result.text
    prices.document["limits"]["queued_calls"] = most
    check(installed.update("infer", ARGUMENT), 5)


def test_only_the_canister_itself_may_call_step() -> None:
    _, installed = install(3)
    proxy = Proxy(installed.replica)
    assert "no inference is running" in rejection(proxy.call(installed.id, "step", b""))
    first = installed.submit("infer", ARGUMENT)
    other = proxy.submit(installed.id, "step", b"")
    while installed.replica.step():
        pass
    assert isinstance(other.result, Reject)
    assert "only the canister itself" in other.result.text
    assert isinstance(first.result, bytes)
    check(Response(first.result, ()), 3)


def test_info_and_interface() -> None:
    canister = assemble(program(1), PRICES, '{"model": "sum"}')
    installed = Replica(PRICES).install(canister.wasm)
    assert decode_values(installed.query("info", b"DIDL\0\0").reply) == ['{"model": "sum"}']
    assert "infer : (x : vec float32, n : vec int64) -> (y : vec float32, m : vec int64);" in canister.did
    assert canister.module.custom["icp:public candid:service"] == canister.did.encode()


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 5])
def test_overhead_and_segments_add_up(segments: int) -> None:
    whole = program(segments)
    for k, message in enumerate(assemble(whole, PRICES).messages[:segments]):
        overhead = message_overhead(whole, PRICES, k, last=k == segments - 1)
        code = whole.segments[k]
        assert (
            overhead.instructions + code.function.cost - PRICES.function_entry == message.charge.instructions
        )
        assert overhead.reads | code.reads == message.charge.reads
        assert overhead.writes | code.writes == message.charge.writes


@pytest.mark.parametrize(("dtype", "element"), VALUES)
def test_the_border_keeps_onnx_dtypes(dtype: str, element: str) -> None:
    canister = assemble(copying(dtype, element, 3), PRICES)
    array = np.array(VALUES[dtype, element]).astype(dtype_of(dtype))
    response = Replica(PRICES).install(canister.wasm).update("infer", encode([array]))
    (found,) = decode(response.reply, [TensorType(dtype, (3,))])
    right = array.astype(np.float32).astype(np.float64) if dtype == "float64" else array
    assert found.dtype == right.dtype
    np.testing.assert_array_equal(found, right)
    assert response.messages[0].metered == canister.messages[0].instructions(PRICES)


@pytest.mark.parametrize(
    ("dtype", "element", "carrier", "value"),
    [
        ("bool", "i1", "uint8", 2), ("uint4", "i8", "uint8", 16), ("int4", "i8", "int8", 8), ("int4", "i8", "int8", -9),
        ("int64", "i32", "int64", 2**31), ("int64", "i32", "int64", -(2**31) - 1), ("uint64", "i32", "uint64", 2**32),
        ("int64", "i32", "int64", -(2**63)), ("int64", "i48", "int64", 2**47), ("int64", "i48", "int64", -(2**47) - 1),
    ],
)  # fmt: skip
def test_refuses_values_that_do_not_fit(dtype: str, element: str, carrier: str, value: int) -> None:
    canister = assemble(copying(dtype, element, 3), PRICES)
    good = encode([np.zeros(3, dtype_of(dtype))])
    data = np.array([0, value, 0], carrier).tobytes()
    installed = Replica(PRICES).install(canister.wasm)
    assert "cannot hold" in rejection(installed.update("infer", good[: -len(data)] + data))
