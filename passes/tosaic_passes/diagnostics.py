"""What MLIR says is wrong, and where, as plain data that outlives the context it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch_mlir import ir

_FILE_LINE_COLUMN = re.compile(r'"((?:[^"\\]|\\.)*)":(\d+):(\d+)')
_SEVERITIES = {
    ir.DiagnosticSeverity.ERROR: "error",
    ir.DiagnosticSeverity.WARNING: "warning",
    ir.DiagnosticSeverity.NOTE: "note",
    ir.DiagnosticSeverity.REMARK: "remark",
}


@dataclass(frozen=True)
class Diagnostic:
    """One message. `line` and `column` count from 1; 0 where the place is not known."""

    severity: str
    message: str
    line: int = 0
    column: int = 0

    def format(self, file: str) -> str:
        place = f"{file}:{self.line}:{self.column}: " if self.line else ""
        return f"{place}{self.severity}: {self.message}"


def from_mlir(info: ir.Diagnostic | ir.DiagnosticInfo) -> list[Diagnostic]:
    """An MLIR diagnostic and its notes, without the note that only prints the operation."""
    own = located(_SEVERITIES[info.severity], info.message, str(info.location))
    notes = [d for note in info.notes for d in from_mlir(note)]
    return [own, *(note for note in notes if not note.message.startswith("see current operation"))]


def from_error(error: ir.MLIRError) -> list[Diagnostic]:
    """All that an error of MLIR holds."""
    return [d for info in error.error_diagnostics for d in from_mlir(info)]


def located(severity: str, message: str, location: str) -> Diagnostic:
    """A diagnostic at the first line and column that MLIR's text of a location names."""
    place = _FILE_LINE_COLUMN.search(location)
    line, column = (int(place[2]), int(place[3])) if place else (0, 0)
    return Diagnostic(severity, message, line, column)


def place_of(location: ir.Location) -> str:
    """A location for people: the name of a node, or line and column of a module that has no file name."""
    text = str(location).removeprefix("loc(").removesuffix(")")
    return re.sub(r'"-":(\d+):(\d+)', r"line \1, column \2", text)
