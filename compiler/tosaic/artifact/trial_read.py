"""Bytecode of strangers is read in a process of its own first, which may die of it.

MLIR's reader trusts what it reads: with one byte changed, a file can end the process that reads it, or keep it busy for
ever (a module of one op: 55 of 1,020 changes). What a trial survives is read again here.
"""

from __future__ import annotations

import subprocess
import sys

from tosaic.errors import TosaicError

_SECONDS = 10
_BYTES_A_SECOND = 20_000_000
"""MLIR reads some 800 MB a second: so slow is no machine."""

_NOT_UTF8 = 3
_SCRIPT = f"""
import contextlib, sys
with contextlib.suppress(ImportError, OSError, ValueError):
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
from torch_mlir import ir
with ir.Context() as context, ir.Location.unknown():
    context.allow_unregistered_dialects = True
    with contextlib.suppress(ir.MLIRError):
        try:
            ir.Module.parse(sys.stdin.buffer.read()).operation.walk(lambda op: op.name and ir.WalkResult.ADVANCE)
        except (UnicodeDecodeError, RuntimeError):
            sys.exit({_NOT_UTF8})
"""


def refuse_deadly_bytecode(content: bytes, shown: str) -> None:
    """Raise TosaicError for bytecode that MLIR's reader does not survive, or whose names are no text; `shown` names it.

    What the reader refuses by itself passes: it is refused with the reader's own reason when it is read.
    """
    if not sys.executable:
        return
    seconds = _SECONDS + len(content) // _BYTES_A_SECOND
    command = [sys.executable, "-c", _SCRIPT, str(seconds)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=20 * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _damaged(shown, "MLIR's reader comes to no end with it") from None
    if done.returncode == _NOT_UTF8:
        raise _damaged(shown, "it has a name that is not UTF-8")
    if done.returncode < 0:
        raise _damaged(shown, f"MLIR's reader does not survive it (signal {-done.returncode})")


def _damaged(shown: str, reason: str) -> TosaicError:
    return TosaicError(f"{shown} is damaged: {reason}", "write or download it again")
