"""Whatever was changed in an artifact is found and named, and a model compiles to its artifact again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx.parser
import pytest

import tosaic
from models import PERCEPTRON, write_model
from tosaic.artifact import folder
from tosaic.errors import TosaicError
from tosaic.tools.tosaic import main

CONSTANT = """
<ir_version: 8, opset_import: ["" : 17]>
shifted (float[N, M] x, float[1, M] offset) => (float[N, M] y) { y = Add (x, offset) }
"""
OFFSET = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A perceptron in several segments, and the file that it was compiled from."""
    path = tmp_path_factory.mktemp("verify")
    model = write_model(PERCEPTRON, path / "model.onnx")
    whole = tosaic.compile_model(model, path / "whole.tosaic", batch_size=9000)
    limit = int(whole.manifest["total_predicted"] * 0.8)
    return tosaic.compile_model(model, path / "model.tosaic", batch_size=9000, limit_instructions=limit)


@pytest.fixture
def artifact(compiled, tmp_path):
    """A copy that may be changed."""
    shutil.copytree(compiled.path, tmp_path / "copy.tosaic")
    return folder.read(tmp_path / "copy.tosaic")


def sealed_again(artifact, **changes: object) -> None:
    """Make the manifest name the files as they are, and change entries of it."""
    files = {name: (artifact.path / name).read_bytes() for name in artifact.manifest["files"]}
    folder.write(artifact.path, files, {**artifact.manifest, **changes})


def test_everything_agrees_and_the_model_compiles_to_the_same_bytes(compiled):
    done = tosaic.verify(compiled, compiled.path.parent / "model.onnx")
    assert len(done) == 8
    assert done[-1] == "the model compiles to exactly this artifact"


def test_a_flipped_byte_in_any_file_is_named(artifact):
    for name in [*artifact.manifest["files"], folder.MANIFEST]:
        file = artifact.path / name
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(TosaicError, match=name):
            tosaic.verify(artifact.path)
        file.write_bytes(content)
    tosaic.verify(artifact.path)


def test_an_interface_other_than_the_module_s_is_found(artifact):
    (artifact.path / "canister.did").write_text("service : {}")
    sealed_again(artifact)
    with pytest.raises(TosaicError, match=r"the interface in the module is not 'canister.did'"):
        tosaic.verify(artifact.path)


def test_a_project_file_for_another_module_is_found(artifact):
    (artifact.path / "icp.yaml").write_text("canisters: []")
    sealed_again(artifact)
    with pytest.raises(TosaicError, match=r"'icp.yaml' does not name the module"):
        tosaic.verify(artifact.path)


def test_figures_other_than_the_module_s_are_found(artifact):
    sealed_again(artifact, total_predicted=1)
    with pytest.raises(TosaicError, match=r"the manifest in the module differs from 'manifest.json'"):
        tosaic.verify(artifact.path)


@pytest.mark.parametrize("change", ["none", "wrong", "one more", "cut elsewhere"])
def test_chunks_that_are_not_the_module_s_are_found(artifact, change):
    (chunk,) = artifact.manifest["chunks"]
    wasm = artifact.read_bytes("canister.wasm")
    wrong = {
        "none": [],
        "wrong": [{**chunk, "sha256": "0" * 64}],
        "one more": [chunk, chunk],
        "cut elsewhere": [{**folder.entry_of(piece), "holds": []} for piece in (wasm[:9], wasm[9:])],
    }
    sealed_again(artifact, chunks=wrong[change])
    with pytest.raises(TosaicError, match=r"chunk \d in the manifest is not that of 'canister.wasm'"):
        tosaic.verify(artifact.path)


def test_a_key_that_is_missing_is_named(artifact):
    manifest = {key: value for key, value in artifact.manifest.items() if key != "chunks"}
    files = {name: (artifact.path / name).read_bytes() for name in manifest["files"]}
    folder.write(artifact.path, files, manifest)
    with pytest.raises(TosaicError, match=r"'chunks' is missing in 'manifest.json'"):
        tosaic.verify(artifact.path)


def test_a_weight_under_a_wrong_name_is_found(artifact):
    name = f"weights/{artifact.manifest['weights'][0]['sha256']}"
    (artifact.path / name).write_bytes(b"other")
    sealed_again(artifact)
    with pytest.raises(TosaicError, match=f"'{name}' of the artifact is not what its name"):
        tosaic.verify(artifact.path)


def test_another_model_is_told_from_the_artifact_s(compiled, tmp_path):
    model = write_model(PERCEPTRON.replace("30", "31"), tmp_path / "other.onnx")
    with pytest.raises(
        TosaicError, match=r"compiles to another artifact.*'canister.wasm'.*it is not the model"
    ):
        tosaic.verify(compiled, model)


def test_other_versions_are_named(artifact):
    toolchain = {**artifact.manifest["toolchain"], "numpy": "1.0"}
    model = onnx.parser.parse_model(PERCEPTRON)
    from tosaic.verification import _check_reproduced  # what differs first is the manifest in the module

    changed = folder.Artifact(artifact.path, {**artifact.manifest, "toolchain": toolchain})
    with pytest.raises(TosaicError, match=r"compiled with numpy 1\.0 \(here "):
        _check_reproduced(changed, model, {})


OPTIONS = {
    "input_shapes": {"x": (None, 4)},
    "dims": {"N": 3},
    "constants": {"offset": OFFSET},
    "limit_instructions": 1_000_000,
    "access": "controllers",
}


def test_all_options_are_recorded(tmp_path):
    model = onnx.parser.parse_model(CONSTANT)
    artifact = tosaic.compile_model(model, tmp_path / "a.tosaic", **OPTIONS)
    tosaic.verify(artifact, model, {"offset": OFFSET})


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({}, "compiled with the constant 'offset'.*give --constant offset=FILE"),
        ({"offset": OFFSET + 1}, "another constant 'offset'"),
        ({"offset": OFFSET, "more": OFFSET}, "without a constant 'more'"),
    ],
)
def test_other_constants_are_named(tmp_path, constants, message):
    model = onnx.parser.parse_model(CONSTANT)
    artifact = tosaic.compile_model(model, tmp_path / "a.tosaic", **OPTIONS)
    with pytest.raises(TosaicError, match=message):
        tosaic.verify(artifact, model, constants)


def test_the_command_says_what_it_checked(compiled, capsys):
    model = str(compiled.path.parent / "model.onnx")
    assert main(["verify", str(compiled.path), "--model", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"] == tosaic.verify(compiled, model)


def test_the_command_fails_where_a_file_was_changed(artifact, capsys):
    (artifact.path / "canister.did").write_text("")
    assert main(["verify", str(artifact.path)]) == 1
    assert "canister.did" in capsys.readouterr().err
