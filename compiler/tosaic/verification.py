"""`tosaic verify`: an artifact's files agree with each other, and the model compiles to exactly these files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tosaic.artifact import contents, folder, store
from tosaic.artifact.folder import Artifact, Content, entry_of
from tosaic.canister.assemble import CANDID_SECTION, PUBLIC
from tosaic.errors import TosaicError
from tosaic.options import CompileOptions
from tosaic.prices import PriceList
from tosaic.wasm.decode import BinaryModule

if TYPE_CHECKING:
    from tosaic.driver import Model

_WRONG = "compile the model again"


def verify(
    artifact: str | Path | Artifact,
    model: Model | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> list[str]:
    """What was checked, a line each: every hash, the module, and with a model that it compiles to this artifact.
    A store is made again and compared.

    `constants` are the values of the constants that the artifact was compiled with.

    Raises:
        TosaicError: naming what differs.
    """
    opened = folder.read(artifact.path if isinstance(artifact, Artifact) else artifact)
    done = [f"the {len(opened.manifest['files']) + 1} files are those that the manifest names"]
    if opened.manifest["kind"] == folder.STORE:
        return [*done, store.check_reproduced(opened)]
    for check in _CHECKS:
        done.append(check(opened))
    if model is not None:
        done.append(_check_reproduced(opened, model, constants or {}))
    return done


def _check_names(artifact: Artifact) -> str:
    """Weights and uploads are named by their content, and all that the manifest lists is there."""
    files = artifact.manifest["files"]
    listed = {f"weights/{entry['sha256']}": entry for entry in artifact.manifest["weights"]}
    listed |= {contents.upload_file(entry["sha256"]): entry for entry in artifact.manifest["uploads"]}
    named = {name for name in files if name.partition("/")[0] in ("weights", "uploads")}
    for name in sorted(listed.keys() | named):
        expected = {"bytes": listed.get(name, {}).get("bytes"), "sha256": name.rpartition("/")[2]}
        if files.get(name) != expected:
            raise TosaicError(f"'{name}' of the artifact is not what its name and the manifest say", _WRONG)
    for segment in artifact.manifest["segments"]:
        if segment["file"] not in files:
            raise TosaicError(f"'{segment['file']}' of the artifact is missing", _WRONG)
    return f"{len(artifact.manifest['weights'])} weights are named by their content"


def _check_keys(artifact: Artifact) -> str:
    """The manifest has all keys that the others are compared with; one too many shows in the module's manifest."""
    missing = sorted(set(contents.PRIVATE_KEYS) - artifact.manifest.keys())
    if missing:
        raise TosaicError(f"'{missing[0]}' is missing in '{folder.MANIFEST}'", _WRONG)
    return f"{folder.MANIFEST} is complete"


def _check_chunks(artifact: Artifact) -> str:
    """The chunks are those into which the network cuts the module."""
    wasm, size = artifact.read_bytes(contents.CANISTER), PriceList.load().limits["chunk_bytes"]
    pieces = [entry_of(wasm[start : start + size]) for start in range(0, len(wasm), size)]
    listed = [{"bytes": e["bytes"], "sha256": e["sha256"]} for e in artifact.manifest["chunks"]]
    for number, (piece, entry) in enumerate(itertools.zip_longest(pieces, listed)):
        if piece != entry:
            raise TosaicError(f"chunk {number} in the manifest is not that of '{contents.CANISTER}'", _WRONG)
    return f"the module {artifact.manifest['files'][contents.CANISTER]['sha256']} has these chunks"


def _check_interface(artifact: Artifact) -> str:
    if _metadata(artifact, CANDID_SECTION) != artifact.read_bytes(contents.CANDID):
        raise TosaicError(f"the interface in the module is not '{contents.CANDID}'", _WRONG)
    return f"the interface in the module is {contents.CANDID}"


def _check_public_manifest(artifact: Artifact) -> str:
    text = _metadata(artifact, contents.MANIFEST_SECTION)
    expected = contents.section_text(contents.public_part(artifact.manifest))
    if text != expected.encode():
        raise TosaicError(f"the manifest in the module differs from '{folder.MANIFEST}'", _WRONG)
    return f"the manifest in the module is that of {folder.MANIFEST}"


def _check_project(artifact: Artifact) -> str:
    expected = contents.project(artifact.read_bytes(contents.CANISTER), PriceList.load())
    if artifact.read_bytes(contents.PROJECT) != expected.encode():
        raise TosaicError(f"'{contents.PROJECT}' does not name the module of this artifact", _WRONG)
    return f"{contents.PROJECT} names the module"


_CHECKS: tuple[Callable[[Artifact], str], ...] = (
    _check_keys,
    _check_names,
    _check_chunks,
    _check_interface,
    _check_public_manifest,
    _check_project,
)


def _metadata(artifact: Artifact, name: str) -> bytes | None:
    module = BinaryModule.parse(artifact.read_bytes(contents.CANISTER))
    return dict(module.custom).get(f"{PUBLIC}{name}")


def _check_reproduced(artifact: Artifact, model: Model, constants: Mapping[str, np.ndarray]) -> str:
    """Compile with the recorded options and compare every file."""
    from tosaic.driver import compile_to_canister

    _check_prices(artifact)
    options = CompileOptions.from_record(artifact.manifest["options"], constants)
    compilation = compile_to_canister(model, options)
    files = contents.files(compilation)
    manifest = folder.completed(contents.manifest(compilation), files)
    different = list(_differences(artifact, files, manifest))
    if different:
        names = ", ".join(f"'{name}'" for name in different[:5]) + (", ..." if len(different) > 5 else "")
        raise TosaicError(
            f"the model compiles to another artifact: {len(different)} files differ ({names})",
            _other_toolchain(artifact, manifest) or "it is not the model that this artifact was made of",
        )
    return "the model compiles to exactly this artifact"


def _differences(
    artifact: Artifact, files: Mapping[str, Content], manifest: Mapping[str, Any]
) -> Iterator[str]:
    """The files of either artifact that the other has not, or has otherwise."""
    found = artifact.manifest["files"]
    for name in sorted(found.keys() | files.keys()):
        if found.get(name) != manifest["files"].get(name):
            yield name
    if manifest != artifact.manifest:
        yield folder.MANIFEST


def _check_prices(artifact: Artifact) -> None:
    if artifact.manifest["price_list_sha256"] != PriceList.load().digest:
        raise TosaicError(
            "the artifact was compiled with another price list, which decides how kernels are built",
            "use the version of tosaic, or the TOSAIC_PRICE_LIST, that it was compiled with",
        )


def _other_toolchain(artifact: Artifact, manifest: Mapping[str, Any]) -> str:
    """What to do about packages of other versions; empty where all are the same."""
    then, now = artifact.manifest["toolchain"], manifest["toolchain"]
    others = [
        f"{name} {then.get(name)} (here {now.get(name)})" for name in now if then.get(name) != now[name]
    ]
    return f"it was compiled with {', '.join(others)}: use these versions" if others else ""
