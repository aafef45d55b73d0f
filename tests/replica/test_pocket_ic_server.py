"""How a PocketIC server is started, and what becomes of one that does not start, refuses, or is gone."""

from __future__ import annotations

import re

import pytest

from server_stand_in import PORT_FILE, stand_in
from tosaic.errors import TosaicError
from tosaic.replica.pocket_ic_server import BINARY, PocketIcServer


def test_without_a_server_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.delenv(BINARY, raising=False)
    with pytest.raises(TosaicError, match=re.escape(f"there is no PocketIC server; set {BINARY}")):
        PocketIcServer()


@pytest.mark.parametrize(
    ("name", "script", "text"),
    [
        ("pocket-ic", "echo pocket-ic-server 7.0.0", "has version 7.0.0; use version 8 or a later one"),
        ("other", "echo 'the name must be pocket-ic' >&2; exit 101", "the name must be pocket-ic"),
        ("pocket-ic", "exit 0", "it says nothing"),
        ("my server", "echo pocket-ic-server 11.0.0", "has characters that a shell reads"),
    ],
    ids=["old", "wrong name", "something else", "path"],
)
def test_what_would_not_start_is_refused(name, script, text, tmp_path, monkeypatch) -> None:
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv(BINARY, str(program))
    with pytest.raises(TosaicError, match=re.escape(text)):
        PocketIcServer()


def test_a_path_without_a_program_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(BINARY, str(tmp_path / "nothing"))
    with pytest.raises(TosaicError, match="does not start"):
        PocketIcServer()


def test_what_a_dead_server_has_left_is_no_hindrance(tmp_path, monkeypatch) -> None:
    with stand_in(tmp_path) as program:
        monkeypatch.setenv(BINARY, program)
        PORT_FILE.write_text("1\n")
        assert PocketIcServer().post("update/tick", {}) is None


def test_a_server_that_is_gone_is_named(tmp_path, monkeypatch) -> None:
    with stand_in(tmp_path) as program:
        monkeypatch.setenv(BINARY, program)
        server = PocketIcServer()
    with pytest.raises(TosaicError, match="does not answer any more"):
        server.post("update/tick", {})
