"""onnxruntime-web under the meter: its imported memory, its atomic operators, and a whole session."""

from __future__ import annotations

from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime
import onnxruntime_web
import pytest
import wasmtime

from tosaic.prices import PriceList
from tosaic.replica.meter import COUNTER_EXPORT, meter
from tosaic.replica.metered_operators import Charges
from tosaic.wasm.opcodes import OPERATORS

FREE = ("nop", "drop", "block", "loop", "else", "end", "return", "unreachable")
KNOWN = OPERATORS | onnxruntime_web.atomic_operators()
FUEL = Charges({name: int(name not in FREE) for name in KNOWN}, 1, frozenset(["memory.init"]))
START = 1 << 40
MODULE = """(module (import "host" "memory" (memory 1)) (data $d "some bytes")
    (func (export "start") (memory.init $d (i32.const 64) (i32.const 0) (i32.const 10)))
    (func (export "f") (param i32) (result i64)
      (loop $l
        (drop (i32.atomic.rmw.add offset=8 (i32.const 0) (local.get 0)))
        (i64.atomic.store32 (i32.const 16) (i64.extend_i32_u (local.get 0)))
        (drop (i64.atomic.rmw16.cmpxchg_u (i32.const 24) (i64.const 0) (i64.const 7)))
        (atomic.fence)
        (drop (memory.atomic.notify (i32.const 8) (i32.const 1)))
        (br_if $l (i32.gt_s (i32.const 100) (i32.atomic.load8_u (i32.const 8)))))
      (i64.add (i64.atomic.load (i32.const 64)) (i64.atomic.rmw8.xchg_u (i32.const 24) (i64.const 1)))))"""


def run(wasm: bytes, fuel: bool) -> tuple[int, int]:
    """The result of f, and what wasmtime's fuel or the added counter takes for it and for start."""
    config = wasmtime.Config()
    config.consume_fuel = fuel
    config.wasm_threads = True
    config.wasm_multi_memory = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    if fuel:
        store.set_fuel(START)
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    exports = wasmtime.Instance(store, wasmtime.Module(engine, wasm), [memory]).exports(store)
    if not fuel:
        exports[COUNTER_EXPORT].set_value(store, START)
    exports["start"](store)
    result = exports["f"](store, 13)
    left = store.get_fuel() if fuel else exports[COUNTER_EXPORT].value(store)
    return result, START - left


def test_counts_imported_memory_and_atomics_like_wasmtime_fuel() -> None:
    wasm = bytes(wasmtime.wat2wasm(MODULE))
    metered = meter(wasm, FUEL, pages=False, operators=KNOWN).wasm
    assert run(metered, fuel=False) == run(wasm, fuel=True)


def test_unlisted_operators_cost_what_the_price_list_says() -> None:
    prices = PriceList.load()
    charges = Charges.of(prices, KNOWN)
    assert charges.operators["i32.atomic.rmw.add"] == prices.document["rules"]["unlisted_operator_default"]


@pytest.mark.skipif(
    not onnxruntime_web.PACKAGE.exists(), reason="onnxruntime-web is not there (`make bench` installs it)"
)
def test_the_metered_session_computes_what_onnxruntime_does(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(networks.keyword_spotting(), model)
    inputs = {"input": np.random.default_rng(0).standard_normal((1, 1, 49, 10)).astype(np.float32)}
    figures, outputs = onnxruntime_web.measure(model, inputs, PriceList.load())
    session = onnxruntime.InferenceSession(str(model))
    for output, expected in zip(session.get_outputs(), session.run(None, inputs)):
        np.testing.assert_allclose(outputs[output.name], expected, rtol=1e-4, atol=1e-6)
    assert 2_000_000 < figures.instructions < figures.load_instructions
