"""What must be uploaded and what it costs; and the script that does it, cut off anywhere and run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tosaic
from tosaic.artifact import folder
from tosaic.artifact.folder import Artifact
from tosaic.errors import TosaicError
from tosaic.plan import plan_uploads, read_have
from tosaic.prices import OVERRIDE, PriceList
from tosaic.tools.tosaic import main

CANISTER, OTHER, STORE = (
    "ryjl3-tyaaa-aaaaa-aaaba-cai",
    "rrkah-fqaaa-aaaaa-aaaaq-cai",
    "r7inp-6aaaa-aaaaa-aaabq-cai",
)
CHUNK = 4096


def model(head: int = 0) -> onnx.ModelProto:
    """Two layers with 6 KiB of weights, the second with numbers of this seed."""
    weights = [
        numpy_helper.from_array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), name)
        for name, shape, seed in (("a", (16, 64), 0), ("b", (64, 8), head))
    ]
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    border = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, size))]
        for name, size in (("x", 16), ("y", 8))
    ]
    graph = helper.make_graph(nodes, "two", *border, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def prices(tmp_path_factory) -> Path:
    """A price list whose chunks are small and whose modules hold no weights."""
    document = json.loads(json.dumps(PriceList.load().document))
    limits = document["limits"]
    limits["chunk_bytes"] = CHUNK
    limits["module_bytes"] = limits["code_section_bytes"] + limits["custom_section_bytes"] + CHUNK + 64
    path = tmp_path_factory.mktemp("prices") / "prices.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def small(prices, monkeypatch):
    monkeypatch.setenv(OVERRIDE, str(prices))


@pytest.fixture
def artifact(small, tmp_path) -> Artifact:
    return tosaic.compile_model(model(), tmp_path / "my model.tosaic")


def chunk_counts(artifact: Artifact) -> tuple[int, int]:
    return len(artifact.manifest["chunks"]), len(artifact.manifest["uploads"])


def test_everything_is_uploaded_where_nothing_is_there(artifact):
    plan = plan_uploads(artifact.manifest)
    chunks, uploads = chunk_counts(artifact)
    assert chunks >= 3
    assert uploads == 2
    assert [upload.method for upload in plan.uploads] == ["upload_chunk"] * chunks + ["put_chunk"] * uploads
    assert plan.messages == chunks + uploads + 1
    files = artifact.manifest["files"]
    assert plan.bytes == files["canister.wasm"]["bytes"] + sum(
        u["bytes"] for u in artifact.manifest["uploads"]
    )


def test_what_is_there_is_not_uploaded(artifact):
    there = {entry["sha256"] for entry in [*artifact.manifest["chunks"][1:], *artifact.manifest["uploads"]]}
    plan = plan_uploads(artifact.manifest, there)
    assert [(upload.method, upload.number) for upload in plan.missing] == [("upload_chunk", 0)]
    assert plan.messages == 2
    assert plan.bytes == CHUNK


def test_a_content_that_a_module_has_twice_is_uploaded_once(artifact):
    twice = [artifact.manifest["chunks"][0]] * 2
    plan = plan_uploads({**artifact.manifest, "chunks": twice, "uploads": []})
    assert [upload.there for upload in plan.uploads] == [False, True]


def test_models_share_the_uploads_of_weights_that_they_share(artifact, tmp_path):
    other = tosaic.compile_model(model(head=1), tmp_path / "other.tosaic")
    first, second = (
        [entry["sha256"] for entry in manifest["uploads"]] for manifest in (artifact.manifest, other.manifest)
    )
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_fees_are_those_of_the_price_list(artifact):
    upload = plan_uploads(artifact.manifest).uploads[0]
    types = b"DIDL\x02\x6c\x02\xed\x8c\x8b\xae\x04\x01\xb3\xc4\xb1\xf2\x04\x68\x6d\x7b\x01\x00"
    argument = len(types) + len(b"\x80\x80\x40") + CHUNK + len(b"\x01\x0a") + 10  # of a canister's principal
    size = len("upload_chunk") + argument
    assert upload.cycles == 1_200_000 + 2_000 * size + 5_000_000 + 200_000_000


HASHES = ["ab" * 32, "01" * 32]


@pytest.mark.parametrize(
    "document",
    [
        HASHES,
        [f"0x{hash.upper()}" for hash in HASHES],
        [{"hash": hash} for hash in HASHES],
        [{"hash": list(bytes.fromhex(hash))} for hash in HASHES],
        [[{"hash": list(bytes.fromhex(hash))} for hash in HASHES]],
        {"chunks": [{"sha256": HASHES[0]}], "uploads": [{"sha256": HASHES[1]}]},
    ],
)
def test_chunks_that_are_there_are_read_in_any_form(tmp_path, document):
    (tmp_path / "have.json").write_text(json.dumps(document))
    assert read_have(tmp_path / "have.json") == set(HASHES)


def test_chunks_of_another_artifact_are_there(artifact):
    plan = plan_uploads(artifact.manifest, read_have(artifact.path))
    assert plan.missing == []


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '["abc"]', "[null]", '{"hash": 3}', '[["a", "b"]]'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "have.json").write_text(text)
    with pytest.raises(TosaicError, match=r"have.json' is not a list of chunks -> |have.json' is not a list"):
        read_have(tmp_path / "have.json")


def test_the_command_prints_a_table_and_json(artifact, capsys):
    assert main(["plan", str(artifact.path), "--have", str(artifact.path / folder.MANIFEST)]) == 0
    table = capsys.readouterr().out
    assert "there" in table
    assert "to upload " not in table.split("\n", 1)[1]
    assert main(["plan", str(artifact.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == plan_uploads(artifact.manifest).document()
    assert document["cycles"] == sum(u["cycles"] for u in document["uploads"]) + document["install"]["cycles"]


class Network:
    """A network on which scripts run; `run` returns the methods that were called."""

    def __init__(self, path: Path, script: Path) -> None:
        self.state, self.script = path / "network", script
        tools = path / "tools"
        tools.mkdir()
        fake = Path(__file__).parent / "fake_dfx.py"
        (tools / "dfx").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
        (tools / "dfx").chmod(0o755)
        source = Path(tosaic.__file__).parents[1]
        self.environment = os.environ | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(source), str(source.parent / "passes")]),
            "NETWORK_STATE": str(self.state),
            "NETWORK": "local",
            "CANISTER": CANISTER,
        }

    def run(self, succeeds: bool = True, **environment: str) -> list[str]:
        before = len(self.calls)
        done = subprocess.run(
            ["bash", self.script], env=self.environment | environment, capture_output=True, text=True
        )
        assert (done.returncode == 0) == succeeds, done.stderr
        return self.calls[before:]

    @property
    def calls(self) -> list[str]:
        log = self.state / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def assert_complete(self, artifact: Artifact, canister: str = CANISTER) -> None:
        """The canister has the artifact's module and all of its weights."""
        assert (self.state / canister / "module").read_bytes() == artifact.read_bytes("canister.wasm")
        for number, entry in enumerate(artifact.manifest["uploads"]):
            put = (self.state / canister / "put" / str(number)).read_bytes()
            assert put == artifact.read_bytes(f"uploads/{entry['sha256']}")


