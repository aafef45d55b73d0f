"""`--verify-diagnostics`: comparing what is wrong with the comments that expect it.

    // expected-error @below {{has no lowering}}

The comments are MLIR's own: expected-error, -warning, -remark, -note; `-re` for a regular expression in the
braces; `@below`, `@above`, `@+N`, `@-N` or `@unknown` for the line, this line without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch_mlir import ir

from tosaic.errors import TosaicError, UnsupportedNodesError
from tosaic_passes.diagnostics import Diagnostic, from_error, located
from tosaic_passes.pipeline import NativePassError

_EXPECTATION = re.compile(
    r"expected-(?P<severity>error|warning|remark|note)(?P<regex>-re)?"
    r"\s*(?:@(?P<at>[+-]\d+|above|below|unknown))?\s*\{\{(?P<text>.*?)\}\}(?!\})"
)


@dataclass(frozen=True)
class Expectation:
    """One `expected-...` comment. `line` is the line it speaks of, 0 for `@unknown`."""

    severity: str
    text: str
    is_regex: bool
    line: int
    written_at: int

    def matches(self, diagnostic: Diagnostic) -> bool:
        if (self.severity, self.line) != (diagnostic.severity, diagnostic.line):
            return False
        return bool(re.search(self.text if self.is_regex else re.escape(self.text), diagnostic.message))


def from_exception(error: TosaicError | ir.MLIRError) -> list[Diagnostic]:
    """The diagnostics that an error stands for, in the order they were found."""
    if isinstance(error, NativePassError):
        return error.diagnostics or [Diagnostic("error", str(error))]
    if isinstance(error, ir.MLIRError):
        return from_error(error)
    if isinstance(error, UnsupportedNodesError):
        return [located("error", str(node), node.location) for node in error.nodes]
    return [Diagnostic("error", str(error))]


def expectations(text: str) -> list[Expectation]:
    """Every expectation in the comments of a source."""
    lines = text.splitlines()
    return [
        Expectation(m["severity"], m["text"], bool(m["regex"]), _line_meant(m["at"], number, lines), number)
        for number, line in enumerate(lines, 1)
        for m in _EXPECTATION.finditer(line)
    ]


def mismatches(expected: Iterable[Expectation], found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """What was found and not expected, and what was expected and not found. Each expectation serves once."""
    left = list(expected)
    wrong = []
    for diagnostic in found:
        match = next((e for e in left if e.matches(diagnostic)), None)
        if match is not None:
            left.remove(match)
        else:
            message = f"unexpected {diagnostic.severity}: {diagnostic.message}"
            wrong.append(Diagnostic("error", message, diagnostic.line, diagnostic.column))
    for e in left:
        wrong.append(
            Diagnostic("error", f'expected {e.severity} "{e.text}" was not produced', e.written_at, 1)
        )
    return wrong


def _line_meant(at: str | None, number: int, lines: list[str]) -> int:
    """`@below` and `@above` skip lines that hold nothing but other expectations."""
    if at == "unknown":
        return 0
    if at in ("below", "above"):
        step = 1 if at == "below" else -1
        number += step
        while 0 < number <= len(lines) and _EXPECTATION.search(lines[number - 1]):
            number += step
        return number
    return number + int(at or 0)
