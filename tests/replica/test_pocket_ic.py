"""Models on PocketIC: on a stand-in for its server, and on the real one where there is one."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import tosaic
from models import BRANCHES_AND_LOOP, PERCEPTRON, write_model
from tosaic.canister import cost_log
from tosaic.errors import TosaicError
from tosaic.prices import PriceList
from tosaic.replica.pocket_ic import PocketIcCanister
from tosaic.replica.pocket_ic_server import PocketIcServer
from tosaic.tensors import candid
from tosaic.tools.tosaic import main


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
    assert [(m.name, m.metered) for m in found.messages] == [(m.name, m.metered) for m in expected.messages]
    assert found.total_performance_counter == found.total_predicted == expected.total_metered
    assert found.charged_cycles == artifact.manifest["cycles"]


def test_messages_that_the_canister_tells_in_sum_are_one(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cost_log, "MOST_READINGS", 2)
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    artifact = tosaic.compile_model(
        model, tmp_path / "a.tosaic", batch_size=9000, limit_instructions=6_000_000
    )
    assert len(artifact.manifest["messages"]) > 2
    there = tosaic.load(artifact, "pocket-ic")
    found = there.run(there.random_inputs())
    assert [m.name for m in found.messages] == ["infer", "step", "further messages"]
    assert [m.metered for m in found.messages] == [m.predicted for m in found.messages]
    assert found.total_metered == artifact.manifest["total_predicted"]


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


def test_weights_that_no_module_holds_are_uploaded(server, tmp_path) -> None:
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    output = str(tmp_path / "a.tosaic")
    assert main(["compile", str(model), "-o", output, "-b", "2", "--weights=uploaded"]) == 0
    there = tosaic.load(output, "pocket-ic")
    for _ in range(2):
        found = there.run(there.random_inputs())
        assert found.total_predicted == found.total_performance_counter
        assert found.charged_cycles == there.manifest["cycles"]


def test_data_dependent_models_take_at_most_what_was_predicted(server, tmp_path) -> None:
    model = write_model(BRANCHES_AND_LOOP, tmp_path / "model.onnx")
    there = tosaic.load(tosaic.compile_model(model, tmp_path / "a.tosaic"), "pocket-ic")
    (message,) = there.run(there.random_inputs()).messages
    assert not message.exact
    assert 0 < message.metered <= message.predicted


def test_the_command_prints_nothing_but_its_result(server, tmp_path, capfd) -> None:
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    tosaic.compile_model(model, tmp_path / "a.tosaic", batch_size=1)
    assert main(["run", str(tmp_path / "a.tosaic"), "--replica=pocket-ic", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["total_predicted"] == document["total_performance_counter"]
    assert document["charged_cycles"] > document["total_predicted"]


def test_a_module_that_the_network_does_not_take_is_refused(server) -> None:
    with pytest.raises(TosaicError, match="PocketIC refuses install_code"):
        PocketIcCanister(b"\0asm\1\0\0\0\7", PriceList.load())


def test_requests_that_the_server_does_not_know_are_refused(server) -> None:
    with pytest.raises(TosaicError, match=re.escape("PocketIC refuses 'read/nothing' (404)")):
        PocketIcServer().post("read/nothing", {})
    with pytest.raises(TosaicError, match=re.escape("PocketIC refuses 'read/get_cycles' (422)")):
        PocketIcServer().post("read/get_cycles", {})
