"""A canister for tests that passes calls on: what it forwards comes from a canister, not from outside."""

from __future__ import annotations

import wasmtime

from tosaic.replica import InstalledCanister, Replica, Response, Ticket

_MODULE = """(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (import "ic0" "msg_reject_msg_size" (func $reason_size (result i32)))
  (import "ic0" "msg_reject_msg_copy" (func $reason (param i32 i32 i32)))
  (import "ic0" "call_new" (func $new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory (export "memory") 64) (table 2 funcref) (elem (i32.const 0) $on_reply $on_reject)
  (func $on_reply (param i32)
    (call $copy (i32.const 0) (i32.const 0) (call $size))
    (call $append (i32.const 0) (call $size)) (call $reply))
  (func $on_reject (param i32)
    (call $reason (i32.const 0) (i32.const 0) (call $reason_size))
    (call $reject (i32.const 0) (call $reason_size)))
  (func (export "canister_update forward") (local $name i32) (local $start i32)
    (call $copy (i32.const 0) (i32.const 0) (call $size))
    (local.set $name (i32.load8_u (i32.const 10)))
    (local.set $start (i32.add (i32.const 11) (local.get $name)))
    (call $new (i32.const 0) (i32.const 10) (i32.const 11) (local.get $name)
      (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0))
    (call $data (local.get $start) (i32.sub (call $size) (local.get $start)))
    (drop (call $perform))))"""


class Proxy:
    """An installed proxy. `id` is the caller that others see."""

    def __init__(self, replica: Replica) -> None:
        self._canister: InstalledCanister = replica.install(bytes(wasmtime.wat2wasm(_MODULE)))
        self.id = self._canister.id

    def call(self, callee: bytes, method: str, argument: bytes) -> Response:
        """Call another canister's method; its answer."""
        return self._canister.update("forward", _forwarded(callee, method, argument))

    def submit(self, callee: bytes, method: str, argument: bytes) -> Ticket:
        return self._canister.submit("forward", _forwarded(callee, method, argument))


def _forwarded(callee: bytes, method: str, argument: bytes) -> bytes:
    return callee + bytes([len(method)]) + method.encode() + argument
