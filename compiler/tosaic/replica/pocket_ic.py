"""A canister on a PocketIC server: the network's own execution environment, where its binary is at hand."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS
from tosaic.replica.message import Message, Reject, Response
from tosaic.replica.pocket_ic_server import PocketIcServer
from tosaic.replica.system import QUERY, UPDATE

_CYCLES = 1_000_000_000_000_000
_MOST_ROUNDS = 100_000
_MANAGEMENT = b""
_REJECT_CODES = {
    "SysFatal": 1, "SysTransient": 2, "DestinationInvalid": 3, "CanisterReject": 4, "CanisterError": 5, "SysUnknown": 6,
}  # fmt: skip


class PocketIcCanister:
    """A canister that is installed on an instance of its own; used like `InstalledCanister`.

    PocketIC does not tell what a message executed; `charged_cycles` are what updates were charged, fees included. A
    message of its responses stands for all that a call executed.
    """

    def __init__(self, wasm: bytes, prices: PriceList, memory_bytes: int = 0) -> None:
        self.prices = prices
        self.memory_bytes = memory_bytes
        self.charged_cycles = 0
        self._server = PocketIcServer()
        self.id = self._create()
        self._install(wasm)

    def update(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Response:
        """An update call from outside, run to its answer."""
        before = self._balance()
        result = self._call(self.id, method, argument, caller)
        self.charged_cycles += before - self._balance()
        return Response(result, (Message(method, UPDATE, 0, 0, self.prices.limits["update_instructions"]),))

    def query(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Response:
        """A query call; it costs nothing."""
        body = self._body(self.id, method, argument, caller)
        record = Message(method, QUERY, 0, 0, self.prices.limits["query_instructions"])
        return Response(_answer(self._server.post("read/query", body)), (record,))

    def _create(self) -> bytes:
        from ic.candid import Types, decode

        heap = {"wasm_memory_limit": Types.Opt(Types.Nat)}  # by default below what a module may have
        kind = Types.Record({"amount": Types.Opt(Types.Nat), "settings": Types.Opt(Types.Record(heap))})
        value = {"amount": [_CYCLES], "settings": [{"wasm_memory_limit": [self.prices.limits["heap_bytes"]]}]}
        reply = self._manage("provisional_create_canister_with_cycles", kind, value, "None")
        (found,) = decode(reply, [Types.Record({"canister_id": Types.Principal})])
        return bytes(found["value"]["canister_id"].bytes)

    def _install(self, wasm: bytes) -> None:
        """`install_code`, or by the chunk store what no message carries."""
        from ic.candid import Types

        size = self.prices.limits["chunk_bytes"]
        blob, principal = Types.Vec(Types.Nat8), Types.Principal
        common = {"mode": Types.Variant({"install": Types.Null}), "arg": blob}
        values: dict[str, Any] = {"mode": {"install": None}, "arg": b""}
        if len(wasm) <= size:
            kind = Types.Record({**common, "canister_id": principal, "wasm_module": blob})
            self._manage("install_code", kind, {**values, "canister_id": self.id, "wasm_module": wasm})
            return
        chunks = [wasm[start : start + size] for start in range(0, len(wasm), size)]
        for chunk in chunks:
            kind = Types.Record({"canister_id": principal, "chunk": blob})
            self._manage("upload_chunk", kind, {"canister_id": self.id, "chunk": chunk})
        hashes = Types.Vec(Types.Record({"hash": blob}))
        kind = Types.Record(
            {**common, "target_canister": principal, "chunk_hashes_list": hashes, "wasm_module_hash": blob}
        )
        values |= {
            "target_canister": self.id,
            "chunk_hashes_list": [{"hash": hashlib.sha256(chunk).digest()} for chunk in chunks],
            "wasm_module_hash": hashlib.sha256(wasm).digest(),
        }
        self._manage("install_chunked_code", kind, values)

    def _manage(self, method: str, kind: Any, value: Mapping[str, Any], effective: Any = None) -> bytes:
        """Call the management canister, for this canister where no other effective principal is named."""
        from ic.candid import encode

        argument = encode([{"type": kind, "value": value}])
        result = self._call(_MANAGEMENT, method, argument, ANONYMOUS, effective)
        if isinstance(result, Reject):
            raise TosaicError(f"PocketIC refuses {method}: {result.text}")
        return result

    def _call(
        self, callee: bytes, method: str, argument: bytes, caller: bytes, effective: Any = None
    ) -> bytes | Reject:
        """Submit a call and let rounds pass until it is answered."""
        body = self._body(callee, method, argument, caller, effective)
        submitted = self._server.post("update/submit_ingress_message", body)
        if "Ok" not in submitted:
            return _rejection(submitted)
        status = {"raw_message_id": submitted["Ok"], "raw_caller": None}
        for _ in range(_MOST_ROUNDS):
            self._server.post("update/tick", {})
            if found := self._server.post("read/ingress_status", status):
                return _answer(found)
        raise TosaicError(f"PocketIC has not answered the call of '{method}' in {_MOST_ROUNDS} rounds")

    def _balance(self) -> int:
        return int(self._server.post("read/get_cycles", {"canister_id": _base64(self.id)})["cycles"])

    def _body(
        self, callee: bytes, method: str, argument: bytes, caller: bytes, effective: Any = None
    ) -> dict[str, Any]:
        return {
            "sender": _base64(caller),
            "effective_principal": effective or {"CanisterId": _base64(self.id)},
            "canister_id": _base64(callee),
            "method": method,
            "payload": _base64(argument),
        }


def _answer(result: Mapping[str, Any]) -> bytes | Reject:
    return base64.b64decode(result["Ok"]) if "Ok" in result else _rejection(result)


def _rejection(result: Mapping[str, Any]) -> Reject:
    error = result["Err"]
    code = error["reject_code"]
    return Reject(_REJECT_CODES.get(code, code), error["reject_message"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
