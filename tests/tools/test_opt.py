"""tosaic-opt where lit cannot look: exit codes, files left behind, start-up time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tosaic.tools import opt
from tosaic.tools.exits import Exit

MODULE = "func.func @main() {\n  return\n}\n"


@pytest.fixture
def module_file(tmp_path):
    path = tmp_path / "module.mlir"
    path.write_text(MODULE)
    return path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-p", "cse"], Exit.DONE),
        (["-p", "cse,,cse"], Exit.USAGE),
        (["-p", "no-such-pass"], Exit.USAGE),
        (["--mlir-print-ir-after=canonicalize", "-p", "cse"], Exit.USAGE),
        (["-p", "symbol-dce,func.func(cse)"], Exit.DONE),
    ],
)
def test_exit_code(module_file, arguments, code, capfd):
    assert opt.main([str(module_file), *arguments]) == code


def test_unknown_argument_is_a_usage_error_that_tells_how_passes_are_named(module_file, capfd):
    with pytest.raises(SystemExit) as error:
        opt.main(["--cse", str(module_file), "--canonicalize"])
    assert error.value.code == Exit.USAGE
    assert "unknown arguments: --cse --canonicalize; passes are named with -p" in capfd.readouterr().err


def test_bytes_that_are_no_mlir_are_not_taken_for_onnx(tmp_path, capfd):
    path = tmp_path / "module.mlir"
    path.write_bytes(b"\xff\xfe\0")
    assert opt.main([str(path)]) == Exit.REFUSED
    assert capfd.readouterr().err == f"error: '{path}' is neither MLIR text nor MLIR bytecode\n"


def test_refused_input_leaves_the_old_output(tmp_path, capfd):
    source, output = tmp_path / "bad.mlir", tmp_path / "out.mlir"
    source.write_text("func.func @main( {")
    output.write_text("old")
    assert opt.main([str(source), "-o", str(output)]) == Exit.REFUSED
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.mlir", "out.mlir"]


def test_bug_leaves_a_reproducer(module_file, monkeypatch, capfd):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(opt, "_process", broken)
    assert opt.main([str(module_file)]) == Exit.BUG
    message = capfd.readouterr().err
    reproducer = message.strip().rpartition(" ")[2]
    with open(reproducer) as file:
        content = file.read()
    assert "ZeroDivisionError" in content
    assert content.endswith(MODULE)
    assert "internal error: ZeroDivisionError: division by zero" in message


def test_run_on_mlir_imports_no_onnx():
    program = (
        "import sys; from tosaic.tools.opt import main; main(['-p', 'cse']);"
        "print([m for m in ('onnx', 'wasmtime', 'rich') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], input=MODULE, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"
