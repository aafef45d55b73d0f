"""Canisters in WebAssembly text, against the interface specification's rules for messages, calls and traps."""

from __future__ import annotations

import gc
import weakref

import pytest
import wasmtime

from proxy_canister import Proxy
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica import ANONYMOUS, InstalledCanister, Reject, Replica, principal_text

PRICES = PriceList.load()

IMPORTS = {
    "msg_method_name_size": "(result i32)", "msg_method_name_copy": "(param i32 i32 i32)", "accept_message": "",
    "msg_arg_data_size": "(result i32)", "msg_arg_data_copy": "(param i32 i32 i32)", "msg_reply": "",
    "msg_reply_data_append": "(param i32 i32)", "msg_reject": "(param i32 i32)", "trap": "(param i32 i32)",
    "msg_caller_size": "(result i32)", "msg_caller_copy": "(param i32 i32 i32)", "msg_reject_code": "(result i32)",
    "msg_reject_msg_size": "(result i32)", "msg_reject_msg_copy": "(param i32 i32 i32)",
    "performance_counter": "(param i32) (result i64)", "is_controller": "(param i32 i32) (result i32)",
    "canister_self_copy": "(param i32 i32 i32)", "canister_self_size": "(result i32)",
    "call_new": "(param i32 i32 i32 i32 i32 i32 i32 i32)", "call_data_append": "(param i32 i32)",
    "call_on_cleanup": "(param i32 i32)", "call_perform": "(result i32)",
    "stable64_grow": "(param i64) (result i64)", "stable64_size": "(result i64)",
    "stable64_write": "(param i64 i64 i64)", "stable64_read": "(param i64 i64 i64)",
    "in_replicated_execution": "(result i32)",
}  # fmt: skip

REPLY_WORD = "(call $msg_reply_data_append (i32.const 0) (i32.const 4)) (call $msg_reply)"
COUNT = "(i32.store (i32.const 0) (i32.add (i32.const 1) (i32.load (i32.const 0))))"

CALLER = f"""
  (data (i32.const 100) "work") (data (i32.const 200) "oops")
  (table 4 funcref) (elem (i32.const 0) $on_reply $on_reject $on_cleanup $on_reply_trap)
  (func $on_reply (param i32)
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (local.get 0)))
    (call $msg_arg_data_copy (i32.const 4) (i32.const 0) (call $msg_arg_data_size))
    (call $msg_reply_data_append (i32.const 0) (i32.const 8)) (call $msg_reply))
  (func $on_reject (param i32) (local i32)
    (local.set 1 (call $msg_reject_msg_size))
    (call $msg_reject_msg_copy (i32.const 300) (i32.const 0) (local.get 1))
    (i32.store (i32.const 0) (i32.add (i32.const 1000) (call $msg_reject_code)))
    (call $msg_reject (i32.const 300) (local.get 1)))
  (func $on_cleanup (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func $on_reply_trap (param i32) (i32.store (i32.const 0) (i32.const 5)) (unreachable))
  (func $call (param $reply i32) (param $method i32)
    (call $canister_self_copy (i32.const 64) (i32.const 0) (call $canister_self_size))
    (call $call_new (i32.const 64) (i32.const 10) (local.get $method) (i32.const 4)
      (local.get $reply) (i32.const 7) (i32.const 1) (i32.const 0))
    (call $call_data_append (i32.const 200) (i32.const 4))
    (call $call_on_cleanup (i32.const 2) (i32.const 77))
    (drop (call $call_perform)))
  (func (export "canister_update ask") (call $call (i32.const 0) (i32.const 100)))
  (func (export "canister_update ask_nobody") (call $call (i32.const 0) (i32.const 200)))
  (func (export "canister_update ask_badly") (call $call (i32.const 3) (i32.const 100)))
  (func (export "canister_update work") (call $msg_arg_data_copy (i32.const 8) (i32.const 0) (i32.const 4))
    (call $msg_reply_data_append (i32.const 8) (i32.const 4)) (call $msg_reply))
  (func (export "canister_query get") {REPLY_WORD})"""


def wasm_of(text: str, memory: str = '(memory (export "memory") 2)') -> bytes:
    used = "".join(
        f'(import "ic0" "{name}" (func ${name} {type}))'
        for name, type in IMPORTS.items()
        if f"${name}" in text
    )
    return bytes(wasmtime.wat2wasm(f"(module {used} {memory} {text})"))


def install(text: str, **options) -> InstalledCanister:
    return Replica(PRICES, **options).install(wasm_of(text))


def word(canister: InstalledCanister, method: str = "get") -> int:
    return int.from_bytes(canister.query(method).reply[:4], "little")


