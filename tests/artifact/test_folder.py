"""Artifacts are written whole or not at all, and any changed byte is found."""

from __future__ import annotations

import os

import pytest

from tosaic.artifact import folder
from tosaic.errors import TosaicError

FILES = {"canister.wasm": b"\0asm", "weights/abc": b"\1\2\3\4", "segments/000.mlirbc": b"ML"}
MANIFEST = {"kind": "model", "inputs": [], "limit_instructions": 40}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.tosaic"


@pytest.fixture
def written(target):
    return folder.write(target, FILES, MANIFEST)


def contents(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_what_was_written_is_read(written, target):
    artifact = folder.read(target)
    assert artifact == written
    assert {name: artifact.read_bytes(name) for name in FILES} == FILES
    assert artifact.manifest["limit_instructions"] == 40


def test_nothing_else_is_left_in_the_parent(written, target):
    assert os.listdir(target.parent) == ["model.tosaic"]


def test_two_folders_hold_the_same_bytes(written, target, tmp_path):
    other = tmp_path / "other"
    folder.write(other, dict(reversed(FILES.items())), dict(reversed(MANIFEST.items())))
    assert contents(other) == contents(target)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_every_flipped_byte_is_found_and_its_file_named(written, target, name):
    file = target / name
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(TosaicError, match=f"{name}|schema version"):
            folder.read(target)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "other"}, {"files": []}, {"files": {"../secret": {}}}, {"files": {"/etc/passwd": {}}}],
)
def test_a_manifest_of_something_else_is_refused(written, target, wrong):
    manifest = folder._sealed({**written.manifest, **wrong})
    (target / "manifest.json").write_bytes(folder._serialise(manifest))
    with pytest.raises(TosaicError, match=r"manifest.json in '.*' was changed"):
        folder.read(target)


def test_missing_file_is_named(written, target):
    (target / "weights/abc").unlink()
    with pytest.raises(TosaicError, match=r"'weights/abc' of the artifact .* is missing"):
        folder.read(target)


def test_file_that_does_not_belong_is_named(written, target):
    (target / "weights/more").write_bytes(b"")
    with pytest.raises(TosaicError, match=r"'weights/more' .* does not belong to the artifact"):
        folder.read(target)


def test_artifact_is_replaced_whole(written, target):
    folder.write(target, {"canister.wasm": b"new"}, MANIFEST)
    assert set(contents(target)) == {"canister.wasm", "manifest.json"}
    assert os.listdir(target.parent) == ["model.tosaic"]


def test_the_state_of_the_network_s_tool_stays(written, target):
    (target / ".icp").mkdir()
    (target / ".icp" / "ids.json").write_text("{}")
    folder.read(target)
    folder.write(target, {"canister.wasm": b"new"}, MANIFEST)
    assert (target / ".icp" / "ids.json").read_text() == "{}"
    folder.read(target)


def test_failure_while_writing_leaves_the_old_artifact(written, target, monkeypatch):
    before = contents(target)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "_write_file", full)
    with pytest.raises(TosaicError, match=r"cannot write '.*': No space left on device"):
        folder.write(target, {"canister.wasm": b"new"}, MANIFEST)
    assert contents(target) == before
    assert os.listdir(target.parent) == ["model.tosaic"]


def test_failure_of_the_last_rename_brings_the_old_artifact_back(written, target, monkeypatch):
    (target / ".icp").mkdir()
    (target / ".icp" / "ids.json").write_text("{}")
    before = contents(target)
    rename = os.rename

    def fail_onto_target(source, destination):
        if destination == target and os.path.basename(source) != "old":
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail_onto_target)
    with pytest.raises(TosaicError, match="Input/output error"):
        folder.write(target, {"canister.wasm": b"new"}, MANIFEST)
    assert contents(target) == before


@pytest.mark.parametrize("kind", ["file", "other folder", "no parent"])
def test_other_things_are_never_replaced(tmp_path, kind):
    target = tmp_path / "precious"
    if kind == "file":
        target.write_text("data")
    elif kind == "other folder":
        target.mkdir()
        (target / "thesis.tex").write_text("data")
    else:
        target = tmp_path / "missing" / "model.tosaic"
    before = contents(tmp_path)
    with pytest.raises(TosaicError):
        folder.write(target, FILES, MANIFEST)
    assert contents(tmp_path) == before


def test_a_folder_that_is_no_artifact_is_not_read(tmp_path):
    with pytest.raises(TosaicError, match="is not an artifact"):
        folder.read(tmp_path)
