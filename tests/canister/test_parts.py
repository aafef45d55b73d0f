"""Tensors that no message carries: sent and fetched in parts, by one caller, with exact prediction."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tosaic.canister import Canister, assemble
from tosaic.canister.client import infer
from tosaic.canister.parts import get_argument, put_argument
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica import InstalledCanister, Reject, Replica
from tosaic.tensors.candid import TensorType, encode
from tosaic.wasm.function import Function
from tosaic.wasm.program import BorderTensor, SegmentCode, WasmProgram


def small_messages() -> PriceList:
    """The network's prices with messages of 12,000 bytes and parts of 1,000."""
    document = json.loads(json.dumps(PriceList.load().document))
    document["limits"] |= {"ingress_bytes": 12_000, "reply_bytes": 12_000, "chunk_bytes": 1_000}
    return PriceList(document)


PRICES = small_messages()
A, B, Y, Z = 1 << 16, (2 << 16) - 500, 3 << 16, 4 << 16
SIZE, TINY = 625, 3  # int64: five parts, part 3 over a page's end; float32: one part of 12 bytes
NOTHING = encode([])


def copy(name: str, target: int, source: int, size: int) -> SegmentCode:
    f = Function(name, PRICES)
    for immediate in (target, source, size):
        f.i32(immediate)
    f.memory_copy(size)
    reads = (1 << (source >> 16)) | (1 << ((source + size - 1) >> 16))
    return SegmentCode(name, f, reads, 1 << (target >> 16), True, 0)


def program(segments: int) -> WasmProgram:
    copies = [copy("a", Z, A, 4 * TINY), copy("b", Y, B, 4 * SIZE)] + [copy("c", Z, A, 4 * TINY)] * (
        segments - 2
    )
    return WasmProgram(
        (BorderTensor("b", "int64", "i32", (SIZE,), B), BorderTensor("a", "float32", "f32", (TINY,), A)),
        (BorderTensor("y", "int64", "i32", (SIZE,), Y), BorderTensor("z", "float32", "f32", (TINY,), Z)),
        tuple(copies), (), 4096, 5 << 16, 0, 0,
    )  # fmt: skip


TYPES = [TensorType("int64", (SIZE,), "b"), TensorType("float32", (TINY,), "a")]


def arrays(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-(1 << 31), 1 << 31, SIZE), rng.random(TINY, np.float32)]


def install(segments: int = 2) -> tuple[Canister, InstalledCanister]:
    canister = assemble(program(segments), PRICES)
    return canister, Replica(PRICES).install(canister.wasm)


def send(
    canister: InstalledCanister, values: list[np.ndarray], parts: range = range(6), caller: bytes = b"\x04"
) -> None:
    data = [values[0][i : i + 125].tobytes() for i in range(0, SIZE, 125)] + [values[1].tobytes()]
    for part in parts:
        assert canister.update("put", put_argument(part, data[part]), caller).reply == NOTHING


def rejection(canister: InstalledCanister, method: str, argument: bytes, caller: bytes = b"\x04") -> str:
    call = canister.query if method == "get" else canister.update
    result = call(method, argument, caller).result
    assert isinstance(result, Reject)
    return result.text


@pytest.mark.parametrize("segments", [2, 3])
def test_parts_take_what_was_predicted(segments: int) -> None:
    canister, installed = install(segments)
    for seed in range(2):
        found = infer(installed, TYPES, TYPES, arrays(seed), PRICES)
        for output, right in zip(found.outputs, arrays(seed)):
            np.testing.assert_array_equal(output, right)
        assert [(m.name, m.kind, m.metered, m.page_touch) for m in found.messages] == [
            (m.name, m.kind, m.instructions(PRICES), m.page_touch(PRICES)) for m in canister.messages
        ]
    assert [m.name for m in found.messages].count("put") == 6


def test_cycles_count_the_bytes_of_every_part() -> None:
    first = assemble(program(1), PRICES).messages[0]
    argument = put_argument(0, bytes(1_000))
    fees = 5_000_000 + 1_200_000 + 2_000 * len(b"put" + argument)
    assert first.cycles(PRICES) == first.instructions(PRICES) + fees