COUNTER = f"""(func (export "canister_update count") {COUNT} {REPLY_WORD})
  (func (export "canister_update fail") {COUNT} (unreachable))
  (func (export "canister_update forever") {COUNT} (loop (br 0)))
  (func (export "canister_update grow_and_fail") (drop (memory.grow (i32.const 1))) {COUNT} (unreachable))
  (func (export "canister_update silent") {COUNT})
  (func (export "canister_query get") {REPLY_WORD})
  (func (export "canister_query count_in_query") {COUNT} {REPLY_WORD})"""


def test_updates_keep_their_changes_and_queries_do_not() -> None:
    canister = install(COUNTER)
    assert word(canister, "count_in_query") == 1
    canister.update("count")
    canister.update("silent")
    assert word(canister) == 2


def test_a_replica_that_nobody_holds_is_freed() -> None:
    """wasmtime keeps the functions that it calls where no garbage collector looks."""
    canister = install(COUNTER)
    canister.update("count")
    store = weakref.ref(canister.replica.canisters[canister.id].instance.store)
    del canister
    gc.collect()
    assert store() is None


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("fail", "trapped unreachable"),
        ("grow_and_fail", "trapped unreachable"),
        ("forever", "instruction limit"),
    ],
)
def test_a_trap_changes_nothing(method: str, text: str) -> None:
    canister = install(COUNTER, update_limit=1_000_000)
    canister.update("count")
    result = canister.update(method).result
    assert isinstance(result, Reject)
    assert result.code == 5
    assert text in result.text
    assert canister.memory_bytes == 2 << 16
    assert word(canister) == 1


def test_globals_are_rolled_back_as_well() -> None:
    canister = install(f"""(global $g (mut i32) (i32.const 3))
      (func (export "canister_update fail") (global.set $g (i32.const 9)) (unreachable))
      (func (export "canister_query get") (i32.store (i32.const 0) (global.get $g)) {REPLY_WORD})""")
    canister.update("fail")
    assert word(canister) == 3


def test_metered_is_operators_system_calls_and_page_touches() -> None:
    canister = install(COUNTER)
    message = canister.update("count").messages[0]
    operators = 1 + 6 + 2 + 5 + 5
    assert message.page_touch == 2 * 80_000
    assert message.metered == operators + (500 + 4 * 50) + 500 + message.page_touch
    query = canister.query("count_in_query").messages[0]
    assert query.page_touch == 80_000


def test_the_performance_counter_shows_what_was_spent() -> None:
    canister = install("""(func (export "canister_update f")
        (i64.store (i32.const 0) (call $performance_counter (i32.const 0)))
        (call $msg_reply_data_append (i32.const 0) (i32.const 8)) (call $msg_reply))""")
    response = canister.update("f")
    counter = int.from_bytes(response.reply, "little")
    # The whole straight piece was paid before, the store's page and the calls that follow were not.
    assert counter == response.messages[0].metered - response.messages[0].page_touch - (500 + 8 * 50) - 500


def test_calls_run_in_messages_of_their_own() -> None:
    canister = install(CALLER)
    response = canister.update("ask")
    assert response.reply == (7).to_bytes(4, "little") + b"oops"
    assert [(m.name, m.kind) for m in response.messages] == [
        ("ask", "update"), ("work", "update"), ("ask: reply callback", "reply callback"),
    ]  # fmt: skip


def test_a_missing_method_reaches_the_reject_callback() -> None:
    canister = install(CALLER)
    result = canister.update("ask_nobody").result
    assert isinstance(result, Reject)
    assert result.code == 4
    assert "has no update method 'oops'" in result.text
    assert word(canister) == 1005


def test_cleanup_runs_when_the_callback_traps() -> None:
    canister = install(CALLER)
    response = canister.update("ask_badly")
    assert isinstance(response.result, Reject)
    assert response.result.code == 5
    assert "unreachable" in response.result.text
    assert word(canister) == 77
    assert [m.kind for m in response.messages] == ["update", "update", "reply callback", "cleanup callback"]


def test_an_unanswered_call_is_rejected() -> None:
    result = install(COUNTER).update("silent").result
    assert isinstance(result, Reject)
    assert "did not reply" in result.text


def test_unknown_canisters_and_methods_are_rejected() -> None:
    canister = install(COUNTER)
    assert canister.update("nothing").result == Reject(
        5, f"Canister {principal_text(canister.id)} has no update method 'nothing'"
    )
    response = canister.replica.update(b"\0" * 8 + b"\1\1", "count", b"")
    assert isinstance(response.result, Reject)
    assert response.result.code == 3


