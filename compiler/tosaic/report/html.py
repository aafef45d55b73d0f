"""One self-contained HTML page about an artifact: tensors, segments, every op with its share of the cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from html import escape
from typing import Any

from torch_mlir import ir

from tosaic.report.tables import summary
from tosaic_passes.count_instructions import INSTRUCTIONS
from tosaic_passes.functions import find_function, segments

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; width: 100%; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { width: 30%; } td.bar div { background: #3b78c2; height: .8rem; min-width: 1px; }
@media (prefers-color-scheme: dark) { body { background: #181a1d; color: #ddd; } th, td { border-color: #444; } }
"""


def page(title: str, manifest: Mapping[str, Any], module: ir.Module) -> str:
    """The page as text. `module` is the artifact's program; nothing is loaded from elsewhere."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(summary(manifest))}.</p>",
        "<h2>Inputs and outputs</h2>",
        _table(["", "name", "dtype", "shape"], _tensor_rows(manifest)),
        "<h2>Messages</h2>",
        _table(["message", "predicted instructions"], _message_rows(manifest), numbers={1}),
        "<h2>Segments</h2>",
        _table(
            ["segment", "instructions", "multiply-adds", "live bytes after"],
            _segment_rows(manifest),
            numbers={1, 2, 3},
        ),
        "<h2>Operations</h2>",
        _operations(module),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _tensor_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    return [
        [role, tensor["name"], tensor["dtype"], str(tensor["shape"])]
        for role in ("input", "output")
        for tensor in manifest[f"{role}s"]
    ]


def _message_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    return [[m["name"], ("" if m["exact"] else "≤ ") + f"{m['predicted']:,}"] for m in manifest["messages"]]


def _segment_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    keys = ("instructions", "multiply_adds", "live_bytes")
    return [[s["name"], *(f"{s[key]:,}" for key in keys)] for s in manifest["segments"]]


def _operations(module: ir.Module) -> str:
    """Every op that costs something, with its share as a bar."""
    functions = segments(module) or [find_function(module, "main")]
    operations = [op.operation for function in functions for op in function.entry_block.operations]
    costs = [(op, op.attributes[INSTRUCTIONS].value) for op in operations if INSTRUCTIONS in op.attributes]
    total = sum(cost for _, cost in costs) or 1
    rows = "".join(
        f"<tr><td>{escape(_node_name(op))}</td><td>{escape(op.name)}</td><td>{escape(_result_types(op))}</td>"
        f'<td class="number">{cost:,}</td><td class="number">{cost / total:.1%}</td>'
        f'<td class="bar"><div style="width:{cost / total:.1%}"></div></td></tr>'
        for op, cost in costs
        if cost
    )
    headers = '<th>node</th><th>op</th><th>result</th><th class="number">instructions</th><th class="number">share</th>'
    return f"<table><tr>{headers}<th></th></tr>{rows}</table>"


def _node_name(operation: ir.Operation) -> str:
    location = operation.location
    return location.name_str if isinstance(location, ir.NameLoc) else ""


def _result_types(operation: ir.Operation) -> str:
    return ", ".join(str(result.type).removeprefix("tensor") for result in operation.results)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], numbers: Set[int] = frozenset()) -> str:
    def cell(tag: str, index: int, text: str) -> str:
        kind = ' class="number"' if index in numbers else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    lines = [("th", headers), *(("td", row) for row in rows)]
    return (
        "<table>"
        + "".join(
            "<tr>" + "".join(cell(tag, i, text) for i, text in enumerate(row)) + "</tr>" for tag, row in lines
        )
        + "</table>"
    )
