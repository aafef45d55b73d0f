"""Stands in for `dfx` in tests: `canister call`s of a script, answered by canisters in the test's replica.

The test opens a `Network`; run as a program this passes its arguments on to the one at the address NETWORK_ADDRESS.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Thread

BLOB = re.compile(r'blob "((?:\\[0-9a-f]{2})*)"')
PRINCIPAL = re.compile(r'principal "([a-z0-9-]+)"')


class Network:
    """Answers calls until it is closed. `calls` are the methods that were called; after `most` of them all fail."""

    def __init__(self, replica, address: Path) -> None:
        self.replica = replica
        self.calls: list[str] = []
        self.most = 1_000_000
        self._listener = Listener(str(address), family="AF_UNIX")
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                with self._listener.accept() as connection:
                    connection.send(self._answer(connection.recv()))
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()

    def _answer(self, arguments: Sequence[str]) -> tuple[int, str]:
        from tosaic.principals import parse_principal
        from tosaic.replica import Reject

        if len(self.calls) >= self.most:
            return 1, "the connection was lost"
        assert list(arguments[:3]) == ["canister", "call", "--network"]
        canister, method, *rest = arguments[4:]
        self.calls.append(method)
        call = self.replica.query if "--query" in rest else self.replica.update
        result = call(parse_principal(canister), method, encoded(argument_of(rest))).result
        if isinstance(result, Reject):
            return 1, result.text
        return 0, result.hex() if "raw" in rest else "()"


def argument_of(arguments: Sequence[str]) -> str:
    if "--argument-file" in arguments:
        return Path(arguments[arguments.index("--argument-file") + 1]).read_text()
    return arguments[0]


def encoded(text: str) -> bytes:
    """The Candid message of `()`, of one blob, or of one principal."""
    from tosaic.canister.blob import blob_argument
    from tosaic.canister.store import principal_argument
    from tosaic.principals import parse_principal
    from tosaic.tensors.candid import encode

    if text == "()":
        return encode([])
    if blob := re.fullmatch(rf"\({BLOB.pattern}\)", text):
        return blob_argument(bytes.fromhex(blob[1].replace("\\", "")))
    principal = re.fullmatch(rf"\({PRINCIPAL.pattern}\)", text)
    assert principal, text[:100]
    return principal_argument(parse_principal(principal[1]))


if __name__ == "__main__":
    with Client(os.environ["NETWORK_ADDRESS"], family="AF_UNIX") as connection:
        connection.send(sys.argv[1:])
        code, answer = connection.recv()
    print(answer, file=sys.stderr if code else sys.stdout)
    sys.exit(code)
