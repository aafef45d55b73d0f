"""The script that uploads weights to a store, run against a store in the replica: cut off anywhere, run again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tosaic
from models import PERCEPTRON, write_model
from replica_dfx import Network
from tosaic.canister.client import fetch_chunks, missing_chunks
from tosaic.canister.store.client import Status, StoreClient
from tosaic.errors import TosaicError
from tosaic.principals import principal_text
from tosaic.replica import Replica
from tosaic.store_script import store_script, write_script
from tosaic.tools.tosaic import main


@pytest.fixture
def network(tmp_path):
    opened = Network(Replica(), tmp_path / "socket")
    yield opened
    opened.close()


@pytest.fixture
def models(tmp_path) -> list[Path]:
    """A model with its weights in uploads, and another with the same ones and some more."""
    small = write_model(PERCEPTRON, tmp_path / "small.onnx")
    large = write_model(PERCEPTRON.replace("-30, 0.5, 1", "-31, 0.5, 1"), tmp_path / "large.onnx")
    options = {"weights": "uploaded", "batch_size": 1}
    return [
        tosaic.compile_model(model, tmp_path / f"{model.stem} model.tosaic", **options).path
        for model in (small, large)
    ]


def run(script: Path, network: Network, **settings: str) -> subprocess.CompletedProcess:
    """Run a script with the fake `dfx` first on the path."""
    bin = script.parent / "bin"
    bin.mkdir(exist_ok=True)
    dfx = bin / "dfx"
    dfx.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).parent / "replica_dfx.py"}" "$@"\n')
    dfx.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "NETWORK_ADDRESS": str(script.parent / "socket"),
        "NETWORK": "local",
        **settings,
    }
    return subprocess.run(["bash", str(script)], capture_output=True, text=True, env=environment, check=False)


def test_the_script_fills_a_store_from_which_models_fetch(tmp_path, network, models) -> None:
    arguments = [
        "store",
        "-o",
        str(tmp_path / "store"),
        "--script",
        str(tmp_path / "up.sh"),
        *map(str, models),
    ]
    assert main(arguments) == 0
    store = network.replica.install((tmp_path / "store" / "canister.wasm").read_bytes())
    canisters = [network.replica.install((model / "canister.wasm").read_bytes()) for model in models]
    readers = " ".join(principal_text(canister.id) for canister in canisters)
    done = run(tmp_path / "up.sh", network, STORE=principal_text(store.id), READERS=readers)
    assert done.returncode == 0, done.stderr
    assert StoreClient(store).status() == Status(2, 0, False)
    for canister in canisters:
        fetch_chunks(canister, store.id)
        assert missing_chunks(canister) == []


@pytest.mark.parametrize("calls", range(6))
def test_a_script_that_was_cut_off_goes_on(tmp_path, network, models, calls: int) -> None:
    write_script(tmp_path / "up.sh", store_script(tmp_path / "up.sh", models))
    main(["store", "-o", str(tmp_path / "store")])
    store = network.replica.install((tmp_path / "store" / "canister.wasm").read_bytes())
    network.most = calls
    cut = run(tmp_path / "up.sh", network, STORE=principal_text(store.id))
    finished = calls >= len(["have", "declare", "put_chunk", "put_chunk", "have"])
    assert (cut.returncode == 0) == finished, cut.stderr
    network.most = 100
    again = run(tmp_path / "up.sh", network, STORE=principal_text(store.id))
    assert again.returncode == 0, again.stderr
    assert StoreClient(store).status() == Status(2, 0, False)
    assert network.calls.count("put_chunk") == 2


def test_the_model_s_script_lets_it_fetch(tmp_path, network, models) -> None:
    write_script(tmp_path / "up.sh", store_script(tmp_path / "up.sh", models[:1]))
    main(["store", "-o", str(tmp_path / "store")])
    store = network.replica.install((tmp_path / "store" / "canister.wasm").read_bytes())
    canister = network.replica.install((models[0] / "canister.wasm").read_bytes())
    names = {"STORE": principal_text(store.id), "READERS": principal_text(canister.id)}
    assert run(tmp_path / "up.sh", network, **names).returncode == 0
    main(["plan", str(models[0]), "--script", str(tmp_path / "model.sh")])
    script = (tmp_path / "model.sh").read_text()
    start, end = script.index("\nstored=$("), script.index("\nask_present\n")
    (tmp_path / "model.sh").write_text(script[:start] + script[end:])  # the module is installed already
    done = run(
        tmp_path / "model.sh", network, CANISTER=principal_text(canister.id), WEIGHTS=principal_text(store.id)
    )
    assert done.returncode == 0, done.stderr
    assert missing_chunks(canister) == []


def test_models_that_hold_their_weights_are_refused(tmp_path) -> None:
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    artifact = tosaic.compile_model(model, tmp_path / "model.tosaic", batch_size=1)
    with pytest.raises(TosaicError, match="holds the weights"):
        store_script(tmp_path / "up.sh", [artifact.path])


@pytest.mark.parametrize("more", [["--script", "up.sh"], ["model.tosaic"]])
def test_a_script_and_models_are_given_together(tmp_path, more, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["store", "-o", "store", *more]) == 1
    assert "give --script FILE and ARTIFACT... together" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