def test_explicit_traps_and_rejects_carry_their_text() -> None:
    canister = install("""(data (i32.const 0) "sorry")
      (func (export "canister_update t") (call $trap (i32.const 0) (i32.const 5)))
      (func (export "canister_update r") (call $msg_reject (i32.const 0) (i32.const 5)))""")
    result = canister.update("t").result
    assert isinstance(result, Reject)
    assert result.text.endswith("trapped explicitly: sorry")
    assert canister.update("r").result == Reject(4, "sorry")


def test_controllers() -> None:
    text = f"""(func (export "canister_query is")
      (call $msg_caller_copy (i32.const 8) (i32.const 0) (call $msg_caller_size))
      (i32.store (i32.const 0) (call $is_controller (i32.const 8) (call $msg_caller_size))) {REPLY_WORD})"""
    canister = Replica(PRICES).install(wasm_of(text), controllers=[b"\1\2\3"])
    assert canister.query("is", caller=b"\1\2\3").reply[0] == 1
    assert canister.query("is", caller=ANONYMOUS).reply[0] == 0


def test_stable_memory_is_rolled_back_and_its_pages_are_charged() -> None:
    canister = install(f"""(data (i32.const 16) "kept")
      (func (export "canister_init") (drop (call $stable64_grow (i64.const 2))))
      (func $write (call $stable64_write (i64.const 65534) (i64.const 16) (i64.const 4)))
      (func (export "canister_update write") (call $write) (call $msg_reply))
      (func (export "canister_update fail")
        (call $stable64_write (i64.const 65534) (i64.const 0) (i64.const 4)) (unreachable))
      (func (export "canister_query get")
        (call $stable64_read (i64.const 0) (i64.const 65534) (i64.const 4)) {REPLY_WORD})""")
    message = canister.update("write").messages[0]
    assert message.page_touch == 80_000 + 2 * 160_000
    canister.update("fail")
    assert canister.query("get").reply == b"kept"


def test_start_and_init_run_once_at_install() -> None:
    text = f"""(start $s) (func $s {COUNT}) (func (export "canister_init") {COUNT})
      (func (export "canister_query get") {REPLY_WORD})
      (func (export "canister_update grow_and_fail") (drop (memory.grow (i32.const 1))) (unreachable))"""
    canister = install(text)
    canister.update("grow_and_fail")
    assert word(canister) == 2
    operators = 2 * 7 + 5 + 5
    compilation = [m.metered for m in canister.replica.messages if m.name == "install"]
    assert compilation == [operators * 6000]


def test_install_fails_when_init_traps() -> None:
    with pytest.raises(TosaicError, match="cannot be installed"):
        install('(func (export "canister_init") (unreachable))')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('(import "env" "f" (func))', "env.f, which is not provided"),
        ('(import "ic0" "nothing" (func))', "ic0.nothing, which is not provided"),
        ('(import "ic0" "msg_reply" (func (param i32)))', "wrong type"),
        ('(func (export "canister_other"))', "'canister_other' is reserved"),
        ('(func (export "canister_update f")) (func (export "canister_query f"))', "'f' is exported twice"),
        ("(global i32 (i32.const 0))" * 1001, "globals: 1,001 where 1,000"),
        ("(memory 65537)", "not valid"),
        ("(table 2 funcref) (func (table.set (i32.const 0) (ref.null func)))", "operator 0x26"),
        ("(table 2 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))", "operator 0xfc 0xf "),
        (f"(func {'(block)' * 19608})", "complexity of a function: 1,000,009 where 1,000,000"),
        ('(@custom "icp:secret x" "")', "neither 'icp:public NAME' nor 'icp:private NAME'"),
        ('(@custom "icp:public x" "") (@custom "icp:private x" "")', "section 'x' is there twice"),
        ("".join(f'(@custom "icp:public {i}" "")' for i in range(17)), "icp: custom sections: 17 where 16"),
        (f'(func (export "canister_query {"n" * 20001}"))', "the methods' names: 20,001 where 20,000"),
    ],
)
def test_install_refuses_what_the_network_refuses(text: str, message: str) -> None:
    with pytest.raises(TosaicError, match=message):
        Replica(PRICES).install(wasm_of(text, memory=""))


def test_system_calls_are_bound_to_kinds_of_messages() -> None:
    canister = install("""(func (export "canister_query q") (drop (call $call_perform)))
      (func (export "canister_update u") (drop (call $msg_reject_msg_size)))""")
    for response in (canister.query("q"), canister.update("u")):
        assert isinstance(response.result, Reject)
        assert "cannot be called in a message of kind" in response.result.text


