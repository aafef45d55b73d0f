"""A server with the part of PocketIC's REST interface that tosaic uses, over tosaic's own replica.

It stands for a server that the tests cannot fetch: what it tests is the adapter, not the network. It is as strict as
the real one: what has another name, another type or another order than there is refused in the same way; long
operations are answered by `Started`, an operation beside another by `Busy`; it logs to stdout, and ends where another
server has the port file. Interface: dfinity/ic `packages/pocket-ic/src/common/rest.rs`, `src/main.rs` and
`src/state_api/routes.rs` of `rs/pocket_ic_server`, with what later versions ask for besides.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from tosaic.replica import Replica, Ticket
    from tosaic.replica.message import Message

VERSION = "pocket-ic-server 14.0.0"
ANONYMOUS = b"\x04"
OK, CREATED, STARTED, BAD_REQUEST, NOT_FOUND, BUSY, UNPROCESSABLE = 200, 201, 202, 400, 404, 409, 422
NOTHING = b"DIDL\0\0"


class Refused(Exception):
    """A request that the server does not take: the status, and JSON or plain text."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


class Rejected(Exception):
    """A call that the management canister rejects."""


# What a request must hold: a type of JSON, bytes in base64, or a record of such.

BLOB = object()
OPTIONAL = object()


def checked(schema: Any, value: Any, path: str = "body") -> Any:
    """The value with its blobs decoded; fields that the schema does not name are ignored, as serde does."""
    if schema is OPTIONAL:
        return value
    if schema is BLOB:
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise Refused(UNPROCESSABLE, f"Failed to deserialize the JSON body: {path}: no base64") from None
    if isinstance(schema, type):
        if type(value) is not schema:
            raise Refused(UNPROCESSABLE, f"Failed to deserialize the JSON body: {path}: {value!r}")
        return value
    if not isinstance(schema, Mapping):
        return schema(value, path)
    if not isinstance(value, dict):
        raise Refused(UNPROCESSABLE, f"Failed to deserialize the JSON body: {path}: no record")
    missing = [name for name, kind in schema.items() if kind is not OPTIONAL and name not in value]
    if missing:
        raise Refused(UNPROCESSABLE, f"Failed to deserialize the JSON body: missing field `{missing[0]}`")
    return {name: checked(kind, value.get(name), f"{path}.{name}") for name, kind in schema.items()}


def effective_principal(value: Any, path: str) -> Any:
    """`RawEffectivePrincipal`: the word None, or one of two kinds of principals."""
    if value == "None":
        return None
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in ("CanisterId", "SubnetId"):
        raise Refused(UNPROCESSABLE, f"Failed to deserialize the JSON body: {path}: unknown variant")
    return checked(dict.fromkeys(value, BLOB), value, path)


def subnets(value: Any, path: str) -> Any:
    """`ExtendedSubnetConfigSet` with exactly one new application subnet; since version 13 all lists are there."""
    checked(
        dict.fromkeys(("application", "system", "verified_application", "cloud_engine"), list), value, path
    )
    specs = [
        checked({"state_config": str, "instruction_config": str}, spec, path) for spec in value["application"]
    ]
    others = value["system"] + value["verified_application"] + value["cloud_engine"]
    if specs != [{"state_config": "New", "instruction_config": "Production"}] or others:
        raise Refused(BAD_REQUEST, {"Error": {"message": f"{path}: {value}"}})
    return value


CALL = {
    "sender": BLOB, "canister_id": BLOB, "effective_principal": effective_principal, "method": str, "payload": BLOB,
}  # fmt: skip
MESSAGE_ID = {"effective_principal": effective_principal, "message_id": BLOB}
SCHEMAS: dict[str, Any] = {
    "update/submit_ingress_message": CALL,
    "read/query": CALL,
    "read/get_cycles": {"canister_id": BLOB},
    "read/ingress_status": {"raw_message_id": MESSAGE_ID, "raw_caller": OPTIONAL},
    "update/tick": {"blockmakers": OPTIONAL},
}
INSTANCE = {"subnet_config_set": subnets, "state_dir": OPTIONAL, "log_level": OPTIONAL}


