"""Every reason for which a node is refused is shown by a test: its text is looked up in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = (
    "passes/tosaic_passes/onnx_to_tosa/*.py",
    "compiler/tosaic/frontend/*.py",
    "compiler/tosaic/*_inputs.py",
)
SHOWN_IN = ("lit_tests", "tests")
REFUSING = {
    "fail": 0,
    "LoweringFailure": 0,
    "UnresolvedError": 0,
    "TosaicError": 0,
    "UnsupportedNode": 2,
    "_fail": 2,
}
"""Callee -> which of its arguments is the reason."""

UNREACHED = {
    "no rule gives the shapes of its results": "only SequenceMap holds a graph besides, and its operands have no type",
    "' cannot be read: ": "needs a disk that fails",
    "the ModelProto exceeds 2 GB": "needs 2 GB",
    "' is no tensor but ": "what gives sequences or optional values is gone before types are inferred",
}
"""Reasons that no small model reaches, with why that is so."""


def reasons() -> Iterator[tuple[str, str]]:
    """Where a reason is given, and its longest piece of literal text; reasons that are handed on are not listed."""
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (text := _reason(node)):
                    yield f"{path.name}:{node.lineno}", text


def _reason(call: ast.Call) -> str:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    place = REFUSING.get(name)
    if place is None or len(call.args) <= place:
        return ""
    return max(_literals(call.args[place]), key=len, default="")


def _literals(text: ast.expr) -> list[str]:
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return [text.value]
    parts = text.values if isinstance(text, ast.JoinedStr) else []
    return [str(part.value) for part in parts if isinstance(part, ast.Constant)]


@pytest.fixture(scope="module")
def shown() -> str:
    """All tests in one text, this one left out."""
    files = (path for folder in SHOWN_IN for path in sorted((ROOT / folder).rglob("*")))
    texts = (p for p in files if p.suffix in (".py", ".mlir", ".onnxtxt", ".test") and p != Path(__file__))
    return "\n".join(path.read_text() for path in texts)


def test_every_reason_is_shown(shown: str) -> None:
    missing = [f"{place}: {text}" for place, text in reasons() if text not in shown and text not in UNREACHED]
    assert missing == []


def test_the_unreached_reasons_exist() -> None:
    assert set(UNREACHED) <= {text for _, text in reasons()}
