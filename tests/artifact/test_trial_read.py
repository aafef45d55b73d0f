"""Damaged bytecode is refused by a sentence, whatever MLIR's reader does with it."""

from __future__ import annotations

import pytest

import tosaic
from tosaic.artifact import trial_read
from tosaic.artifact.modules import parse_module, to_bytecode
from tosaic.errors import TosaicError
from tosaic.tools import opt
from tosaic.tools.exits import Exit

MODULE = """func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = tosa.abs %x : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
"""


@pytest.fixture(scope="module")
def bytecode() -> bytes:
    return to_bytecode(parse_module(MODULE).module)


def damaged(bytecode: bytes, place: int, byte: int) -> bytes:
    return bytecode[:place] + bytes([byte]) + bytecode[place + 1 :]


@pytest.mark.parametrize(("place", "byte"), [(38, 0x00), (95, 0x00)], ids=["abort", "segmentation fault"])
def test_what_ends_the_reader_is_refused(bytecode, place, byte, tmp_path, capfd) -> None:
    with pytest.raises(TosaicError, match="the model is damaged: MLIR's reader does not survive it"):
        tosaic.lower_to_tosa(damaged(bytecode, place, byte))
    (tmp_path / "bad.mlirbc").write_bytes(damaged(bytecode, place, byte))
    assert opt.main([str(tmp_path / "bad.mlirbc")]) == Exit.REFUSED
    assert "bad.mlirbc' is damaged: MLIR's reader does not survive it" in capfd.readouterr().err


def test_what_keeps_the_reader_busy_is_refused(bytecode, monkeypatch) -> None:
    monkeypatch.setattr(trial_read, "_SECONDS", 1)
    with pytest.raises(TosaicError, match="'m' is damaged: MLIR's reader"):
        trial_read.refuse_deadly_bytecode(damaged(bytecode, 104, 0xF0), "'m'")


def test_names_that_are_no_text_are_refused(bytecode) -> None:
    place = bytecode.index(b"abs\0")
    with pytest.raises(TosaicError, match="it has a name that is not UTF-8"):
        trial_read.refuse_deadly_bytecode(damaged(bytecode, place, 0xAD), "'m'")


def test_what_the_reader_refuses_keeps_the_readers_reason(bytecode) -> None:
    trial_read.refuse_deadly_bytecode(bytecode[:100], "'m'")
    with pytest.raises(TosaicError, match=r"the model is not a valid MLIR module: .*bytes"):
        tosaic.lower_to_tosa(bytecode[:100])