@dataclass
class Instance:
    """An instance of the network: at most one canister, its balance, and the calls that were submitted."""

    replica: Replica = field(default_factory=lambda: new_replica())
    canister: bytes = b""
    controller: bytes = b""
    cycles: int = 0
    charged: int = 0
    installed: bool = False
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    tickets: dict[bytes, tuple[Any, Ticket]] = field(default_factory=dict)

    def run(self, endpoint: str, body: Any) -> Any:
        operations: dict[str, Callable[[Any], Any]] = {
            "update/submit_ingress_message": self.submit,
            "read/query": self.query,
            "read/get_cycles": self.balance,
            "read/ingress_status": self.status,
            "update/tick": self.tick,
        }
        return operations[endpoint](body)

    def submit(self, call: dict[str, Any]) -> Any:
        limits = self.replica.prices.limits
        if len(call["payload"]) > limits["ingress_bytes"]:
            raise Refused(BAD_REQUEST, {"message": f"BadIngressMessage({len(call['payload'])} bytes)"})
        number = len(self.tickets).to_bytes(32, "big")
        if call["canister_id"] and call["canister_id"] != self.canister:
            return rejected("DestinationInvalid", "Canister not found", "CanisterNotFound")
        if call["canister_id"]:
            ticket = self.submit_to_canister(call)
            if is_declined(ticket.result):
                return result_of(ticket.result)
        else:
            ticket = self.submit_to_management(call)
        self.tickets[number] = (call["effective_principal"], ticket)
        principal = call["effective_principal"]
        shown = "None" if principal is None else {kind: text(value) for kind, value in principal.items()}
        return {"Ok": {"effective_principal": shown, "message_id": text(number)}}

    def submit_to_canister(self, call: dict[str, Any]) -> Ticket:
        ticket = self.replica.submit(call["canister_id"], call["method"], call["payload"], call["sender"])
        if not is_declined(ticket.result):
            fees = self.replica.prices.cycles
            self.cycles -= fees["per_ingress_message"]
            self.cycles -= fees["per_ingress_byte"] * len(call["method"].encode() + call["payload"])
        return ticket

    def submit_to_management(self, call: dict[str, Any]) -> Ticket:
        from tosaic.replica import Reject, Ticket

        try:
            return Ticket(self.manage(call))
        except Rejected as error:
            return Ticket(Reject(4, str(error)))

    def manage(self, call: dict[str, Any]) -> bytes:
        method, argument, sender = call["method"], call["payload"], call["sender"]
        if method == "provisional_create_canister_with_cycles":
            return self.create(argument, sender)
        if call["effective_principal"] not in (None, {"CanisterId": self.canister}):
            raise Rejected("Canister not found")
        if sender != self.controller:
            raise Rejected(
                f"Only controllers of canister {self.canister.hex()} can call ic00 method {method}"
            )
        types = management_types()
        value = record_of(argument, types[method])
        if bytes(value.get("canister_id", value.get("target_canister")).bytes) != self.canister:
            raise Rejected("Canister not found")
        if method == "upload_chunk":
            chunk = bytes(value["chunk"])
            if len(chunk) > self.replica.prices.limits["chunk_bytes"]:
                raise Rejected("Wasm chunk size exceeds the maximum chunk size")
            self.chunks[hashlib.sha256(chunk).digest()] = chunk
            return NOTHING
        if method == "install_chunked_code":
            hashes = [bytes(entry["hash"]) for entry in value["chunk_hashes_list"]]
            wasm = b"".join(self.chunks[digest] for digest in hashes)
            if hashlib.sha256(wasm).digest() != bytes(value["wasm_module_hash"]):
                raise Rejected("Error from Wasm chunk store: hash mismatch")
        else:
            wasm = bytes(value["wasm_module"])
        if self.installed or value["mode"] != {"install": None}:
            raise Rejected("Canister cannot be installed because the canister is not empty")
        self.install(wasm)
        return NOTHING

    def create(self, argument: bytes, sender: bytes) -> bytes:
        from ic.candid import Types, encode

        assert not self.canister
        settings = Types.Record({"wasm_memory_limit": Types.Opt(Types.Nat)})
        fields = {"amount": Types.Opt(Types.Nat), "settings": Types.Opt(settings)}
        value = record_of(argument, fields)
        ((limit,),) = (entry["wasm_memory_limit"] for entry in value["settings"])
        if limit > self.replica.prices.limits["heap_bytes"]:
            raise Rejected("Wasm memory limit exceeds the maximum")
        self.canister = (1).to_bytes(8, "big") + b"\1\1"
        self.cycles, self.controller = (value["amount"] or [100_000_000_000_000])[0], sender
        kind = Types.Record({"canister_id": Types.Principal})
        return encode([{"type": kind, "value": {"canister_id": self.canister}}])

    def install(self, wasm: bytes) -> None:
        from tosaic.errors import TosaicError

        try:
            installed = self.replica.install(wasm, controllers=(self.controller,))
        except TosaicError as error:
            raise Rejected(str(error)) from error
        assert installed.id == self.canister
        self.installed, self.charged = True, len(self.replica.messages)

    def tick(self, _: Any) -> None:
        self.replica.step()
        executed = self.replica.messages[self.charged :]
        self.charged += len(executed)
        self.cycles -= sum(fee_of(message, self.replica) for message in executed)

    def status(self, body: dict[str, Any]) -> Any:
        principal, ticket = self.tickets[body["raw_message_id"]["message_id"]]
        if principal != body["raw_message_id"]["effective_principal"]:
            return None
        return None if ticket.result is None else result_of(ticket.result)

    def query(self, call: dict[str, Any]) -> Any:
        result = self.replica.query(
            call["canister_id"], call["method"], call["payload"], call["sender"]
        ).result
        self.charged = len(self.replica.messages)
        return result_of(result)

    def balance(self, body: dict[str, Any]) -> Any:
        if body["canister_id"] != self.canister:
            raise Refused(BAD_REQUEST, {"message": "CanisterNotFound"})
        return {"cycles": self.cycles}


def new_replica() -> Replica:
    from tosaic.replica import Replica

    return Replica()


