"""Stands in for `dfx` in tests: the calls of an upload script, answered from a folder as the network would.

NETWORK_STATE names the folder; FAILS_AFTER is the number of calls after which all further ones fail. Of the canister's
own methods `chunks` is answered by the canister, in the replica, after the chunks that were put so far.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

STATE = Path(os.environ["NETWORK_STATE"])
BLOB = re.compile(r'blob "((?:\\[0-9a-f]{2}|[^"\\])*)"')
PRINCIPAL = re.compile(r'(\w+) = (?:opt )?principal "([a-z0-9-]+)"')


def main(arguments: list[str]) -> str:
    STATE.mkdir(exist_ok=True)
    log = STATE / "calls"
    calls = log.read_text().splitlines() if log.exists() else []
    if len(calls) >= int(os.environ.get("FAILS_AFTER", 1_000_000)):
        sys.exit("the connection was lost")
    assert arguments[arguments.index("--network") + 1] == "local"
    method = "info" if arguments[1] == "info" else arguments[5]
    reply = globals()[f"answer_{method}"](arguments[4], argument_of(arguments[6:]))
    log.write_text("\n".join([*calls, method]))
    return reply


def argument_of(arguments: list[str]) -> str:
    if "--argument-file" in arguments:
        return Path(arguments[arguments.index("--argument-file") + 1]).read_text()
    return arguments[0] if arguments else ""


def blobs(text: str) -> list[bytes]:
    return [
        re.sub(rb"\\([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), raw.encode())
        for raw in BLOB.findall(text)
    ]


def folder(*names: str) -> Path:
    path = STATE.joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


def answer_info(canister: str, _: str) -> str:
    module = folder(canister) / "module"
    hash = f"0x{hashlib.sha256(module.read_bytes()).hexdigest()}" if module.exists() else "None"
    return f"Controllers: 2vxsx-fae\nModule hash: {hash}"


def answer_stored_chunks(_: str, argument: str) -> str:
    store = dict(PRINCIPAL.findall(argument))["canister_id"]
    return b"DIDL".hex() + "".join(sorted(file.name for file in folder(store, "store").iterdir()))


def answer_upload_chunk(_: str, argument: str) -> str:
    (chunk,) = blobs(argument)
    hash = hashlib.sha256(chunk).hexdigest()
    (folder(dict(PRINCIPAL.findall(argument))["canister_id"], "store") / hash).write_bytes(chunk)
    return b"DIDL".hex() + hash


def answer_update_settings(canister: str, argument: str) -> str:
    assert canister == "aaaaa-aa"
    (limit,) = re.findall(r"wasm_memory_limit = opt \((\d+) : nat\)", argument)
    (folder(dict(PRINCIPAL.findall(argument))["canister_id"]) / "heap").write_text(limit)
    return "()"


def answer_install_chunked_code(_: str, argument: str) -> str:
    principals = dict(PRINCIPAL.findall(argument))
    *hashes, module_hash, init = blobs(argument)
    store = folder(principals["store_canister"], "store")
    module = b"".join((store / hash.hex()).read_bytes() for hash in hashes)
    target = folder(principals["target_canister"]) / "module"
    assert hashlib.sha256(module).digest() == module_hash
    assert init == b"DIDL\0\0"
    assert ("variant { install }" in argument) != target.exists()
    target.write_bytes(module)
    return "()"


def answer_chunks(canister: str, _: str) -> str:
    from tosaic.canister.client import put_chunk
    from tosaic.replica import Replica
    from tosaic.tensors.candid import encode

    installed = Replica().install((folder(canister) / "module").read_bytes())
    for file in folder(canister, "put").iterdir():
        put_chunk(installed, int(file.name), file.read_bytes())
    return installed.query("chunks", encode([])).reply.hex()


def answer_put_chunk(canister: str, argument: str) -> str:
    (data,) = blobs(argument)
    number = re.match(r"\((\d+) : nat32, ", argument)
    assert number
    (folder(canister, "put") / number[1]).write_bytes(data)
    return "()"


if __name__ == "__main__":
    print(main(sys.argv[1:]))
