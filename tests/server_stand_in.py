"""A PocketIC server for tests: the real one where it is at hand, and a stand-in."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tosaic.replica.pocket_ic_server import BINARY

STAND_IN = Path(__file__).parent / "replica" / "fake_pocket_ic.py"
REAL = os.environ.get(BINARY)
NO_SERVER = f"{BINARY} names no PocketIC server"
PORT_FILE = Path(tempfile.gettempdir(), f"pocket_ic_{os.getpid()}.port")


@contextmanager
def stand_in(folder: Path) -> Iterator[str]:
    """The path of a program that acts like the server; what was started of it ends with the context."""
    program, paths = folder / "pocket-ic", os.pathsep.join(sys.path)
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{paths}" exec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(0o755)
    PORT_FILE.unlink(missing_ok=True)
    yield str(program)
    PORT_FILE.unlink(missing_ok=True)
    pid_file = PORT_FILE.with_suffix(".pid")
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), 15)
        pid_file.unlink()
