"""An artifact on disk: written whole or not at all, read only when every byte is what was written.

`manifest.json` lists the sha256 and size of every other file and, in `manifest_sha256`, of itself without that entry.
It is canonical JSON (sorted keys, two spaces), so any changed byte is found.

The network's tool `icp` keeps its state, such as the identifiers of canisters, in a folder `.icp` beside `icp.yaml`. It
is no part of the artifact and stays when the artifact is replaced.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tosaic.errors import TosaicError

MANIFEST = "manifest.json"
SCHEMA = "tosaic.artifact"
SCHEMA_VERSION = 3
MODEL, STORE = "model", "store"
"""Kinds of artifacts."""
_SELF = "manifest_sha256"
_TOOL_STATE = ".icp"
_REMEDY = "compile the model again or copy the artifact again"

Content = bytes | memoryview


@dataclass(frozen=True)
class Artifact:
    """A folder whose files were all found to be what the manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    def of_kind(self, kind: str) -> Artifact:
        """The same artifact. Raises TosaicError where it is of another kind."""
        if (found := self.manifest["kind"]) != kind:
            raise TosaicError(f"'{self.path}' is a {found} and not a {kind}")
        return self

    def read_bytes(self, name: str) -> bytes:
        """The content of a file that the manifest lists. Raises TosaicError if it changed since it was opened."""
        content = _read(self.path, name)
        _check(name, content, self.manifest["files"][name])
        return content


def check_target(path: Path) -> None:
    """Refuse, before any work is done, a path where no artifact can be put. Raises TosaicError."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise TosaicError(f"'{path}' exists and is not a folder", "name another output with -o")
    if path.is_dir() and any(path.iterdir()) and not _is_artifact(path):
        raise TosaicError(f"'{path}' exists and is not an artifact", "name another output with -o")
    if not path.absolute().parent.is_dir():
        raise TosaicError(f"cannot write '{path}': there is no folder '{path.absolute().parent}'")
    if not os.access(path.absolute().parent, os.W_OK):
        raise TosaicError(f"cannot write '{path}': no permission to write in '{path.absolute().parent}'")


def write(path: Path, files: Mapping[str, Content], manifest: Mapping[str, Any]) -> Artifact:
    """Put an artifact at `path`, replacing one that is there. `manifest` is completed by the list of files.

    Everything is written to a folder beside the target and flushed to disk; then the folders change places.
    Raises TosaicError, with nothing changed, when that is not possible.
    """
    path = path.absolute()
    check_target(path)
    complete = completed(manifest, files)
    try:
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            for name, content in {**files, MANIFEST: _serialise(complete)}.items():
                _write_file(staging / name, content)
            _finish_folders(staging)
            _take_place(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise TosaicError(f"cannot write '{path}': {error.strerror}") from None
    return Artifact(path, complete)


def completed(manifest: Mapping[str, Any], files: Mapping[str, Content]) -> dict[str, Any]:
    """A manifest as it is written beside these files."""
    entries = {name: entry_of(content) for name, content in files.items()}
    return _sealed({**manifest, "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "files": entries})


def read(path: str | Path) -> Artifact:
    """The artifact in a folder, every file checked.

    Raises TosaicError naming the first file that is missing, changed, or does not belong there.
    """
    path = Path(path)
    if not _is_artifact(path):
        raise TosaicError(f"'{path}' is not an artifact", "make one with tosaic compile MODEL -o FOLDER")
    manifest = _read_manifest(path)
    for name, entry in manifest["files"].items():
        _check(name, _read(path, name), entry)
    for name in sorted(set(_present(path)) - {MANIFEST, *manifest["files"]}):
        raise TosaicError(f"'{name}' in '{path}' does not belong to the artifact", "remove it")
    return Artifact(path, manifest)


def entry_of(content: Content) -> dict[str, Any]:
    """How a manifest names bytes: their number and their sha256."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _present(path: Path) -> Iterator[str]:
    """The files in the folder."""
    for file in path.rglob("*"):
        relative = file.relative_to(path)
        if relative.parts[0] != _TOOL_STATE and not file.is_dir():
            yield relative.as_posix()


def _read_manifest(path: Path) -> dict[str, Any]:
    content = _read(path, MANIFEST)
    damaged = TosaicError(f"{MANIFEST} in '{path}' was changed", _REMEDY)
    try:
        manifest = json.loads(content)
    except ValueError:
        raise damaged from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise damaged
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise TosaicError(
            f"'{path}' has schema version {manifest.get('schema_version')}, this tosaic reads {SCHEMA_VERSION}",
            "compile the model with this version",
        )
    if _serialise(_sealed(manifest)) != content or not _is_complete(manifest):
        raise damaged
    return manifest


def _is_complete(manifest: Mapping[str, Any]) -> bool:
    """Whether it is one of an artifact: of a known kind, with files inside of the folder."""
    files = manifest.get("files")
    if manifest.get("kind") not in (MODEL, STORE) or not isinstance(files, dict):
        return False
    return not any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in files)


def _sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    bare = {key: value for key, value in manifest.items() if key != _SELF}
    return {**bare, _SELF: hashlib.sha256(_serialise(bare)).hexdigest()}


def _serialise(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _check(name: str, content: bytes, entry: Mapping[str, Any]) -> None:
    if entry_of(content) != entry:
        raise TosaicError(f"'{name}' of the artifact was changed: its sha256 is not the manifest's", _REMEDY)


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError:
        raise TosaicError(f"'{name}' of the artifact '{path}' is missing", _REMEDY) from None
    except OSError as error:
        raise TosaicError(f"cannot read '{path / name}': {error.strerror}") from None


def _is_artifact(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def _write_file(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _finish_folders(staging: Path) -> None:
    """`mkdtemp` makes private folders; an artifact has the permissions that the user's umask gives."""
    mask = os.umask(0)
    os.umask(mask)
    staging.chmod(0o777 & ~mask)
    for folder in (staging, *(entry for entry in staging.rglob("*") if entry.is_dir())):
        _sync_folder(folder)


def _take_place(staging: Path, path: Path) -> None:
    """Rename the new folder to its place; the old one steps aside and comes back if that fails."""
    if not path.exists():
        os.rename(staging, path)
        _sync_folder(path.parent)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    old = aside / "old"
    os.rename(path, old)
    try:
        _move_tool_state(old, staging)
        os.rename(staging, path)
    except OSError:
        _move_tool_state(staging, old)
        os.rename(old, path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _sync_folder(path.parent)


def _move_tool_state(source: Path, target: Path) -> None:
    if (source / _TOOL_STATE).is_dir():
        os.rename(source / _TOOL_STATE, target / _TOOL_STATE)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)
