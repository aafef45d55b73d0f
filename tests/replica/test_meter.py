"""The meter against wasmtime's own fuel, which it must reproduce with wasmtime's prices in place of the network's."""

from __future__ import annotations

import pytest
import wasmtime

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica.instance import Instance, LimitExceeded, Trapped, compile_metered
from tosaic.replica.metered_operators import Charges
from tosaic.wasm.function import Function
from tosaic.wasm.module import Module
from tosaic.wasm.opcodes import OPERATORS

FREE = ("nop", "drop", "block", "loop", "else", "end", "return", "unreachable")
BULK = frozenset(
    "memory.fill memory.copy memory.init memory.grow table.fill table.copy table.init table.grow".split()
)
FUEL = Charges({name: int(name not in FREE) for name in OPERATORS}, 1, BULK)
"""wasmtime's default fuel table: a few operators are free, all others 1, bulk ones 1 more a byte, element or page."""

PRICES = PriceList.load()

MODULES = {
    "loop": """(func (export "f") (param i32) (result i32) (local i32)
        (loop $l (local.set 1 (i32.add (local.get 1) (local.get 0)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 1))""",
    "nested if": """(func (export "f") (param i32) (result i32)
        (if (result i32) (i32.and (local.get 0) (i32.const 1))
          (then (if (result i32) (i32.gt_s (local.get 0) (i32.const 4))
            (then (i32.mul (local.get 0) (i32.const 3))) (else (nop) (i32.const 7))))
          (else (block (result i32) (drop (i32.const 5))
            (br_if 0 (i32.const 9) (i32.lt_s (local.get 0) (i32.const 3))) (drop) (i32.const 2)))))""",
    "br_table": """(func (export "f") (param i32) (result i32)
        (block $a (block $b (block $c (br_table $a $b $c (local.get 0)))
          (return (i32.const 1))) (return (i32.add (i32.const 2) (local.get 0))))
        (i32.mul (local.get 0) (i32.const 3)))""",
    "calls": """(type $t (func (param i32) (result i32)))
        (table 2 funcref) (elem (i32.const 0) $even $odd)
        (func $even (param i32) (result i32) (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
          (call $odd (i32.sub (local.get 0) (i32.const 1))))
        (func $odd (param i32) (result i32) (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
          (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))
        (func (export "f") (param i32) (result i32) (call $even (local.get 0)))""",
    "tail call": """(func $f (export "f") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 42))
          (else (return_call $f (i32.sub (local.get 0) (i32.const 1))))))""",
    "bulk": """(memory 3) (data $d "hello world, this is a passive segment")
        (func (export "f") (param i32) (result i32)
          (memory.fill (i32.const 65530) (i32.const 7) (i32.mul (local.get 0) (i32.const 3)))
          (memory.copy (i32.const 8) (i32.const 65528) (i32.add (local.get 0) (i32.const 12)))
          (memory.init $d (i32.const 100) (i32.const 0) (local.get 0))
          (data.drop $d) (i32.load8_u (i32.const 101)))""",
    "table": """(table 20 funcref) (elem $e func $g $g $g $g $g $g $g $g)
        (func $g)
        (func (export "f") (param i32) (result i32)
          (table.fill (i32.const 0) (ref.func $g) (local.get 0))
          (table.init $e (i32.const 3) (i32.const 0) (local.get 0))
          (table.copy (i32.const 9) (i32.const 0) (local.get 0))
          (drop (table.grow (ref.null func) (i32.const 5)))
          (ref.is_null (table.get (i32.const 19))))""",
    "memory": """(memory 3)
        (global $g (mut i64) (i64.const 5))
        (func (export "f") (param i32) (result i32) (local v128)
          (local.set 1 (v128.load offset=70000 (local.get 0)))
          (v128.store offset=65531 (i32.mul (local.get 0) (i32.const 2)) (i32x4.splat (local.get 0)))
          (v128.store64_lane offset=3 1 (local.get 0) (local.get 1))
          (local.set 1 (v128.load8_lane offset=9 3 (local.get 0) (local.get 1)))
          (f64.store (local.get 0) (f64.const 1.5)) (global.set $g (i64.load32_u (local.get 0)))
          (i32.store8 (local.get 0) (i32.wrap_i64 (global.get $g)))
          (i32.add (memory.size) (i32.add (memory.grow (i32.const 2)) (i32x4.extract_lane 2 (local.get 1)))))""",
    "dead code": """(memory 1) (func (export "f") (param i32) (result i32)
        (block (result i32) (br 0 (local.get 0)) (i32.store (i32.const 8)) (i32.const 1)))""",
}


def fuel_of(wasm: bytes, argument: int) -> tuple[object, int]:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.wasm_tail_call = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_fuel(1 << 40)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, wasm), [])
    before = store.get_fuel()
    result = instance.exports(store)["f"](store, argument)
    return result, before - store.get_fuel()


@pytest.mark.parametrize("pages", [True, False], ids=["pages", "no pages"])
@pytest.mark.parametrize("argument", [1, 2, 3, 7])
@pytest.mark.parametrize("name", MODULES)
def test_counts_like_wasmtime_fuel(name: str, argument: int, pages: bool) -> None:
    wasm = bytes(wasmtime.wat2wasm(f"(module {MODULES[name]})"))
    usage = Instance(compile_metered(wasm, PRICES, pages, FUEL)).call("f", argument)
    assert (usage.results, usage.instructions) == fuel_of(wasm, argument)


