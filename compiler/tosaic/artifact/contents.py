"""What is in an artifact: the files of a compilation and the manifest that describes them (docs/artifact.md)."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic.artifact.folder import MODEL, SCHEMA, SCHEMA_VERSION, Content, entry_of
from tosaic.artifact.modules import new_context, parse_module, to_bytecode
from tosaic.limits import heap_bytes, heap_setting
from tosaic.options import CompileOptions
from tosaic.prices import PriceList
from tosaic.wasm.decode import BinaryModule
from tosaic_passes.functions import segments
from tosaic_passes.limit_usage import LimitUsage
from tosaic_passes.program import Program
from tosaic_passes.split_execution import MESSAGE_INSTRUCTIONS

if TYPE_CHECKING:
    from tosaic.canister import Canister, PlannedMessage
    from tosaic.wasm.module import Module
    from tosaic.wasm.program import BorderTensor, WasmProgram

PROGRAM, CANISTER, CANDID, PROJECT = "program.mlirbc", "canister.wasm", "canister.did", "icp.yaml"
HIDDEN = "canister.hidden"
MANIFEST_SECTION = "tosaic:manifest"
"""The metadata of the canister that holds the public manifest."""
PRIVATE_KEYS = (
    "segments",
    "messages",
    "weights",
    "limits",
    "chunks",
    "uploads",
    "fetch",
    "files",
    "manifest_sha256",
)
"""Keys of the manifest that the public one lacks: they depend on the module, or have no bound."""
BYTECODE_VERSION = 6
"""MLIR's bytecode format; fixed, so that a newer MLIR does not change the artifact by itself."""
TOOLCHAIN = ("tosaic", "torch-mlir", "onnx", "numpy", "ml_dtypes")


@dataclass(frozen=True, eq=False)
class Compilation:
    """A compiled model in memory: the cut program, its WebAssembly, its canister and how that stands to limits."""

    program: Program
    wasm_program: WasmProgram
    canister: Canister
    limit_instructions: int
    prices: PriceList
    options: CompileOptions
    limit_usage: tuple[LimitUsage, ...] = ()


def files(compilation: Compilation) -> dict[str, Content]:
    """Every file of the artifact but the manifest, by its name in the folder."""
    return {
        PROGRAM: to_bytecode(compilation.program.module, BYTECODE_VERSION),
        CANISTER: compilation.canister.wasm,
        CANDID: compilation.canister.did.encode(),
        HIDDEN: hidden(compilation.canister.module, compilation.canister.did).encode(),
        PROJECT: project(compilation.canister.wasm, compilation.prices).encode(),
        **dict(_segment_files(compilation.program)),
        **upload_files(compilation),
        **{_weight_file(array): _bytes_of(array) for array in compilation.program.weights.values()},
    }


def upload_files(compilation: Compilation) -> dict[str, Content]:
    """What is uploaded after the installation, by its name in the folder."""
    return {upload_file(chunk.digest.hex()): chunk.data for chunk in compilation.canister.weights}


def upload_file(sha256: str) -> str:
    """The file of a chunk of the weights."""
    return f"uploads/{sha256}"


def manifest(compilation: Compilation) -> dict[str, Any]:
    """The manifest without what the folder adds: hashes of the files, its own hash."""
    canister, prices = compilation.canister, compilation.prices
    return {
        **public_manifest(compilation),
        "segments": list(_segment_entries(compilation)),
        "messages": [_message_entry(message, prices) for message in canister.messages],
        "weights": _weight_entries(compilation.program),
        "limits": [{"what": u.what, "used": u.used, "limit": u.limit} for u in compilation.limit_usage],
        "chunks": list(_chunk_entries(canister, prices.limits["chunk_bytes"])),
        "uploads": list(_upload_entries(canister, prices)),
        "fetch": [_message_entry(message, prices) for message in canister.fetches],
    }


def public_manifest(compilation: Compilation) -> dict[str, Any]:
    """What of the manifest stands in the module as well: all but `PRIVATE_KEYS`."""
    wasm, canister, prices = compilation.wasm_program, compilation.canister, compilation.prices
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "kind": MODEL,
        "inputs": [_border_entry(tensor) for tensor in wasm.inputs],
        "outputs": [_border_entry(tensor) for tensor in wasm.outputs],
        "limit_instructions": compilation.limit_instructions,
        "access": str(compilation.options.policy.access),
        "options": compilation.options.record(),
        "query": _message_entry(canister.query, prices) if canister.query else None,
        "cbor": [_message_entry(message, prices) for message in canister.cbor] if canister.cbor else None,
        "total_predicted": sum(message.instructions(prices) for message in canister.messages),
        "cycles": sum(message.cycles(prices) for message in canister.messages),
        "seconds": _seconds(canister.messages, prices),
        "multiply_adds": wasm.macs,
        "memory_bytes": wasm.memory_bytes,
        "arena_bytes": wasm.arena_bytes,
        "largest_live_bytes": wasm.largest_live_bytes,
        "toolchain": {name: _version(name) for name in TOOLCHAIN},
        "bytecode_version": BYTECODE_VERSION,
        "tosa": _target(compilation.program.module),
        "price_list_sha256": prices.digest,
    }


def with_public_manifest(compilation: Compilation) -> Compilation:
    """The compilation with its public manifest in the module, where anyone can read it from the network."""
    content = section_text(public_manifest(compilation)).encode()
    return replace(compilation, canister=compilation.canister.with_metadata(MANIFEST_SECTION, content))


