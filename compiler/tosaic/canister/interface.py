"""The Candid interface of a canister, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.canister.messages import Messages
from tosaic.tensors.candid import type_name
from tosaic.wasm.program import BorderTensor

_KEYWORDS = frozenset(
    "blob bool composite_query empty float32 float64 func import int int16 int32 int64 int8 nat nat16 nat32 nat64 nat8 "
    "null oneway opt principal query record reserved service text type variant vec".split()
)


@dataclass(frozen=True)
class Methods:
    """Which methods a canister has: in parts of `part_bytes` it takes inputs, gives outputs, takes and gives weights;
    are there a query, and a method for CBOR?"""

    takes_parts: bool
    gives_parts: bool
    takes_weights: bool
    gives_weights: bool
    query: bool
    cbor: bool
    part_bytes: int

    @classmethod
    def of(cls, messages: Messages) -> Methods:
        return cls(
            messages.takes_parts,
            messages.gives_parts,
            messages.weights is not None,
            messages.weights is not None and not messages.policy.weights_private,
            messages.has_query,
            messages.has_cbor,
            messages.prices.limits["chunk_bytes"],
        )


def interface_text(inputs: Sequence[BorderTensor], outputs: Sequence[BorderTensor], methods: Methods) -> str:
    """The service description; each tensor is a vector in row-major order."""
    arguments = "" if methods.takes_parts else _named(inputs)
    results = "" if methods.gives_parts else _named(outputs)
    lines = [f"// argument {_shape(t)}" for t in inputs] + [f"// result {_shape(t)}" for t in outputs]
    if methods.takes_parts:
        lines += [
            "// The inputs are sent in parts: the little-endian bytes of each tensor are cut into parts of",
            f"// {methods.part_bytes} bytes (the last is what is left), numbered through all tensors. Send them in",
            "// order, then call infer.",
        ]
    if methods.gives_parts:
        lines.append(
            f"// The outputs are fetched in parts of {methods.part_bytes} bytes, numbered in the same way."
        )
    if methods.takes_weights:
        lines += [
            f"// A controller uploads the weights in chunks of {methods.part_bytes} bytes, in any order, before infer",
            "// works; chunks tells how many are missing and, with a byte for each, which are there (1). Or the",
            "// controller lets the canister fetch what is missing from a store, which has chunks by their sha256;",
            "// the reply tells how many are missing then.",
        ]
    if methods.cbor:
        lines += [
            "// infer_cbor takes and gives one item of CBOR in its canonical form (RFC 8949, 4.2.1): a map from",
            "// the names above to tensors. A tensor is tag 40 on [shape, typed array] (RFC 8746), little-endian;",
            '// of a dtype without a typed array it is ["bfloat16", shape, typed array of the bits].',
        ]
    lines += [
        "// last_cost tells what the network counted for the messages of the last inference that was finished",
        "// (put and infer, not queries): the sum, and each of the first ones.",
        "service : {",
    ]
    if methods.takes_weights:
        lines += [
            "  put_chunk : (chunk : nat32, data : blob) -> ();",
            "  fetch_chunks : (store : principal) -> (missing : nat32);",
            "  chunks : () -> (missing : nat32, present : blob) query;",
        ]
    if methods.gives_weights:
        lines.append("  get_chunk : (digest : blob) -> (blob) query;")
    if methods.takes_parts:
        lines.append("  put : (part : nat32, data : blob) -> ();")
    lines.append(f"  infer : ({arguments}) -> ({results});")
    if methods.cbor:
        lines.append("  infer_cbor : (blob) -> (blob);")
    if methods.query:
        lines.append(f"  infer_query : ({arguments}) -> ({results}) query;")
    if methods.gives_parts:
        lines.append("  get : (part : nat32) -> (blob) query;")
    lines += [
        "  info : () -> (text) query;",
        "  progress : () -> (next_segment : nat32, segments : nat32) query;",
        "  last_cost : () -> (instructions : nat64, messages : vec nat64) query;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def candid_names(names: Sequence[str]) -> list[str]:
    """Candid identifiers for ONNX names, all different."""
    found: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9_]", "_", name) or "_"
        if base[0].isdigit() or base in _KEYWORDS:
            base = f"_{base}"
        unique, number = base, 2
        while unique in found:
            unique, number = f"{base}_{number}", number + 1
        found.append(unique)
    return found


def _named(tensors: Sequence[BorderTensor]) -> str:
    names = candid_names([tensor.name for tensor in tensors])
    return ", ".join(f"{name} : {type_name(tensor.dtype)}" for name, tensor in zip(names, tensors))


def _shape(tensor: BorderTensor) -> str:
    name = tensor.name.replace("\n", " ")
    return f"{name}: {tensor.dtype}[{', '.join(map(str, tensor.shape))}]"