def test_payload_limits() -> None:
    canister = install("""(func (export "canister_update big")
        (call $msg_reply_data_append (i32.const 0) (i32.const 2097153)) (call $msg_reply))
      (func (export "canister_update out")
        (call $msg_reply_data_append (i32.const 0) (i32.const 9999999)) (call $msg_reply))
      (func $g (export "canister_init") (drop (memory.grow (i32.const 40))))""")
    for method, text in (("big", r"payload size \(2097153\)"), ("out", "out of bounds")):
        with pytest.raises(TosaicError, match=text):
            _ = canister.update(method).reply
    with pytest.raises(TosaicError, match="carries at most 2097152"):
        canister.update("big", bytes(2097153))


def test_a_bulk_operation_must_fit_a_slice() -> None:
    text = """(func (export "canister_update f") (memory.fill (i32.const 0) (i32.const 0) (i32.const 2000000001)))"""
    with pytest.raises(TosaicError, match="limit of a slice"):
        _ = install(text).update("f").reply


INSPECTING = f"""{COUNTER}
      (data (i32.const 64) "count")
      (func (export "canister_inspect_message") {COUNT}
        (call $msg_method_name_copy (i32.const 32) (i32.const 0) (call $msg_method_name_size))
        (if (i64.eq (i64.load (i32.const 32)) (i64.load (i32.const 64))) (then (call $accept_message))))"""


def test_calls_from_outside_are_taken_if_the_inspection_accepts_them() -> None:
    canister = install(INSPECTING)
    canister.update("count")
    declined = Reject(4, f"Canister {principal_text(canister.id)} rejected the message")
    assert [canister.update(m).result for m in ("get", "fail", "nothing")] == [declined] * 3
    assert word(canister) == 1
    assert [m.name for m in canister.replica.messages if m.kind == "update"] == ["count"]


def test_calls_of_canisters_are_not_inspected() -> None:
    canister = install(INSPECTING)
    assert "unreachable" in Proxy(canister.replica).call(canister.id, "fail", b"").result.text


def test_an_inspection_that_traps_declines() -> None:
    text = f"""{COUNTER} (func (export "canister_inspect_message")
      (call $accept_message) (call $accept_message))"""
    result = install(text).update("count").result
    assert isinstance(result, Reject)
    assert "accept_message can be called only once" in result.text


def test_a_query_called_as_an_update_changes_nothing_and_pays_no_writes() -> None:
    canister = install(COUNTER)
    for response in (
        canister.update("count_in_query"),
        Proxy(canister.replica).call(canister.id, "count_in_query", b""),
    ):
        assert response.reply == (1).to_bytes(4, "little")
        (message,) = [m for m in response.messages if m.kind == "replicated query"]
        assert message.page_touch == 80_000
    assert word(canister) == 0


def test_canisters_call_each_other_in_the_order_of_sending() -> None:
    replica = Replica(PRICES)
    first, second = (replica.install(wasm_of(COUNTER)) for _ in range(2))
    proxies = [Proxy(replica) for _ in range(3)]
    assert len({first.id, second.id, *(proxy.id for proxy in proxies)}) == 5
    calls = [(proxy, callee) for callee in (first, second, first) for proxy in proxies]
    tickets = [proxy.submit(callee.id, "count", b"") for proxy, callee in calls]
    while replica.step():
        pass
    found = [int.from_bytes(ticket.result, "little") for ticket in tickets]
    assert found == [1, 2, 3, 1, 2, 3, 4, 5, 6]
    names = [m.name for m in replica.messages if m.kind != "install"]
    assert names == ["forward"] * 9 + ["count"] * 9 + ["forward: reply callback"] * 9


def test_rejects_of_other_canisters_reach_the_caller() -> None:
    replica = Replica(PRICES)
    proxy, counter = Proxy(replica), replica.install(wasm_of(COUNTER))
    nobody = b"\0" * 8 + b"\1\1"
    for callee, method, text in (
        (nobody, "count", "not found"), (counter.id, "nothing", "has no update method"),
        (counter.id, "fail", "trapped unreachable"), (counter.id, "silent", "did not reply"),
    ):  # fmt: skip
        result = proxy.call(callee, method, b"").result
        assert isinstance(result, Reject)
        assert text in result.text


def test_controllers_are_each_canister_s_own() -> None:
    text = """(func (export "canister_query is")
      (call $msg_caller_copy (i32.const 8) (i32.const 0) (call $msg_caller_size))
      (i32.store (i32.const 0) (call $is_controller (i32.const 8) (call $msg_caller_size))) {REPLY_WORD})"""
    replica = Replica(PRICES)
    proxy = Proxy(replica)
    own, other = (
        replica.install(wasm_of(text.format(REPLY_WORD=REPLY_WORD)), [c]) for c in (proxy.id, ANONYMOUS)
    )
    assert [proxy.call(c.id, "is", b"").reply[0] for c in (own, other)] == [1, 0]