def public_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The public manifest, of a whole one."""
    return {key: value for key, value in manifest.items() if key not in PRIVATE_KEYS}


def section_text(document: Mapping[str, Any]) -> str:
    """A manifest as it stands in a module."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def hidden(module: Module, did: str) -> str:
    """What the module exports besides the methods of its interface, a line each: for `ic-wasm check-endpoints`."""
    declared = re.findall(r"^  (\w+) :", did, re.MULTILINE)
    own = [name for name in module.exports if name.partition(" ")[2] not in declared]
    return "".join(f"{name.replace(' ', ':')}\n" for name in sorted(own))


def project(wasm: bytes, prices: PriceList, name: str = MODEL) -> str:
    """An `icp.yaml` that takes the module as a canister of this name that is built already."""
    lines = [
        "canisters:",
        f"  - name: {name}",
        "    build:",
        "      steps:",
        "        - type: pre-built",
        f"          path: {CANISTER}",
        f"          sha256: {hashlib.sha256(wasm).hexdigest()}",
    ]
    if heap := heap_setting(heap_bytes(BinaryModule.parse(wasm)), prices):
        lines += ["    settings:", f"      wasm_memory_limit: {heap}"]
    return "\n".join(lines) + "\n"


def public_info(wasm_program: WasmProgram) -> str:
    """What the canister itself says about the model: its inputs and outputs, as JSON."""
    border = {"inputs": wasm_program.inputs, "outputs": wasm_program.outputs}
    document = {role: [_border_entry(tensor) for tensor in tensors] for role, tensors in border.items()}
    return json.dumps(document, sort_keys=True, ensure_ascii=False)


def _segment_files(program: Program) -> Iterator[tuple[str, bytes]]:
    """One module a segment, `@main` its only function. Weights are named, not held: they are in `weights/`."""
    for index, function in enumerate(segments(program.module)):
        with program.context, ir.Location.unknown():
            module = ir.Module.create()
            for attribute in program.module.operation.attributes:
                module.operation.attributes[attribute] = program.module.operation.attributes[attribute]
            clone = function.operation.clone(ir.InsertionPoint(module.body))
            clone.attributes["sym_name"] = ir.StringAttr.get("main")
            clone.attributes["sym_visibility"] = ir.StringAttr.get("public")
            text = module.operation.get_asm(enable_debug_info=True, large_resource_limit=0)
        yield _segment_file(index), to_bytecode(parse_module(text, new_context()).module, BYTECODE_VERSION)


def _segment_file(index: int) -> str:
    return f"segments/{index:03}.mlirbc"


def _segment_entries(compilation: Compilation) -> Iterator[dict[str, Any]]:
    functions = segments(compilation.program.module)
    for index, (function, code) in enumerate(zip(functions, compilation.wasm_program.segments)):
        yield {
            "name": function.name.value,
            "file": _segment_file(index),
            "instructions": code.function.cost,
            "message_instructions": function.attributes[MESSAGE_INSTRUCTIONS].value,
            "exact": code.exact,
            "multiply_adds": code.macs,
            "live_bytes": code.live_bytes,
            "live_tensors": _tensor_types(function),
        }


def _tensor_types(function: func.FuncOp) -> list[str]:
    """The types of what the segment hands on: read by later segments or part of the reply."""
    return [str(type) for type in function.type.results]


def _weight_entries(program: Program) -> list[dict[str, Any]]:
    entries = {
        _weight_file(array): {
            "sha256": _weight_file(array).rpartition("/")[2],
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "bytes": array.nbytes,
        }
        for array in program.weights.values()
    }
    return [entries[name] for name in sorted(entries)]


def _weight_file(array: np.ndarray) -> str:
    return f"weights/{hashlib.sha256(_bytes_of(array)).hexdigest()}"


def _bytes_of(array: np.ndarray) -> memoryview:
    """The little-endian bytes of an array, not copied where it has them already."""
    little = array if array.dtype.byteorder != ">" else array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def _message_entry(message: PlannedMessage, prices: PriceList) -> dict[str, Any]:
    return {"name": message.name, "predicted": message.instructions(prices), "exact": message.exact}


def _seconds(messages: Sequence[PlannedMessage], prices: PriceList) -> float:
    """How long the rounds of the update messages take, about."""
    updates = [message for message in messages if message.kind != "query"]
    return prices.round_seconds * sum(prices.rounds(message.instructions(prices)) for message in updates)


def _upload_entries(canister: Canister, prices: PriceList) -> Iterator[dict[str, Any]]:
    for chunk, message in zip(canister.weights, canister.uploads):
        yield {
            "sha256": chunk.digest.hex(),
            "offset": chunk.offset,
            "bytes": len(chunk.data),
            "predicted": message.instructions(prices),
            "cycles": message.cycles(prices),
        }


def _border_entry(tensor: BorderTensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def _chunk_entries(canister: Canister, size: int) -> Iterator[dict[str, Any]]:
    weights = len(canister.wasm) - canister.module.weight_bytes
    for start in range(0, len(canister.wasm), size):
        piece = canister.wasm[start : start + size]
        holds = ["code"] * (start < weights) + ["weights"] * (start + len(piece) > weights)
        yield {**entry_of(piece), "holds": holds}


def _target(module: ir.Module) -> str:
    attributes: Mapping[str, ir.Attribute] = module.operation.attributes
    return str(attributes["tosa.target_env"]) if "tosa.target_env" in attributes else ""


@functools.cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
