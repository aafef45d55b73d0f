"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tosaic.errors import TosaicError
from tosaic.files import replacing, write_file


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "old")
    with pytest.raises(TosaicError), replacing(path) as temporary:
        temporary.with_name("none").read_text()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TosaicError, match=r"cannot write '.*/none/file': No such file or directory"):
        write_file(tmp_path / "none" / "file", b"")