def management_types() -> dict[str, dict[str, Any]]:
    """The fields of the arguments of the management canister; what is optional is left out."""
    from ic.candid import Types

    blob, modes = Types.Vec(Types.Nat8), dict.fromkeys(("install", "reinstall", "upgrade"), Types.Null)
    common = {"mode": Types.Variant(modes), "arg": blob}
    return {
        "upload_chunk": {"canister_id": Types.Principal, "chunk": blob},
        "install_code": {**common, "canister_id": Types.Principal, "wasm_module": blob},
        "install_chunked_code": {
            **common,
            "target_canister": Types.Principal,
            "chunk_hashes_list": Types.Vec(Types.Record({"hash": blob})),
            "wasm_module_hash": blob,
        },
    }


def record_of(argument: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    from ic.candid import Types, decode

    try:
        (found,) = decode(argument, [Types.Record(fields)])
    except Exception as error:
        raise Rejected(f"Error decoding candid: {error}") from error
    return found["value"]


def is_declined(result: Any) -> bool:
    """Whether `canister_inspect_message` did not take the call."""
    from tosaic.replica import Reject

    return isinstance(result, Reject)


def fee_of(message: Message, replica: Replica) -> int:
    fees = replica.prices.cycles
    inner = fees["per_call"] + fees["per_call_byte"] * len("step") if message.name == "step" else 0
    return fees["per_update_message"] + fees["per_instruction"] * message.metered + inner


CODES = {1: "SysFatal", 2: "SysTransient", 3: "DestinationInvalid", 4: "CanisterReject", 5: "CanisterError"}


def result_of(result: Any) -> Any:
    from tosaic.replica import Reject

    if isinstance(result, Reject):
        return rejected(CODES[result.code], result.text, "CanisterRejectedMessage")
    return {"Ok": text(result)}


def rejected(code: str, message: str, error: str) -> Any:
    return {"Err": {"reject_code": code, "reject_message": message, "error_code": error, "certified": True}}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Handler(BaseHTTPRequestHandler):
    """Every fifth operation of an instance takes long; the request after it finds the instance busy once."""

    instances: ClassVar[dict[int, Instance]] = {}
    operations: ClassVar[Iterator[int]] = itertools.count(1)
    results: ClassVar[dict[str, Any]] = {}
    polled: ClassVar[set[str]] = set()
    busy: ClassVar[bool] = False

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.headers.get("Content-Type") != "application/json":
                raise Refused(415, "Expected request with `Content-Type: application/json`")
            self._answer(*self._post(self.path.strip("/").split("/"), json.loads(raw)))
        except Refused as refused:
            self._answer(refused.status, refused.body)

    def do_GET(self) -> None:
        kind, _, operation = self.path.strip("/").partition("/")
        if kind != "read_graph" or operation not in self.results:
            self._answer(NOT_FOUND, "")
        elif operation not in self.polled:
            self.polled.add(operation)
            self._answer(NOT_FOUND, {"message": f"state_label / op_id not found: {operation}"})
        else:
            self._answer(*self.results[operation])

    def do_DELETE(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        removed = (
            self.results.pop(name, None) if kind == "prune_graph" else self.instances.pop(int(name), None)
        )
        self._answer(OK if removed else NOT_FOUND, "")

    def log_message(self, format: str, *args: object) -> None:
        print("INFO", format % args, flush=True)

    def _post(self, path: list[str], body: Any) -> tuple[int, Any]:
        if path == ["instances"]:
            checked(INSTANCE, body)
            number = next(self.operations)
            self.instances[number] = Instance()
            created = {"instance_id": number, "topology": {}, "http_gateway_info": None}
            return CREATED, {"Created": created}
        endpoint = "/".join(path[2:])
        if path[0] != "instances" or endpoint not in SCHEMAS:
            return NOT_FOUND, ""
        request = checked(SCHEMAS[endpoint], body)
        number = next(self.operations)
        started = {"state_label": text(number.to_bytes(32, "big")).replace("/", "_"), "op_id": f"op_{number}"}
        if Handler.busy:
            Handler.busy = False
            return BUSY, started
        answer = self._operate(int(path[1]), endpoint, request)
        if number % 5:
            return answer
        Handler.busy = True
        self.results[f"{started['state_label']}/{started['op_id']}"] = answer
        return STARTED, started

    def _operate(self, number: int, endpoint: str, request: Any) -> tuple[int, Any]:
        if number not in self.instances:
            return BAD_REQUEST, {"message": "InstanceNotFound"}
        try:
            return OK, self.instances[number].run(endpoint, request)
        except Refused as refused:
            return refused.status, refused.body

    def _answer(self, status: int, document: Any) -> None:
        is_text = isinstance(document, str)
        body = document.encode() if is_text else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(VERSION)
        return
    option, name = arguments
    assert option == "--port-file"
    try:
        with Path(name).open("x") as port_file:
            server = HTTPServer(("127.0.0.1", 0), Handler)
            Path(name).with_suffix(".pid").write_text(str(os.getpid()))
            port_file.write(f"{server.server_port}\n")
    except FileExistsError:
        return  # a server is running already
    print("INFO The PocketIC server is listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
