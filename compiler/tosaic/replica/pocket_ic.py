"""A canister on a PocketIC server: the network's own execution environment, where its binary is at hand.

The package `pocket-ic` starts the server that `POCKET_IC_BIN` names and speaks its interface; here is what it leaves
out: modules in chunks, and calls that take many rounds. PocketIC does not tell what a message executed, but it charges
the canister for it: a call's cycles without the fees of its messages are its instructions.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any

from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS
from tosaic.replica.message import Message, Reject, Response
from tosaic.replica.system import QUERY, UPDATE

if TYPE_CHECKING:
    import ic
    from pocket_ic import PocketIC

BINARY = "POCKET_IC_BIN"
"""Environment variable with the path of the server."""

_CYCLES = 1_000_000_000_000_000
_MOST_ROUNDS = 100_000
_REJECT_CODES = {
    "SysFatal": 1, "SysTransient": 2, "DestinationInvalid": 3, "CanisterReject": 4, "CanisterError": 5, "SysUnknown": 6,
}  # fmt: skip


class PocketIcCanister:
    """A canister that is installed on a server of its own; used like `InstalledCanister`.

    What a message of its responses has metered are the cycles that the call was charged, fees included.
    """

    def __init__(self, wasm: bytes, prices: PriceList, memory_bytes: int = 0) -> None:
        self.prices = prices
        self.memory_bytes = memory_bytes
        self._server = _connect()
        self.id: ic.Principal = self._server.create_canister()
        self._server.add_cycles(self.id, _CYCLES)
        self._install(wasm)

    def update(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Response:
        """An update call from outside, run to its answer."""
        before = self._server.get_cycles_balance(self.id)
        result = self._call(self.id.bytes, method, argument, caller)
        spent = before - self._server.get_cycles_balance(self.id)
        record = Message(method, UPDATE, spent, 0, self.prices.limits["update_instructions"])
        return Response(result, (record,))

    def query(self, method: str, argument: bytes = b"", caller: bytes = ANONYMOUS) -> Response:
        """A query call; it costs nothing."""
        body = self._body(self.id.bytes, method, argument, caller)
        record = Message(method, QUERY, 0, 0, self.prices.limits["query_instructions"])
        return Response(_answer(self._server._instance_post("read/query", body)), (record,))

    def _install(self, wasm: bytes) -> None:
        """`install_code`, or by the chunk store what no message carries."""
        from ic.candid import Types, encode

        size = self.prices.limits["chunk_bytes"]
        blob, principal = Types.Vec(Types.Nat8), Types.Principal
        mode = Types.Variant({"install": Types.Null})
        common = {"mode": {"install": None}, "arg": b""}
        if len(wasm) <= size:
            kind = Types.Record({"mode": mode, "canister_id": principal, "wasm_module": blob, "arg": blob})
            value = {**common, "canister_id": self.id.bytes, "wasm_module": wasm}
            self._manage("install_code", encode([{"type": kind, "value": value}]))
            return
        chunks = [wasm[start : start + size] for start in range(0, len(wasm), size)]
        for chunk in chunks:
            kind = Types.Record({"canister_id": principal, "chunk": blob})
            value = {"canister_id": self.id.bytes, "chunk": chunk}
            self._manage("upload_chunk", encode([{"type": kind, "value": value}]))
        kind = Types.Record(
            {
                "mode": mode,
                "target_canister": principal,
                "chunk_hashes_list": Types.Vec(Types.Record({"hash": blob})),
                "wasm_module_hash": blob,
                "arg": blob,
            }
        )
        value = {
            **common,
            "target_canister": self.id.bytes,
            "chunk_hashes_list": [{"hash": hashlib.sha256(chunk).digest()} for chunk in chunks],
            "wasm_module_hash": hashlib.sha256(wasm).digest(),
        }
        self._manage("install_chunked_code", encode([{"type": kind, "value": value}]))

    def _manage(self, method: str, argument: bytes) -> None:
        """Call the management canister for this canister."""
        result = self._call(b"", method, argument, ANONYMOUS)
        if isinstance(result, Reject):
            raise TosaicError(f"PocketIC refuses {method}: {result.text}")

    def _call(self, callee: bytes, method: str, argument: bytes, caller: bytes) -> bytes | Reject:
        """Submit a call and let rounds pass until it is answered."""
        submitted = self._server._instance_post(
            "update/submit_ingress_message", self._body(callee, method, argument, caller)
        )
        if "Ok" not in submitted:
            return _rejection(submitted)
        status = {"raw_message_id": submitted["Ok"], "raw_caller": None}
        for _ in range(_MOST_ROUNDS):
            self._server.tick()
            if found := self._server._instance_post("read/ingress_status", status):
                return _answer(found)
        raise TosaicError(f"PocketIC has not answered the call of '{method}' in {_MOST_ROUNDS} rounds")

    def _body(self, callee: bytes, method: str, argument: bytes, caller: bytes) -> dict[str, Any]:
        return {
            "sender": _base64(caller),
            "effective_principal": {"CanisterId": _base64(self.id.bytes)},
            "canister_id": _base64(callee),
            "method": method,
            "payload": _base64(argument),
        }


def _connect() -> PocketIC:
    """A client with a server of its own. Raises TosaicError where the package or the binary is missing."""
    if not os.environ.get(BINARY):
        raise TosaicError("there is no PocketIC server", f"set {BINARY} to the path of its binary")
    try:
        from pocket_ic import PocketIC
    except ImportError:
        raise TosaicError(
            "the package 'pocket-ic' is not installed", "install it: pip install 'tosaic[pocket-ic]'"
        ) from None
    try:
        return PocketIC()
    except (OSError, ValueError) as error:
        raise TosaicError(f"the PocketIC server '{os.environ[BINARY]}' does not start: {error}") from error


def _answer(result: dict[str, Any]) -> bytes | Reject:
    return base64.b64decode(result["Ok"]) if "Ok" in result else _rejection(result)


def _rejection(result: dict[str, Any]) -> Reject:
    error = result["Err"]
    code = error["reject_code"]
    return Reject(_REJECT_CODES.get(code, code), error["reject_message"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
