"""A PocketIC server with an instance of the network on it: how it is started, and the conversation with it.

The package `pocket-ic` starts the server that `POCKET_IC_BIN` names and makes the instance. Afterwards it would take
for a result what the server answers while it is not done yet, so the conversation is held here. Interface: dfinity/ic
`packages/pocket-ic/src/common/rest.rs` and `rs/pocket_ic_server/src/state_api/routes.rs`.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tosaic.errors import TosaicError

if TYPE_CHECKING:
    import requests
    from pocket_ic import PocketIC

BINARY = "POCKET_IC_BIN"
"""Environment variable with the path of the server."""
OLDEST = 8
"""The first major version with `read/ingress_status` and results that are replies or rejections."""

_MUTE = "POCKET_IC_MUTE_SERVER"
_START_SECONDS = 60
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.01, 1.0


class PocketIcServer:
    """An instance of the network on a server that ends by itself when nobody has called it for a while.

    Raises:
        TosaicError: the package or the binary is missing, or the server does not start.
    """

    def __init__(self) -> None:
        self._instance = _start()
        self._session = self._instance.server.request_client

    def post(self, endpoint: str, body: Mapping[str, Any]) -> Any:
        """What an endpoint of the instance answers, however long it takes.

        Raises:
            TosaicError: the server refuses the request or is gone.
        """
        path = f"instances/{self._instance.instance_id}/{endpoint}"
        wait = _FIRST_WAIT_SECONDS
        while True:
            response = self._request("POST", path, body)
            if response.status_code == HTTPStatus.ACCEPTED:
                return self._await(response.json())
            if response.status_code != HTTPStatus.CONFLICT:
                return _result(endpoint, response)
            wait = _sleep(wait)

    def _await(self, started: Mapping[str, str]) -> Any:
        """The result of an operation that the server goes on with; until it is there nothing is found."""
        operation = f"{started['state_label']}/{started['op_id']}"
        wait = _FIRST_WAIT_SECONDS
        while True:
            response = self._request("GET", f"read_graph/{operation}")
            if response.status_code != HTTPStatus.NOT_FOUND:
                self._request("DELETE", f"prune_graph/{operation}")
                return _result("read_graph", response)
            wait = _sleep(wait)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        import requests

        url = self._instance.server.url
        try:
            return self._session.request(method, f"{url}/{path}", json=body)
        except requests.ConnectionError as error:
            raise TosaicError(
                f"the PocketIC server at {url} does not answer any more", "run the model again on a new one"
            ) from error


def _result(endpoint: str, response: requests.Response) -> Any:
    if response.ok:
        return response.json() if response.content else None
    raise TosaicError(f"PocketIC refuses '{endpoint}' ({response.status_code}): {_message(response)}")


def _message(response: requests.Response) -> str:
    """What the server says to an error: JSON with a message, or plain text."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()


def _sleep(seconds: float) -> float:
    """Wait; how long to wait the next time."""
    time.sleep(seconds)
    return min(2 * seconds, _LONGEST_WAIT_SECONDS)


def _start() -> PocketIC:
    """A new instance; a server that this process has started before is used again."""
    path = os.environ.get(BINARY)
    if not path:
        raise TosaicError("there is no PocketIC server", f"set {BINARY} to the path of its binary")
    try:
        import requests
        from pocket_ic import PocketIC
    except ImportError:
        raise TosaicError(
            "the package 'pocket-ic' is not installed", "install it: pip install 'tosaic[pocket-ic]'"
        ) from None

    class Instance(PocketIC):
        """Ends without complaint where it never began, or the server has ended before."""

        def __del__(self) -> None:
            with suppress(requests.RequestException, AttributeError):
                super().__del__()

    _check_binary(path)
    _remove_stale_port_file()
    os.environ.setdefault(_MUTE, "1")  # what the server logs would be mixed with what a command prints
    try:
        return Instance()
    except (OSError, ValueError, KeyError) as error:
        raise TosaicError(f"the PocketIC server '{path}' does not start: {error}") from error


def _check_binary(path: str) -> None:
    """Refuse what will not start: the package would wait for it for ever."""
    if shlex.quote(path) != path:
        raise TosaicError(
            f"the path of the PocketIC server, '{path}', has characters that a shell reads",
            "the package pocket-ic starts it by a shell: put it somewhere else",
        )
    try:
        shown = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_START_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TosaicError(f"the PocketIC server '{path}' does not start: {error}") from error
    version = re.search(r"(\d+)\.\d+", shown.stdout)
    if shown.returncode or not version:
        said = (shown.stderr or shown.stdout).strip().splitlines() or ["it says nothing"]
        raise TosaicError(f"'{path}' does not start as a PocketIC server: {said[-1]}")
    if int(version[1]) < OLDEST:
        raise TosaicError(
            f"the PocketIC server '{path}' has version {shown.stdout.split()[-1]}",
            f"use version {OLDEST} or a later one",
        )


def _remove_stale_port_file() -> None:
    """Remove what a server of an earlier process with this number has left: a new server would not start beside it."""
    file = Path(tempfile.gettempdir(), f"pocket_ic_{os.getpid()}.port")
    port = file.read_text().strip() if file.is_file() else ""
    if not port.isdigit():
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", int(port))):
            file.unlink(missing_ok=True)
