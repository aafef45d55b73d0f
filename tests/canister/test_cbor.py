"""`infer_cbor` of small canisters: one blob in and one out, the same inference as `infer`, with a count of its own."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_program import (
    ARGUMENT,
    PRICES,
    RESULTS,
    VALUES,
    check,
    copying,
    copying_all,
    expected,
    program,
    rejection,
)
from chained_program import X as X_ADDRESS
from copying_program import copying_program, prices_with
from proxy_canister import Proxy
from tosaic.canister import Canister, assemble
from tosaic.canister.parts import put_argument
from tosaic.policy import Policy
from tosaic.replica import Replica, Response
from tosaic.tensors.candid import decode, decode_values, encode
from tosaic.tensors.cbor import read_cbor, write_cbor
from tosaic.tensors.dtypes import dtype_of
from tosaic.wasm.program import BorderTensor

X, N = decode(ARGUMENT, [replace(RESULTS[0], name="x"), replace(RESULTS[1], name="n")])


def blob(item: bytes) -> bytes:
    return encode([np.frombuffer(item, np.uint8)])


def item(**tensors: np.ndarray) -> bytes:
    return b"".join(write_cbor(tensors))


def replied(response: Response) -> bytes:
    (data,) = decode_values(response.reply)
    return bytes(data)


def check_cbor(response: Response, segments: int) -> None:
    y, m = expected(segments)
    assert replied(response) == item(y=y, m=m)


def planned(canister: Canister) -> list[tuple]:
    assert canister.cbor is not None
    return [(m.name, m.kind, m.instructions(PRICES), m.page_touch(PRICES)) for m in canister.cbor]


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 7])
def test_every_message_takes_what_was_predicted(segments: int) -> None:
    canister = assemble(program(segments), PRICES)
    installed = Replica(PRICES).install(canister.wasm)
    for _ in range(2):
        response = installed.update("infer_cbor", blob(item(x=X, n=N)))
        check_cbor(response, segments)
        assert [(m.name, m.kind, m.metered, m.page_touch) for m in response.messages] == planned(canister)
        check(installed.update("infer", ARGUMENT), segments)


def test_the_messages_between_the_ends_take_the_same() -> None:
    canister = assemble(program(5), PRICES)
    assert canister.cbor is not None
    between = [(a.charge, b.charge) for a, b in list(zip(canister.messages, canister.cbor))[1:-1]]
    assert len(between) == 3
    assert all(candid == cbor for candid, cbor in between)


def test_a_library_writes_the_argument_and_reads_the_reply() -> None:
    def tensor(tag: int, array: np.ndarray) -> cbor2.CBORTag:
        return cbor2.CBORTag(40, (array.shape, cbor2.CBORTag(tag, array.tobytes())))

    argument = cbor2.dumps({"x": tensor(85, X), "n": tensor(79, N)}, canonical=True)
    reply = Replica(PRICES).install(assemble(program(1), PRICES).wasm).update("infer_cbor", blob(argument))
    found = cbor2.loads(replied(reply))
    assert found == {"m": tensor(79, N), "y": tensor(85, X)}


GOOD = item(x=X, n=N)
OTHERS = {
    "nothing": b"",
    "no blob": ARGUMENT,
    "another order": b"\xa2" + item(x=X)[1:] + item(n=N)[1:],
    "another name": GOOD.replace(b"\x61x", b"\x61y"),
    "another dtype": item(x=X, n=N.view(np.uint64)),
    "another shape": item(x=X.reshape(2, 2), n=N),
    "another length": item(x=X[:3], n=N),
    "one tensor too few": item(x=X),
    "one tensor too many": item(x=X, n=N, z=N),
    "a length that is not the shortest": GOOD.replace(b"\xd8\x4f\x50", b"\xd8\x4f\x58\x10"),
    "a value that does not fit": item(x=X, n=np.array([0, 1 << 31])),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("segments", [1, 3])
def test_refuses_other_arguments(segments: int, kind: str) -> None:
    installed = Replica(PRICES).install(assemble(program(segments), PRICES).wasm)
    argument = OTHERS[kind] if kind in ("nothing", "no blob") else blob(OTHERS[kind])
    text = rejection(installed.update("infer_cbor", argument))
    assert (
        "cannot hold" if "not fit" in kind else "infer_cbor expects a blob with the canonical CBOR"
    ) in text
    check_cbor(installed.update("infer_cbor", blob(GOOD)), segments)


def test_refuses_every_flipped_bit_that_is_not_data() -> None:
    installed = Replica(PRICES).install(assemble(program(1), PRICES).wasm)
    argument = blob(GOOD)
    data = {
        i
        for part in (X.tobytes(), N.tobytes())
        for i in range(argument.index(part), argument.index(part) + 16)
    }
    for position in sorted(set(range(len(argument))) - data):
        changed = bytearray(argument)
        changed[position] ^= 1 << position % 8
        assert "other types or lengths" in rejection(installed.update("infer_cbor", bytes(changed)))


@pytest.mark.parametrize("size", range(0, len(blob(GOOD)), 7))
def test_refuses_every_truncation(size: int) -> None:
    installed = Replica(PRICES).install(assemble(program(1), PRICES).wasm)
    assert "wrong length" in rejection(installed.update("infer_cbor", blob(GOOD)[:size]))


@pytest.mark.parametrize(("dtype", "element"), VALUES)
def test_every_dtype(dtype: str, element: str) -> None:
    canister = assemble(copying(dtype, element, 3), PRICES)
    array = np.array(VALUES[dtype, element]).astype(dtype_of(dtype))
    response = Replica(PRICES).install(canister.wasm).update("infer_cbor", blob(item(x=array)))
    found = read_cbor(memoryview(replied(response)))["y"]
    right = array.astype(np.float32).astype(np.float64) if dtype == "float64" else array
    assert found.dtype == right.dtype
    np.testing.assert_array_equal(found, right)
    assert [m.metered for m in response.messages] == [entry[2] for entry in planned(canister)]


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), max_size=6, unique=True
)


@st.composite
def borders(draw: st.DrawFn) -> tuple[list[BorderTensor], list[str], list[np.ndarray]]:
    """Inputs of any names, dtypes and shapes, the names of as many outputs, and values."""
    names, at, tensors, arrays = draw(NAMES), X_ADDRESS, [], []
    for name in names:
        dtype, element = draw(st.sampled_from([pair for pair in VALUES if pair[0] != "float64"]))
        shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 5, 24, 30]), max_size=3)))
        if prod(shape) > 600:
            shape = (300,)
        tensors.append(BorderTensor(name, dtype, element, shape, at))
        at += -(-tensors[-1].room // 16) * 16
        values = np.resize(np.array(VALUES[dtype, element]), shape)
        arrays.append(values.astype(dtype_of(dtype)))
    return tensors, draw(st.permutations(names)), arrays


@given(border=borders())
def test_any_border(border) -> None:
    tensors, outputs, arrays = border
    canister = assemble(copying_all(tensors, outputs), PRICES)
    argument = item(**{tensor.name: array for tensor, array in zip(tensors, arrays)})
    response = Replica(PRICES).install(canister.wasm).update("infer_cbor", blob(argument))
    assert replied(response) == item(**dict(zip(outputs, arrays)))
    assert [(m.name, m.kind, m.metered, m.page_touch) for m in response.messages] == planned(canister)


@pytest.mark.parametrize("segments", [1, 2])
def test_names_that_fill_the_control_region_stand_elsewhere(segments: int) -> None:
    small = copying_program(PRICES, segments)
    named = replace(small, inputs=(replace(small.inputs[0], name="é" * 3000),))
    canister = assemble(named, PRICES)
    x = np.arange(4, dtype=np.float32)
    response = Replica(PRICES).install(canister.wasm).update("infer_cbor", blob(item(**{"é" * 3000: x})))
    assert replied(response) == item(y=x)
    assert [(m.name, m.kind, m.metered, m.page_touch) for m in response.messages] == planned(canister)


SHORT_CALLS = prices_with(ingress_bytes=9_000, chunk_bytes=1_000)
"""Calls from outside carry 1,000 numbers only in parts; canisters of the same subnet carry them whole."""


@pytest.mark.parametrize("segments", [1, 3])
def test_canisters_send_what_others_send_in_parts(segments: int) -> None:
    x = np.arange(1_000, dtype=np.float32)
    canister = assemble(copying_program(SHORT_CALLS, segments, 1_000), SHORT_CALLS)
    replica = Replica(SHORT_CALLS)
    installed, proxy = replica.install(canister.wasm), Proxy(replica)
    begun = installed.update("put", put_argument(0, bytes(1_000)))
    assert begun.reply
    for wrong in (GOOD, item(x=x)[:-1], item(z=x)):
        assert "infer_cbor expects" in rejection(proxy.call(installed.id, "infer_cbor", blob(wrong)))
    assert installed.update("put", put_argument(1, bytes(1_000))).reply
    response = proxy.call(installed.id, "infer_cbor", blob(item(x=x)))
    assert replied(response) == item(y=x)
    metered = [m.metered for m in response.messages if "forward" not in m.name]
    assert canister.cbor is not None
    assert metered == [m.instructions(SHORT_CALLS) for m in canister.cbor]
    assert "begin with part 0" in rejection(installed.update("put", put_argument(2, bytes(1_000))))


@pytest.mark.parametrize("limits", [{"reply_bytes": 9_000}, {"same_subnet_request_bytes": 4_000}], ids=str)
def test_there_is_none_where_no_message_carries_the_tensors(limits: dict[str, int]) -> None:
    prices = prices_with(**limits)
    canister = assemble(copying_program(prices, size=1_000), prices)
    assert canister.cbor is None
    assert "infer_cbor" not in canister.did


def test_there_is_none_where_it_would_exceed_the_limit() -> None:
    canister = assemble(program(3), PRICES)
    assert canister.cbor is not None
    dearest = max(message.instructions(PRICES) for message in canister.cbor)
    assert assemble(program(3), PRICES, policy=Policy(limit_instructions=dearest)).cbor is not None
    short = assemble(program(3), PRICES, policy=Policy(limit_instructions=dearest - 1))
    assert short.cbor is None
    assert "canister_update infer_cbor" not in short.module.exports
    assert short.messages == canister.messages


def test_a_trap_and_a_second_caller() -> None:
    installed = Replica(PRICES).install(assemble(program(4), PRICES).wasm)
    poisoned = X.copy()
    poisoned[3] = 1e9
    assert "unreachable" in rejection(installed.update("infer_cbor", blob(item(x=poisoned, n=N))))
    first, second = installed.submit("infer_cbor", blob(GOOD)), installed.submit("infer", ARGUMENT)
    while installed.replica.step():
        pass
    check_cbor(Response(first.result, ()), 4)
    assert "another inference is running" in rejection(Response(second.result, ()))
    check(installed.update("infer", ARGUMENT), 4)
