"""The functions that the network offers to canisters, with their types.

Source: Internet Computer interface specification, "Overview of imports". Addresses and sizes are i32.
"""

from __future__ import annotations

from tosaic.wasm.function import Import

_SIGNATURES = """
msg_arg_data_size : -> i32
msg_arg_data_copy : i32 i32 i32 ->
msg_caller_size : -> i32
msg_caller_copy : i32 i32 i32 ->
msg_method_name_size : -> i32
msg_method_name_copy : i32 i32 i32 ->
accept_message : ->
msg_reject_code : -> i32
msg_reject_msg_size : -> i32
msg_reject_msg_copy : i32 i32 i32 ->
msg_reply_data_append : i32 i32 ->
msg_reply : ->
msg_reject : i32 i32 ->
canister_self_size : -> i32
canister_self_copy : i32 i32 i32 ->
call_new : i32 i32 i32 i32 i32 i32 i32 i32 ->
call_on_cleanup : i32 i32 ->
call_data_append : i32 i32 ->
call_perform : -> i32
stable64_size : -> i64
stable64_grow : i64 -> i64
stable64_read : i64 i64 i64 ->
stable64_write : i64 i64 i64 ->
is_controller : i32 i32 -> i32
in_replicated_execution : -> i32
performance_counter : i32 -> i64
time : -> i64
trap : i32 i32 ->
"""


def _import(line: str) -> Import:
    name, types = line.split(" : ")
    params, results = types.split("->")
    return Import(name, tuple(params.split()), tuple(results.split()))


IC0: dict[str, Import] = {found.name: found for found in map(_import, _SIGNATURES.strip().splitlines())}
"""Name -> import."""