def test_the_interface_tells_how() -> None:
    canister, _ = install()
    for line in (
        "put : (part : nat32, data : blob) -> ();",
        "infer : () -> ();",
        "get : (part : nat32) -> (blob) query;",
    ):
        assert f"  {line}\n" in canister.did


def test_infer_wants_all_parts_of_one_caller() -> None:
    _, installed = install()
    assert "send all parts" in rejection(installed, "infer", NOTHING)
    send(installed, arrays(), range(5))
    assert "send all parts" in rejection(installed, "infer", NOTHING)
    send(installed, arrays(), range(5, 6))
    assert "send all parts" in rejection(installed, "infer", NOTHING, caller=b"\1\2")
    assert installed.update("infer", NOTHING).reply == NOTHING
    assert "send all parts" in rejection(installed, "infer", NOTHING)


def test_callers_never_mix() -> None:
    _, installed = install()
    send(installed, arrays(1), range(3), caller=b"\1")
    send(installed, arrays(2), range(2), caller=b"\1\0")
    assert "another caller" in rejection(installed, "put", put_argument(3, bytes(1000)), caller=b"\1")
    assert "in order" in rejection(installed, "put", put_argument(4, bytes(1000)), caller=b"\1\0")
    send(installed, arrays(2), range(2, 6), caller=b"\1\0")
    installed.update("infer", NOTHING, b"\1\0")
    assert "no results" in rejection(installed, "get", get_argument(0), caller=b"\1")
    assert installed.query("get", get_argument(5), b"\1\0").reply.endswith(arrays(2)[1].tobytes())
    send(installed, arrays(1), range(1), caller=b"\1")
    assert "no results" in rejection(installed, "get", get_argument(0), caller=b"\1\0")


def test_nothing_arrives_while_an_inference_runs() -> None:
    _, installed = install()
    send(installed, arrays(1))
    ticket = installed.submit("infer", NOTHING)
    installed.replica.step()
    late = installed.submit("put", put_argument(0, bytes(1000)), b"\1")
    while installed.replica.step():
        pass
    assert ticket.result == NOTHING
    assert isinstance(late.result, Reject)
    assert "another inference is running" in late.result.text


PUT = put_argument(0, bytes(1000))


@pytest.mark.parametrize(
    ("method", "argument", "text"),
    [
        ("put", b"", "not of the type"),
        ("put", b"DIDX" + PUT[4:], "not of the type"),
        ("put", PUT[:-1], "wrong size"),
        ("put", PUT + b"\0", "wrong size"),
        ("put", put_argument(0, bytes(999)) + b"\0", "wrong size"),
        ("put", put_argument(6, bytes(1000)), "only the parts 0 to 5"),
        ("put", put_argument(0xFFFFFFFF, bytes(1000)), "only the parts 0 to 5"),
        ("put", put_argument(1, bytes(1000)), "begin with part 0"),
        ("infer", encode([np.zeros(3, np.float32)]), "wrong length"),
        ("get", get_argument(0), "no results"),
    ],
    ids=range(10),
)
def test_refuses_malformed_calls(method: str, argument: bytes, text: str) -> None:
    _, installed = install()
    assert text in rejection(installed, method, argument)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (get_argument(6), "only the parts"),
        (get_argument(0) + b"\0", "not of the type"),
        (b"", "not of the type"),
    ],
    ids=range(3),
)
def test_refuses_malformed_fetches(argument: bytes, text: str) -> None:
    _, installed = install()
    infer(installed, TYPES, TYPES, arrays(), PRICES)
    assert text in rejection(installed, "get", argument)


def test_values_that_do_not_fit_are_refused_when_all_are_there() -> None:
    _, installed = install()
    values = arrays()
    values[0][600] = 1 << 31
    with pytest.raises(TosaicError, match="cannot hold"):
        infer(installed, TYPES, TYPES, values, PRICES)


def test_the_client_checks_dtypes_and_shapes() -> None:
    _, installed = install()
    with pytest.raises(TosaicError, match=r"input 'b' is int64\[3\] and must be int64\[625\]"):
        infer(installed, TYPES, TYPES, [np.zeros(3, np.int64), np.zeros(TINY, np.float32)], PRICES)
