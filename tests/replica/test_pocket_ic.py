"""Models on PocketIC: the adapter against a server of our own, and all of it on the real one where there is one."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import tosaic
from models import BRANCHES_AND_LOOP, PERCEPTRON, write_model
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica.pocket_ic import BINARY, PocketIcCanister
from tosaic.tensors import candid

FAKE = Path(__file__).parent / "fake_pocket_ic.py"
REAL = os.environ.get(BINARY)


@pytest.fixture(params=["fake", "real"])
def server(request, tmp_path, monkeypatch) -> None:
    """A server for the test; it ends with it."""
    if request.param == "real":
        if not REAL:
            pytest.skip(f"{BINARY} names no PocketIC server")
        yield
        return
    started = tmp_path / "server.pid"
    program = tmp_path / "pocket-ic"
    paths = os.pathsep.join(sys.path)
    program.write_text(
        f'#!/bin/sh\necho $$ > "{started}"\nPYTHONPATH="{paths}" exec "{sys.executable}" "{FAKE}" "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv(BINARY, str(program))
    port_file = Path(tempfile.gettempdir(), f"pocket_ic_{os.getpid()}.port")
    port_file.unlink(missing_ok=True)
    yield
    port_file.unlink(missing_ok=True)
    if started.exists():
        os.kill(int(started.read_text()), 15)


@pytest.mark.parametrize(("batch", "share"), [(3, 2.0), (9000, 0.75)], ids=["one message", "in pieces"])
def test_a_model_gives_the_same_bits_and_takes_what_was_predicted(batch, share, server, tmp_path) -> None:
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    whole = tosaic.compile_model(model, tmp_path / "whole.tosaic", batch_size=batch)
    limit = int(whole.manifest["total_predicted"] * share)
    artifact = tosaic.compile_model(model, tmp_path / "a.tosaic", batch_size=batch, limit_instructions=limit)
    here, there = tosaic.load(artifact), tosaic.load(artifact, "pocket-ic")
    inputs = here.random_inputs()
    expected, found = here.run(inputs), there.run(inputs)
    np.testing.assert_array_equal(found.outputs["y"], expected.outputs["y"])
    assert found.total_metered == found.total_predicted == expected.total_metered


def test_a_module_that_no_message_carries_is_installed_in_chunks(server, tmp_path) -> None:
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    artifact = tosaic.compile_model(model, tmp_path / "a.tosaic", batch_size=1)
    prices = PriceList(
        PriceList.load().document | {"limits": {**PriceList.load().limits, "chunk_bytes": 4000}}
    )
    wasm = artifact.read_bytes("canister.wasm")
    assert len(wasm) > 4000
    reply = PocketIcCanister(wasm, prices).query("info", candid.encode([])).reply
    assert '"name": "x"' in candid.decode_values(reply)[0]


def test_data_dependent_models_take_at_most_what_was_predicted(server, tmp_path) -> None:
    model = write_model(BRANCHES_AND_LOOP, tmp_path / "model.onnx")
    there = tosaic.load(tosaic.compile_model(model, tmp_path / "a.tosaic"), "pocket-ic")
    (message,) = there.run(there.random_inputs()).messages
    assert not message.exact
    assert message.metered <= message.predicted


def test_without_a_server_the_remedy_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(BINARY, raising=False)
    artifact = tosaic.compile_model(
        write_model(PERCEPTRON, tmp_path / "m.onnx"), tmp_path / "a", batch_size=1
    )
    with pytest.raises(TosaicError, match=re.escape(f"there is no PocketIC server; set {BINARY}")):
        tosaic.load(artifact, "pocket-ic")
