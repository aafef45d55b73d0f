"""Files: mapped when they are read, written whole or not at all."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tosaic.errors import TosaicError


def map_file(path: Path) -> memoryview:
    """The file, mapped read-only; pages come in when they are read. Raises OSError."""
    if path.stat().st_size == 0:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def check_place(path: Path) -> None:
    """Refuse, before any work is done, a path where no file can be written. Raises TosaicError."""
    folder = path.absolute().parent
    if path.is_dir():
        raise TosaicError(f"cannot write '{path}': it is a folder")
    if not folder.is_dir():
        raise TosaicError(f"cannot write '{path}': there is no folder '{folder}'")
    if not os.access(folder, os.W_OK):
        raise TosaicError(f"cannot write '{path}': no permission to write in '{folder}'")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, to be written by its name, which then takes the place of `path`.

    If anything fails, `path` stays as it was. Raises TosaicError when it cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise TosaicError(f"cannot write '{path}': {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes | Sequence[bytes | memoryview]) -> None:
    """Write a file, or the pieces of one, whole or not at all. Raises TosaicError when the path cannot be written."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
