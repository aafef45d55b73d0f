"""`tosaic tensor`: what it shows, what it converts, what it refuses."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from tosaic.tensors.formats import read_file, write_file
from tosaic.tools import tosaic
from tosaic.tools.exits import Exit

BFLOATS = np.array([[1.5, -2.0, 0.0]], ml_dtypes.bfloat16)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run `tosaic tensor` beside some files; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "two.npz", {"x": np.eye(2, dtype=np.float32), "n": np.array(7)})
    write_file(tmp_path / "hostile.cbor", {"\x1b[31m": BFLOATS, "b": BFLOATS})
    write_file(tmp_path / "many.npz", {str(i): BFLOATS for i in range(50)})
    write_file(tmp_path / "bits.candid", {"": BFLOATS})

    def run(line: str) -> tuple[int, str, str]:
        code = tosaic.main(["tensor", *line.split()])
        return code, *capsys.readouterr()

    return run


def test_show(command):
    code, out, _ = command("show two.npz")
    assert code == Exit.DONE
    assert out.startswith("two.npz: npz, 514 bytes\n")
    rows = [line.split() for line in out.splitlines()[4:]]
    assert rows == [["x", "float32", "2", "x", "2", "16"], ["n", "int64", "scalar", "8"]]


def test_show_as_json(command):
    document = json.loads(command("show bits.candid --json")[1])
    tensor = {"name": "", "dtype": "uint16", "shape": [3], "bytes": 6}
    assert document == {"format": "candid", "file_bytes": 16, "tensors": [tensor]}


def test_convert_keeps_names(command, tmp_path):
    assert command("convert two.npz two.cbor")[0] == Exit.DONE
    assert list(read_file(tmp_path / "two.cbor").tensors) == ["n", "x"]


def test_convert_one_of_several(command, tmp_path):
    assert command("convert two.npz x.pb --name x")[0] == Exit.DONE
    assert list(read_file(tmp_path / "x.pb").tensors) == ["x"]


def test_what_a_format_lacks_can_be_told(command, tmp_path):
    assert command("convert bits.candid x.safetensors --name x --dtype bfloat16 --shape 1,3")[0] == Exit.DONE
    found = read_file(tmp_path / "x.safetensors").tensors["x"]
    assert (found.dtype, found.tolist()) == (BFLOATS.dtype, BFLOATS.tolist())


REFUSED = {
    "convert two.npz x.npy": "a .npy file holds one tensor, these are 2: x, n; choose one with --name",
    "convert two.npz x.npy --name y": "'two.npz' has no tensor 'y'; its tensors are: x, n",
    "convert two.npz x.txt": "'.txt' is no format of tensors; use one of .npy, .npz, .pb, .cbor",
    "convert two.npz none/x.cbor": "cannot write 'none/x.cbor'",
    "convert two.npz x.cbor --name x --dtype float16": "is float32[2, 2] and cannot be float16[2, 2]",
    "convert bits.candid x.cbor --shape 4": "is uint16[3] and cannot be uint16[4]",
    "convert bits.candid x.cbor --dtype half": "tensors of half are not supported",
    "convert many.npz x.cbor --name y": "its tensors are: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 38 more",
    "show none.npy": "cannot read 'none.npy'",
    "convert hostile.cbor x.npy": r"these are 2: b, \x1b[31m;",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refused(command, tmp_path, line):
    before = sorted(tmp_path.iterdir())
    code, out, err = command(line)
    assert (code, out) == (Exit.REFUSED, "")
    assert REFUSED[line] in err
    assert sorted(tmp_path.iterdir()) == before