CALLING_OFTEN = """(data (i32.const 100) "work") (data (i32.const 200) "\\00\\00\\00\\00\\00\\00\\00\\00\\01\\01")
      (table 1 funcref) (elem (i32.const 0) $done) (func $done (param i32))
      (func (export "canister_update call") (local $left i32)
        (call $msg_arg_data_copy (i32.const 0) (i32.const 0) (i32.const 4))
        (local.set $left (i32.load (i32.const 0))) (i32.store (i32.const 0) (i32.const 0))
        (loop
          (call $call_new (i32.const 200) (i32.const 10) (i32.const 100) (i32.const 4)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
          (if (call $call_perform)
            (then (i32.store (i32.const 0) (i32.add (i32.const 1) (i32.load (i32.const 0))))))
          (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $msg_reply_data_append (i32.const 0) (i32.const 4)) (call $msg_reply))"""


def test_as_many_calls_are_under_way_as_a_queue_holds() -> None:
    canister = install(CALLING_OFTEN)
    many, few = (canister.submit("call", count.to_bytes(4, "little")) for count in (503, 7))
    while canister.replica.step():
        pass
    assert [int.from_bytes(ticket.result, "little") for ticket in (many, few)] == [3, 7]
    assert canister.update("call", (1).to_bytes(4, "little")).reply == bytes(4)


UPGRADABLE = f"""(func (export "canister_pre_upgrade") (drop (call $stable64_grow (i64.const 1)))
      (call $stable64_write (i64.const 0) (i64.const 0) (i64.const 4)) {COUNT})
      (func (export "canister_update count") {COUNT} (call $msg_reply))
      (func (export "canister_query get") {REPLY_WORD})"""


def test_an_upgrade_keeps_stable_memory_and_drops_the_heap() -> None:
    canister = install(UPGRADABLE)
    canister.update("count")
    canister.update("count")
    canister.upgrade(
        wasm_of(f"""(data (i32.const 0) "\\09") (func (export "canister_query get") {REPLY_WORD})
      (func (export "canister_query kept")
        (call $stable64_read (i64.const 0) (i64.const 0) (i64.const 4)) {REPLY_WORD})""")
    )
    assert word(canister) == 9
    assert int.from_bytes(canister.query("kept").reply, "little") == 2


def test_an_upgrade_that_traps_changes_nothing() -> None:
    canister = install(UPGRADABLE)
    canister.update("count")
    with pytest.raises(TosaicError, match="cannot be installed"):
        canister.upgrade(wasm_of('(func (export "canister_post_upgrade") (unreachable))'))
    canister.update("count")
    assert word(canister) == 2


def test_a_reinstallation_drops_all_state_unless_it_fails() -> None:
    canister = install(UPGRADABLE)
    canister.update("count")
    canister.upgrade(wasm_of(UPGRADABLE))
    canister.update("count")
    with pytest.raises(TosaicError, match="cannot be installed"):
        canister.reinstall(wasm_of('(func (export "canister_init") (unreachable))'))
    assert word(canister) == 1
    canister.reinstall(wasm_of(UPGRADABLE))
    assert word(canister) == 0
    assert not canister.replica.canisters[canister.id].stable


def test_a_stopped_canister_takes_no_calls_until_it_is_started() -> None:
    canister = install(COUNTER)
    canister.stop()
    stopped = Reject(5, f"Canister {principal_text(canister.id)} is stopped")
    assert canister.update("count").result == canister.query("get").result == stopped
    canister.start()
    canister.update("count")
    assert word(canister) == 1


@pytest.mark.parametrize("install_again", ["upgrade", "reinstall"])
def test_another_module_does_not_start_a_stopped_canister(install_again: str) -> None:
    canister = install(COUNTER)
    canister.stop()
    getattr(canister, install_again)(wasm_of(COUNTER))
    assert isinstance(canister.update("count").result, Reject)
    canister.start()
    canister.update("count")
    assert word(canister) == 1


def test_what_a_stopped_canister_has_called_comes_back_to_it() -> None:
    canister = install(CALLER)
    ticket = canister.submit("ask")
    canister.replica.step()
    canister.stop()
    while canister.replica.step():
        pass
    assert isinstance(ticket.result, Reject)
    assert "is stopped" in ticket.result.text
    canister.start()
    assert word(canister) == 1005