def emitted() -> Function:
    """Nested loops over vectors, written by our own emitter."""
    f = Function("f", PRICES, ("i32",), ("i32",))
    total = f.local("v128")
    with f.counted(5) as row, f.counted(7, step=16) as column:
        f.get(row)
        f.get(column)
        f.op("i32.add")
        f.memory("v128.load", 65500)
        f.get(column)
        f.op("i32x4.splat")
        f.op("i32x4.add")
        f.get(total)
        f.op("v128.xor")
        f.set(total)
    f.i32(8)
    f.i32(65530)
    f.i32(100)
    f.memory_copy(100)
    f.get(0)
    f.get(total)
    f.memory("v128.store", 131064)
    f.get(total)
    f.lane("i32x4.extract_lane", 3)
    return f


def test_counts_what_the_emitter_counts() -> None:
    f = emitted()
    wasm = Module(3, {"f": f}).encode()
    usage = Instance(compile_metered(wasm, PRICES)).call("f", 0)
    assert usage.instructions == f.cost
    assert (usage.pages_read, usage.pages_written) == ({0, 1}, {0, 1, 2})
    fuel = Instance(compile_metered(wasm, PRICES, charges=FUEL)).call("f", 0)
    assert (fuel.results, fuel.instructions) == fuel_of(wasm, 0)


def metered(text: str) -> Instance:
    return Instance(compile_metered(bytes(wasmtime.wat2wasm(f"(module {text})")), PRICES))


def test_charges_the_price_list() -> None:
    instance = metered("""(func (export "f") (param f32) (result f32)
        (f32.div (f32.max (local.get 0) (f32.const 2)) (f32.sqrt (local.get 0))))""")
    assert instance.call("f", 9.0).instructions == 1 + 1 + 1 + 18 + 1 + 5 + 3


def test_bulk_operations_pay_for_their_length() -> None:
    instance = metered("""(memory (export "memory") 1) (func (export "f") (param i32)
        (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))""")
    assert instance.call("f", 1000).instructions == 1 + 3 + 100 + 1000


@pytest.mark.parametrize(
    ("body", "read", "written"),
    [
        ("(drop (v128.load (i32.const 65536)))", {1}, set()),
        ("(drop (v128.load (i32.const 65528)))", {0, 1}, set()),
        ("(drop (i32.load8_u offset=65535 (i32.const 1)))", {1}, set()),
        ("(i64.store (i32.const 131068) (i64.const 1))", set(), {1, 2}),
        ("(drop (v128.load16_lane 0 (i32.const 65535) (v128.const i64x2 0 0)))", {0, 1}, set()),
        ("(v128.store16_lane 0 (i32.const 65535) (v128.const i64x2 0 0))", set(), {0, 1}),
        ("(memory.copy (i32.const 65535) (i32.const 196607) (i32.const 2))", {2, 3}, {0, 1}),
        ("(memory.fill (i32.const 65536) (i32.const 0) (i32.const 131072))", set(), {1, 2}),
        ("(memory.fill (i32.const 65536) (i32.const 0) (i32.const 0))", set(), set()),
        ("(if (i32.const 0) (then (i32.store (i32.const 0) (i32.const 0))))", set(), set()),
        # Several accesses through one local: only what is touched, also when the local changes in between.
        ("(local i32) (drop (i32.load (local.get 0))) (drop (i32.load offset=65533 (local.get 0)))", {0, 1}, set()),
        (
            "(local i32) (drop (i32.load (local.get 0))) (local.set 0 (i32.const 131072))"
            " (drop (i32.load offset=4 (local.get 0)))",
            {0, 2}, set(),
        ),
        ("(local i32) (drop (i32.load (local.get 0))) (drop (i32.load offset=196608 (local.get 0)))", {0, 3}, set()),
    ],
)  # fmt: skip
def test_marks_exactly_the_touched_pages(body: str, read: set, written: set) -> None:
    usage = metered(f'(memory (export "memory") 4) (func (export "f") {body})').call("f")
    assert (usage.pages_read, usage.pages_written) == (read, written)


def test_page_touches_are_priced_once_a_page() -> None:
    instance = metered("""(memory (export "memory") 4) (func (export "f")
        (i32.store (i32.const 0) (i32.load (i32.const 0))) (drop (i32.load (i32.const 65536))))""")
    usage = instance.call("f")
    assert usage.page_touches(PRICES) == 2 * 80_000 + 80_000
    assert usage.page_touches(PRICES, query=True) == 2 * 80_000


def test_the_limit_ends_a_loop() -> None:
    instance = metered('(func (export "f") (loop (br 0)))')
    with pytest.raises(LimitExceeded):
        instance.call("f", limit=1_000_000)


def test_a_trap_is_not_taken_for_the_limit() -> None:
    with pytest.raises(Trapped, match="unreachable"):
        metered('(func (export "f") (unreachable))').call("f")


@pytest.mark.parametrize("wasm", [b"", b"not wasm", b"\0asm\x01\0\0\0\x01\xff"])
def test_refuses_what_is_not_a_module(wasm: bytes) -> None:
    with pytest.raises(TosaicError, match="not valid"):
        compile_metered(wasm, PRICES)


@pytest.mark.parametrize(
    "text", ["(memory i64 1)", "(memory 1) (memory 1)", "(func (drop (f32x4.relaxed_madd (v128.const i64x2 0 0)"
             " (v128.const i64x2 0 0) (v128.const i64x2 0 0))))"],
)  # fmt: skip
def test_refuses_features_that_the_network_lacks(text: str) -> None:
    with pytest.raises(TosaicError):
        metered(text)
