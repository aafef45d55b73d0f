"""What `tosaic-opt` reads: MLIR text, MLIR bytecode, ONNX text and ONNX files, from a file or from stdin."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from tosaic.artifact.modules import (
    BYTECODE_MAGIC,
    BYTECODE_SUFFIX,
    TEXT_SUFFIX,
    new_context,
    parse_module,
)
from tosaic.artifact.trial_read import refuse_deadly_bytecode
from tosaic.errors import TosaicError
from tosaic_passes.program import Program

if TYPE_CHECKING:
    import onnx

STDIN = "-"
_SPLIT = re.compile(r"^(?://|#) ?-----.*$", re.MULTILINE)
_COMMENT_LINES = re.compile(r"(?:\s|#[^\n]*\n|//[^\n]*\n)*")


class Kind(Enum):
    MLIR = "MLIR text"
    BYTECODE = "MLIR bytecode"
    ONNX_TEXT = "ONNX text"
    ONNX = "ONNX"


@dataclass(frozen=True)
class Source:
    """One module to work on. `path` is None for stdin and for a piece of a file."""

    name: str
    kind: Kind
    content: str | bytes
    path: Path | None = None

    def split(self) -> list[Source]:
        """The pieces between `// -----` or `# -----` lines, padded so that line numbers stay true."""
        if isinstance(self.content, bytes):
            return [self]
        pieces, start = [], 0
        for end in [*(m.start() for m in _SPLIT.finditer(self.content)), len(self.content)]:
            padding = "\n" * self.content.count("\n", 0, start)
            pieces.append(Source(self.name, self.kind, padding + self.content[start:end]))
            start = end
        return [piece for piece in pieces if _COMMENT_LINES.sub("", str(piece.content), count=1)]

    def load(self) -> Program:
        """The program of this source. Raises `ir.MLIRError` or TosaicError for what cannot be read."""
        if isinstance(self.content, bytes) and self.kind is Kind.BYTECODE:
            refuse_deadly_bytecode(self.content, f"'{self.name}'")
        if self.kind in (Kind.MLIR, Kind.BYTECODE):
            return parse_module(self.content)
        from tosaic import frontend  # imports onnx, which a run on MLIR must not pay for
        from tosaic_passes.onnx_to_tosa.registry import is_lowered

        model = self.path if self.path is not None else self._onnx_model()
        return frontend.load(model, context=new_context(), is_lowered=is_lowered)

    def _onnx_model(self) -> bytes | onnx.ModelProto:
        if isinstance(self.content, bytes):
            return self.content
        import onnx.parser

        try:
            return onnx.parser.parse_model(self.content)
        except onnx.parser.ParseError as error:
            raise TosaicError(f"{self.name} is not valid ONNX text: {error}") from None


def read_source(file: str) -> Source:
    """The source in a file, or on stdin for `-`. Raises TosaicError when it cannot be read."""
    if file == STDIN and sys.stdin is None:
        raise TosaicError("the standard input is closed", "name a file")
    if file == STDIN:
        return _source("<stdin>", sys.stdin.buffer.read(), None)
    path = Path(file)
    try:
        return _source(file, path.read_bytes(), path)
    except OSError as error:
        raise TosaicError(f"cannot read '{file}': {error.strerror}") from None


def _source(name: str, data: bytes, path: Path | None) -> Source:
    if data.startswith(BYTECODE_MAGIC):
        return Source(name, Kind.BYTECODE, data, path)
    text = None if name.endswith(".onnx") else _decode(data)
    if text is None and name.endswith((TEXT_SUFFIX, BYTECODE_SUFFIX)):
        raise TosaicError(f"'{name}' is neither MLIR text nor MLIR bytecode")
    if text is None:
        return Source(name, Kind.ONNX, data, path)
    return Source(name, Kind.ONNX_TEXT if _is_onnx_text(name, text) else Kind.MLIR, text, path)


def _decode(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_onnx_text(name: str, text: str) -> bool:
    """ONNX text starts with the model's properties, `<ir_version: 10, ...>`; no MLIR module does."""
    head = _COMMENT_LINES.match(text)
    return name.endswith(".onnxtxt") or text.startswith("<", head.end() if head else 0)
