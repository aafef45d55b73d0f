"""Fixtures for tests that run on several networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import server_stand_in
from tosaic.replica.pocket_ic_server import BINARY


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Iterator[str]:
    """The stand-in for a PocketIC server: one for all tests of a module, as it would be with the real one."""
    with server_stand_in.stand_in(tmp_path_factory.mktemp("server")) as program:
        yield program


@pytest.fixture(params=["stand-in", "PocketIC"])
def server(request, monkeypatch) -> None:
    """Makes POCKET_IC_BIN name the one server, and then the other."""
    if request.param == "stand-in":
        monkeypatch.setenv(BINARY, request.getfixturevalue("stand_in"))
    elif not server_stand_in.REAL:
        pytest.skip(server_stand_in.NO_SERVER)


@pytest.fixture(params=["replica", "stand-in", "PocketIC"])
def network(request, monkeypatch) -> str:
    """The name of a network, with POCKET_IC_BIN as it needs it."""
    if request.param == "stand-in":
        monkeypatch.setenv(BINARY, request.getfixturevalue("stand_in"))
    elif request.param == "PocketIC" and not server_stand_in.REAL:
        pytest.skip(server_stand_in.NO_SERVER)
    return request.param
