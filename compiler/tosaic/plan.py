"""`tosaic plan`: what of an artifact must be uploaded before it runs on the network, and what that costs.

The network builds a module from chunks in the chunk store of any canister on the same subnet (`upload_chunk`, then
`install_chunked_code`). Weights that the module does not hold are sent to the canister itself (`put_chunk`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tosaic.artifact import folder
from tosaic.canister.chunks import PUT_CHUNK
from tosaic.errors import TosaicError
from tosaic.limits import COMPILATION, HEAP, heap_setting
from tosaic.prices import PriceList

UPLOAD_CHUNK, INSTALL = "upload_chunk", "install_chunked_code"
_RECORD_BYTES = 38  # of an argument of `upload_chunk` besides the chunk: the type, its length, the canister
_HASH_BYTES = 34  # of an argument of `install_chunked_code` for each chunk
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Upload:
    """A chunk and the method that takes it; `number` counts for each method. `cycles` are paid unless it is `there`."""

    method: str
    number: int
    sha256: str
    bytes: int
    holds: str
    there: bool
    cycles: int


@dataclass(frozen=True)
class UploadPlan:
    """All chunks of an artifact, and the message that installs the module.

    `heap_setting` is the `wasm_memory_limit` that the canister needs, None where that of a new one will do.
    """

    module_sha256: str
    uploads: tuple[Upload, ...]
    install_cycles: int
    heap_setting: int | None = None

    @property
    def missing(self) -> list[Upload]:
        """What must be uploaded."""
        return [upload for upload in self.uploads if not upload.there]

    @property
    def messages(self) -> int:
        """Messages until the model runs: an upload each, and the installation."""
        return len(self.missing) + 1

    @property
    def bytes(self) -> int:
        """Bytes of the chunks to upload."""
        return sum(upload.bytes for upload in self.missing)

    @property
    def cycles(self) -> int:
        """What the network charges for the uploads and the installation."""
        return sum(upload.cycles for upload in self.missing) + self.install_cycles

    def document(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {
            "module_sha256": self.module_sha256,
            "uploads": [asdict(upload) for upload in self.uploads],
            "install": {"method": INSTALL, "cycles": self.install_cycles},
            "wasm_memory_limit": self.heap_setting,
            "messages": self.messages,
            "bytes": self.bytes,
            "cycles": self.cycles,
        }


def plan_uploads(
    manifest: Mapping[str, Any], have: Container[str] = (), prices: PriceList | None = None
) -> UploadPlan:
    """The plan for an artifact; `have` are the sha256 of the chunks that are there already."""
    prices = prices or PriceList.load()
    return UploadPlan(
        manifest["files"]["canister.wasm"]["sha256"],
        (*_module_uploads(manifest, have, prices), *_weight_uploads(manifest, have)),
        _install_cycles(manifest, prices),
        heap_setting(_used(manifest, HEAP), prices),
    )


def read_have(path: Path) -> frozenset[str]:
    """The sha256 of chunks in a JSON file or an artifact.

    The file is what `stored_chunks` of the management canister replies (a list of hashes in hex, or of records
    whose `hash` is hex or a list of bytes), or the manifest of another artifact.

    Raises:
        TosaicError: the file cannot be read, or is none of these.
    """
    if path.is_dir():
        return frozenset(_hashes_of_manifest(folder.read(path).of_kind(folder.MODEL).manifest))
    try:
        document = json.loads(path.read_text())
        return frozenset(_hashes(document))
    except OSError as error:
        raise TosaicError(f"cannot read '{path}': {error.strerror}") from None
    except ValueError:
        raise TosaicError(
            f"'{path}' is not a list of chunks",
            "give what stored_chunks replies as JSON, or the manifest.json of an artifact",
        ) from None


def _hashes(document: Any) -> Iterator[str]:
    match document:
        case {"chunks": _, "uploads": _}:
            yield from _hashes_of_manifest(document)
        case {"hash": hash}:
            yield from _hashes(hash)
        case [int(), *_]:
            yield from _hashes(bytes(document).hex())
        case [*entries]:
            for entry in entries:
                yield from _hashes(entry)
        case str() if _SHA256.fullmatch(text := document.lower().removeprefix("0x")):
            yield text
        case _:
            raise ValueError(document)


def _hashes_of_manifest(manifest: Mapping[str, Any]) -> Iterator[str]:
    for entry in [*manifest["chunks"], *manifest["uploads"]]:
        yield entry["sha256"]


def _module_uploads(manifest: Mapping[str, Any], have: Container[str], prices: PriceList) -> Iterator[Upload]:
    """Chunks of the module; a content that the module has twice is uploaded once."""
    before: set[str] = set()
    for number, entry in enumerate(manifest["chunks"]):
        there = entry["sha256"] in have or entry["sha256"] in before
        before.add(entry["sha256"])
        cycles = _ingress_cycles(UPLOAD_CHUNK, entry["bytes"] + _RECORD_BYTES, prices.upload_chunk, prices)
        holds = " and ".join(entry["holds"])
        yield Upload(UPLOAD_CHUNK, number, entry["sha256"], entry["bytes"], holds, there, cycles)


def _weight_uploads(manifest: Mapping[str, Any], have: Container[str]) -> Iterator[Upload]:
    for number, entry in enumerate(manifest["uploads"]):
        there = entry["sha256"] in have
        yield Upload(PUT_CHUNK, number, entry["sha256"], entry["bytes"], "weights", there, entry["cycles"])


def _install_cycles(manifest: Mapping[str, Any], prices: PriceList) -> int:
    """For compiling the module. What `canister_init` takes is too little to count."""
    size = _RECORD_BYTES + _HASH_BYTES * (len(manifest["chunks"]) + 1)
    return _ingress_cycles(INSTALL, size, _used(manifest, COMPILATION), prices)


def _used(manifest: Mapping[str, Any], what: str) -> int:
    """What a module uses of a limit."""
    return next(entry["used"] for entry in manifest["limits"] if entry["what"] == what)


def _ingress_cycles(method: str, argument_bytes: int, instructions: int, prices: PriceList) -> int:
    """What a message from outside costs: its arrival, its start, its instructions."""
    fees = prices.cycles
    return (
        fees["per_ingress_message"]
        + fees["per_ingress_byte"] * (len(method) + argument_bytes)
        + fees["per_update_message"]
        + fees["per_instruction"] * instructions
    )
