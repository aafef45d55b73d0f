"""docs/operators.md, made from the registry of lowerings and ONNX's schemas.

python -m tosaic.report.operators > docs/operators.md
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import onnx.defs

from tosaic_passes.onnx_to_tosa.registry import Lowering, all_lowerings, is_lowered

OLDEST_OPSET = 6
_TITLE = """# Operators

What tosaic lowers to TOSA, by domain. *Opsets* are those of the model for which the line holds; *dtypes* are those that
ONNX allows for the first operand and [types.md](types.md) can hold. Whatever is not here is refused with the node's
name and the reason. Made by `python -m tosaic.report.operators > docs/operators.md`.
"""
_KINDS = (
    ("f32", {"float"}),
    ("f64", {"double"}),
    ("f16", {"float16", "bfloat16"}),
    ("f8", {"float8e4m3fn", "float8e5m2", "float8e4m3fnuz", "float8e5m2fnuz"}),
    ("int", {"int8", "int16", "int32", "int64"}),
    ("uint", {"uint8", "uint16", "uint32", "uint64"}),
    ("int4", {"int4", "uint4", "int2", "uint2"}),
    ("bool", {"bool"}),
)
"""Column name -> ONNX's spellings; a group is named when ONNX allows any of its dtypes."""


def document() -> str:
    """The page as Markdown."""
    sections = [_TITLE]
    for domain, entries in groupby(all_lowerings(), key=lambda entry: entry.domain):
        sections.append("\n".join([f"## {domain or 'ai.onnx'}\n", *_table(list(entries))]) + "\n")
    return "\n".join([*sections, _expanded()])


def _expanded() -> str:
    """The operators that ONNX defines by other operators and that are lowered through that definition."""
    newest = onnx.defs.onnx_opset_version()
    names = [
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if not schema.domain and _has_definition(schema) and not is_lowered(schema.name, "", newest)
    ]
    return "## Through their definition in ONNX\n\n" + ", ".join(sorted(names)) + "\n"


def _has_definition(schema: Any) -> bool:
    """The stubs of onnx do not know these attributes."""
    return schema.has_function or schema.has_context_dependent_function


def _table(entries: Sequence[Lowering]) -> Iterator[str]:
    yield "| operator | opsets | dtypes | how, and what is not held |"
    yield "|---|---|---|---|"
    for _, group in groupby(entries, key=lambda entry: entry.op):
        versions = list(group)
        for entry, successor in zip(versions, [*versions[1:], None]):
            opsets = _opsets(entry, successor)
            if opsets:
                yield f"| {entry.op} | {opsets} | {_dtypes(entry)} | {_summary(entry)} |"


def _opsets(entry: Lowering, successor: Lowering | None) -> str:
    if entry.domain:
        return str(entry.since)
    first = max(entry.since, OLDEST_OPSET, _introduced(entry.op))
    if successor is None:
        return f"{first}+"
    last = successor.since - 1
    return "" if last < first else str(first) if last == first else f"{first}-{last}"


def _introduced(op: str) -> int:
    versions = [
        s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == op and not s.domain
    ]
    return min(versions, default=1)


def _dtypes(entry: Lowering) -> str:
    try:
        schema = onnx.defs.get_schema(entry.op, onnx.defs.onnx_opset_version(), entry.domain)
    except onnx.defs.SchemaError:
        return "as onnxruntime"
    if not schema.inputs:
        return "all"
    allowed = {re.sub(r"tensor\((\w+)\)", r"\1", name) for name in schema.inputs[0].types}
    return ", ".join(name for name, dtypes in _KINDS if dtypes & allowed) or "all"


def _summary(entry: Lowering) -> str:
    text = inspect.getdoc(entry.function) or ""
    first = text.split("\n\n")[0]
    return re.sub(r"\s+", " ", first).replace("|", "\\|")


if __name__ == "__main__":
    print(document(), end="")
