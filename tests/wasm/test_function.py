"""The emitter counts what it writes: costs by hand, and values as wasmtime computes them."""

from __future__ import annotations

import pytest
import wasmtime

from tosaic.prices import PriceList
from tosaic.wasm.function import Function, Import
from tosaic.wasm.module import DataSegment, Module

PRICES = PriceList.load()


def function(*params: str, results: tuple[str, ...] = ("i32",)) -> Function:
    return Function("f", PRICES, params, results)


def call(f: Function, *arguments: int) -> int:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, Module(1, {"f": f}).encode()), [])
    return instance.exports(store)["f"](store, *arguments)


def test_loop_weighs_its_body_by_its_trips() -> None:
    f = function()
    total = f.local("i32")
    with f.counted(10, step=3, start=2) as index:
        f.get(total)
        f.get(index)
        f.op("i32.add")
        f.set(total)
    f.get(total)
    assert call(f) == sum(range(2, 32, 3))
    assert f.cost == 1 + 2 + 10 * (4 + 8) + 1


def test_single_trip_emits_no_loop() -> None:
    f = function()
    with f.counted(1, start=7) as index:
        f.get(index)
    assert call(f) == 7
    assert f.cost == 1 + 2 + 1


@pytest.mark.parametrize(("taken", "cost", "exact"), [(True, 5, True), (False, 7, True), (None, 7, False)])
def test_branch_counts_the_arm_that_is_taken(taken: bool | None, cost: int, exact: bool) -> None:
    f = function("i32")
    f.get(0)
    with f.if_(taken, result="i32"):
        f.i32(1)
        f.else_()
        f.i32(2)
        f.i32(3)
        f.op("i32.add")
    assert (call(f, 5), call(f, 0)) == (1, 5)
    assert (f.cost, f.exact) == (cost, exact)


def test_equal_arms_are_exact() -> None:
    f = function("i32")
    f.get(0)
    with f.if_(result="i32"):
        f.i32(1)
        f.else_()
        f.i32(2)
    assert f.exact


def test_call_adds_the_callee() -> None:
    callee = function()
    callee.i32(4)
    f = function()
    f.call(callee)
    f.call(callee)
    f.op("i32.add")
    assert call(f) == 8
    assert f.cost == 1 + 2 * (5 + 2) + 1


def test_system_call_and_bulk_operations_cost_their_bytes() -> None:
    f = function(results=())
    for value in (0, 100, 64):
        f.i32(value)
    f.memory_fill(64)
    f.i32(0)
    f.i32(10)
    f.call_system(Import("msg_reply_data_append", ("i32", "i32")), 10)
    assert f.cost == 1 + 3 + (100 + 64) + 2 + 5 + (500 + 50 * 10)


def test_released_local_is_reused_for_its_type() -> None:
    f = function("i32")
    first = f.local("v128")
    f.release(first)
    assert f.local("f32") != first
    assert f.local("v128") == first


def test_unfinished_function_has_no_cost() -> None:
    f = function()
    with pytest.raises(ValueError, match="still open"), f.loop(3):
        _ = f.cost


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, -(2**31), 2**32 - 1, 63, 64, -64, -65])
def test_integer_constants(value: int) -> None:
    f = function()
    f.i32(value)
    assert call(f) & 0xFFFFFFFF == value & 0xFFFFFFFF


def test_module_keeps_functions_in_order_and_memory_from_segments() -> None:
    f = function()
    f.i32(0)
    f.memory("i32.load", offset=65532)
    module = Module(1, {"f": f}, data=[DataSegment(65532, b"\x01\x02\x00\x00")], custom={"note": b"x"})
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, module.encode()), [])
    assert instance.exports(store)["f"](store) == 0x0201
    assert module.encode() == module.encode()
