"""The exit codes of the commands, and what is said when one of them cannot do its work."""

from __future__ import annotations

import codecs
import contextlib
import os
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

from tosaic.errors import TosaicError, UsageError
from tosaic.printable import printable


class Exit(IntEnum):
    DONE = 0
    REFUSED = 1
    """The model, the input or a check is refused, or the system lets nothing be read or written."""
    USAGE = 2
    BUG = 3
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


def run_command(
    command: Sequence[str], work: Callable[[], int | None], module: Callable[[], str] = str
) -> int:
    """Do the work of a command and return its exit code (that of the work, or DONE).

    What keeps it from being done is one line on stderr. `command` and the text of `module` go into the reproducer of a
    bug. A termination by SIGTERM unwinds, so nothing half-written stays behind.
    """
    _print_anything()
    try:
        with _unwinding_on_termination():
            code = work()
            if sys.stdout is not None:
                sys.stdout.flush()
            return Exit.DONE if code is None else code
    except UsageError as error:
        return _refuse(str(error), Exit.USAGE)
    except TosaicError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _refuse("interrupted", Exit.INTERRUPTED)
    except BrokenPipeError:  # whoever read the output wants no more of it
        _drop_output()
        return Exit.REFUSED
    except OSError as error:
        _drop_output()
        place = f"'{error.filename}': " if error.filename else ""
        return _refuse(f"{place}{error.strerror or error}")
    except MemoryError:
        return _refuse("there is not enough memory")
    except Exception as error:
        return _report_bug(error, command, module())


def version_text() -> str:
    """`tosaic 0.1.0 (torch-mlir 20261001)`."""
    from importlib import metadata  # 20 ms that only --version and bug reports pay

    try:
        own = metadata.version("tosaic")
    except metadata.PackageNotFoundError:
        own = "(not installed)"
    return f"tosaic {own} (torch-mlir {metadata.version('torch-mlir')})"


def _refuse(message: str, code: Exit = Exit.REFUSED) -> Exit:
    print(f"error: {printable(message)}", file=sys.stderr)
    return code


def _report_bug(error: BaseException, command: Sequence[str], module: str) -> Exit:
    """Write a reproducer (the command, the traceback, the module worked on) and name it on stderr."""
    trace = "".join(traceback.format_exception(error))
    head = "".join(f"// {line}\n" for line in [version_text(), shlex.join(command), *trace.splitlines()])
    with tempfile.NamedTemporaryFile(
        "w", prefix="tosaic-bug-", suffix=".mlir", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(head + module)
    last = printable(traceback.format_exception_only(error)[-1].strip())
    print(f"internal error: {last}\nThis is a bug of tosaic; the reproducer is {file.name}", file=sys.stderr)
    return Exit.BUG


_PLAIN = {"─": "-", "…": "...", "≤": "<="}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a terminal cannot show: the like in ASCII, or their escapes."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, ascii(character)[1:-1]) for character in text), error.end


codecs.register_error("tosaic.plain", _plain)


def _print_anything() -> None:
    """Names and tables hold characters that not every encoding of a terminal has."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="tosaic.plain")


@contextlib.contextmanager
def _unwinding_on_termination() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_number: int, _frame: object) -> None:
        raise SystemExit(Exit.TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_output() -> None:
    """Let the interpreter flush what cannot be written into nothing, instead of failing once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
