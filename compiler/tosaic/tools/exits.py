"""The exit codes of the commands, and what a bug of ours leaves behind."""

from __future__ import annotations

import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    REFUSED = 1
    """The model, the input or a check is refused."""
    USAGE = 2
    BUG = 3


def version_text() -> str:
    """`tosaic 0.1.0 (torch-mlir 20261001)`."""
    from importlib import metadata  # 20 ms that only --version and bug reports pay

    try:
        own = metadata.version("tosaic")
    except metadata.PackageNotFoundError:
        own = "(not installed)"
    return f"tosaic {own} (torch-mlir {metadata.version('torch-mlir')})"


def report_bug(error: BaseException, command: Sequence[str], module: str = "") -> Exit:
    """Write a reproducer (the command, the traceback, the module worked on) and name it on stderr."""
    trace = "".join(traceback.format_exception(error))
    head = "".join(f"// {line}\n" for line in [version_text(), shlex.join(command), *trace.splitlines()])
    with tempfile.NamedTemporaryFile("w", prefix="tosaic-bug-", suffix=".mlir", delete=False) as file:
        file.write(head + module)
    last = traceback.format_exception_only(error)[-1].strip()
    print(f"internal error: {last}\nThis is a bug of tosaic; the reproducer is {file.name}", file=sys.stderr)
    return Exit.BUG
