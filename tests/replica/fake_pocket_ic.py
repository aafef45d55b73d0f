"""A server with the part of PocketIC's REST interface that tosaic uses, over tosaic's own replica.

It stands for a server that the tests cannot fetch: what it tests is the adapter, not the network. Started like the real
one, with `--port-file FILE`. Interface: dfinity/ic `packages/pocket-ic/src/common/rest.rs`.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from ic.candid import Types, decode, encode

from tosaic.prices import PriceList
from tosaic.replica import Reject, Replica, Ticket
from tosaic.replica.message import Message

PRICES = PriceList.load()
BLOB = Types.Vec(Types.Nat8)
MODE = Types.Variant({"install": Types.Null})


class Instance:
    """An instance of the network: one canister, its balance, and the calls that were submitted."""

    def __init__(self) -> None:
        self.replica = Replica(PRICES)
        self.id = (1).to_bytes(8, "big") + b"\1\1"
        self.cycles = 0
        self.charged = 0
        self.chunks: list[bytes] = []
        self.tickets: dict[bytes, Ticket] = {}
        self.numbers = itertools.count()

    def submit(self, call: dict[str, Any]) -> dict[str, Any]:
        number = next(self.numbers).to_bytes(4, "big")
        argument, callee = (base64.b64decode(call[key]) for key in ("payload", "canister_id"))
        if callee:
            self.tickets[number] = self.replica.submit(
                callee, call["method"], argument, base64.b64decode(call["sender"])
            )
            fees = PRICES.cycles
            self.cycles -= fees["per_ingress_message"]
            self.cycles -= fees["per_ingress_byte"] * len(call["method"].encode() + argument)
        else:
            self.tickets[number] = Ticket(self.manage(call["method"], argument))
        return {"Ok": {"effective_principal": call["effective_principal"], "message_id": _text(number)}}

    def manage(self, method: str, argument: bytes) -> bytes:
        if method == "provisional_create_canister_with_cycles":
            kind = Types.Record({"canister_id": Types.Principal})
            return encode([{"type": kind, "value": {"canister_id": self.id}}])
        if method == "upload_chunk":
            self.chunks.append(
                bytes(_record(argument, {"canister_id": Types.Principal, "chunk": BLOB})["chunk"])
            )
        elif method == "install_code":
            fields = {"mode": MODE, "canister_id": Types.Principal, "wasm_module": BLOB, "arg": BLOB}
            self.install(bytes(_record(argument, fields)["wasm_module"]))
        elif method == "install_chunked_code":
            self.install(b"".join(self.chunks))
        return b"DIDL\0\0"

    def install(self, wasm: bytes) -> None:
        assert self.replica.install(wasm).id == self.id
        self.charged = len(self.replica.messages)

    def tick(self) -> None:
        self.replica.step()
        executed = self.replica.messages[self.charged :]
        self.charged += len(executed)
        self.cycles -= sum(map(_fee, executed))

    def status(self, id: dict[str, Any]) -> dict[str, Any] | None:
        result = self.tickets[base64.b64decode(id["message_id"])].result
        return None if result is None else _result(result)

    def query(self, call: dict[str, Any]) -> dict[str, Any]:
        callee, argument, sender = (base64.b64decode(call[k]) for k in ("canister_id", "payload", "sender"))
        result = self.replica.query(callee, call["method"], argument, sender).result
        self.charged = len(self.replica.messages)
        return _result(result)


def _fee(message: Message) -> int:
    fees = PRICES.cycles
    inner = fees["per_call"] + fees["per_call_byte"] * len("step") if message.name == "step" else 0
    return fees["per_update_message"] + fees["per_instruction"] * message.metered + inner


def _result(result: bytes | Reject) -> dict[str, Any]:
    if isinstance(result, Reject):
        return {"Err": {"reject_code": "CanisterReject", "reject_message": result.text, "error_code": "None"}}
    return {"Ok": _text(result)}


def _record(argument: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    (found,) = decode(argument, [Types.Record(fields)])
    return found["value"]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Handler(BaseHTTPRequestHandler):
    instance = Instance()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        document = json.loads(body) if body else {}
        self._answer(self._respond(self.path.partition("/instances")[2].lstrip("/0123456789"), document))

    def do_DELETE(self) -> None:
        self._answer({})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _respond(self, path: str, body: dict[str, Any]) -> Any:
        instance = self.instance
        match path:
            case "":
                return {"Created": {"instance_id": 0, "topology": {}}}
            case "update/add_cycles":
                instance.cycles += body["amount"]
                return {"cycles": instance.cycles}
            case "read/get_cycles":
                return {"cycles": instance.cycles}
            case "update/submit_ingress_message":
                return instance.submit(body)
            case "update/tick":
                instance.tick()
                return {}
            case "read/ingress_status":
                return instance.status(body["raw_message_id"])
            case "read/query":
                return instance.query(body)
        raise ValueError(path)

    def _answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    Path(sys.argv[sys.argv.index("--port-file") + 1]).write_text(f"{server.server_port}\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
