"""A module's weights end the file, and begin with a chunk of it where they are a chunk or more."""

from __future__ import annotations

import numpy as np
import pytest
import wasmtime

from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.decode import BinaryModule
from tosaic.wasm.function import Function
from tosaic.wasm.module import DataSegment, Module

CHUNK = 1024
FIRST, GAP, SECOND = np.random.default_rng(1).bytes(1500), 52, np.random.default_rng(2).bytes(900)
IMAGE = FIRST + bytes(GAP) + SECOND


def module(code_operators: int, address: int = PAGE_BYTES, chunk: int = CHUNK) -> Module:
    f = Function("f", PriceList.load())
    for number in range(code_operators):
        f.i32(number)
        f.op("drop")
    weights = [DataSegment(address, FIRST), DataSegment(address + len(FIRST) + GAP, SECOND)]
    state = DataSegment(16, b"state")
    return Module(4, {"f": f}, data=[state], custom={"note": b"x"}, weights=weights, chunk_bytes=chunk)


def memory_of(wasm: bytes) -> bytes:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, wasm), []).exports(store)
    return bytes(exports["memory"].read(store, 0, 4 * PAGE_BYTES))


@pytest.mark.parametrize("operators", [*range(0, 60, 7), 200, 300, 1000])
@pytest.mark.parametrize("address", [PAGE_BYTES, 3 * PAGE_BYTES])
def test_weights_are_whole_chunks_whatever_the_code_is(operators, address):
    wasm = module(operators, address).encode()
    start = len(wasm) - len(IMAGE)
    assert start % CHUNK == 0
    assert wasm[start:] == IMAGE


def test_memory_holds_the_state_and_the_weights():
    memory = memory_of(module(3).encode())
    assert memory[16:21] == b"state"
    assert memory[PAGE_BYTES : PAGE_BYTES + len(IMAGE)] == IMAGE
    assert not any(memory[PAGE_BYTES + len(IMAGE) :])


def test_less_than_a_chunk_of_weights_needs_no_padding():
    aligned, plain = module(3), module(3, chunk=len(IMAGE) + 1)
    assert len(plain.encode()) < 200 + len(IMAGE) < len(aligned.encode())
    assert memory_of(plain.encode()) == memory_of(aligned.encode())


def test_padding_is_a_section_that_others_read_over():
    parsed = BinaryModule.parse(module(3).encode())
    assert [name for name, _ in parsed.custom] == ["note", "padding"]
