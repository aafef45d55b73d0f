"""The Candid interface of a canister, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tosaic.tensors.candid import type_name
from tosaic.wasm.program import BorderTensor

_KEYWORDS = frozenset(
    "blob bool composite_query empty float32 float64 func import int int16 int32 int64 int8 nat nat16 nat32 nat64 nat8 "
    "null oneway opt principal query record reserved service text type variant vec".split()
)


def interface_text(inputs: Sequence[BorderTensor], outputs: Sequence[BorderTensor], has_query: bool) -> str:
    """The service description; each tensor is a vector in row-major order."""
    arguments, results = _named(inputs), _named(outputs)
    lines = [
        *(f"// argument {_shape(tensor)}" for tensor in inputs),
        *(f"// result {_shape(tensor)}" for tensor in outputs),
        "service : {",
        f"  infer : ({arguments}) -> ({results});",
        *([f"  infer_query : ({arguments}) -> ({results}) query;"] if has_query else []),
        "  info : () -> (text) query;",
        "  progress : () -> (next_segment : nat32, segments : nat32) query;",
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