@pytest.fixture
def network(artifact, tmp_path) -> Network:
    script = tmp_path / "deploy" / "upload.sh"
    script.parent.mkdir()
    assert main(["plan", str(artifact.path), "--script", str(script)]) == 0
    return Network(tmp_path, script)


def test_script_uploads_and_installs_everything_once(artifact, network):
    calls = network.run()
    chunks, uploads = chunk_counts(artifact)
    assert calls == [
        "stored_chunks", *["upload_chunk"] * chunks, "info", "install_chunked_code",
        "chunks", *["put_chunk"] * uploads, "chunks",
    ]  # fmt: skip
    network.assert_complete(artifact)
    assert network.run() == ["stored_chunks", "info", "chunks", "chunks"]


@pytest.mark.parametrize("calls", [2, 6, 9])
def test_an_interrupted_script_goes_on_where_it_was(artifact, network, calls):
    network.run(succeeds=False, FAILS_AFTER=str(calls))
    assert len(network.calls) == calls
    network.run()
    network.assert_complete(artifact)
    for method, count in zip(("upload_chunk", "put_chunk"), chunk_counts(artifact)):
        assert network.calls.count(method) == count


def test_canisters_with_one_store_share_what_was_uploaded(artifact, network):
    network.run(STORE=STORE)
    again = network.run(STORE=STORE, CANISTER=OTHER)
    assert "upload_chunk" not in again
    network.assert_complete(artifact, OTHER)


def test_script_and_project_let_a_canister_have_a_large_heap(artifact, prices, tmp_path, monkeypatch):
    document = json.loads(prices.read_text())
    document["limits"]["default_heap_bytes"] = 1
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "prices.json"))
    (tmp_path / "prices.json").write_text(json.dumps(document))
    large = tosaic.compile_model(model(), tmp_path / "large.tosaic")
    assert main(["plan", str(large.path), "--script", str(tmp_path / "up.sh")]) == 0
    network = Network(tmp_path, tmp_path / "up.sh")
    calls = network.run()
    assert calls.index("update_settings") < calls.index("install_chunked_code")
    heap = str(document["limits"]["heap_bytes"])
    assert (network.state / CANISTER / "heap").read_text() == heap
    settings = f"    settings:\n      wasm_memory_limit: {heap}\n"
    assert settings in (large.path / "icp.yaml").read_text()
    assert "settings" not in (artifact.path / "icp.yaml").read_text()


def test_script_stops_when_the_module_is_another_one(artifact, network):
    (artifact.path / "canister.wasm").write_bytes(b"\0" * 100)
    assert network.run(succeeds=False) == ["stored_chunks", "upload_chunk"]
