"""What a command says when the system fails it: the reader goes, the disk is full, somebody stops it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import PERCEPTRON, write_model
from tosaic.tools.exits import Exit, run_command

MODULE = "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {\n  return %x : tensor<4xf32>\n}\n"


def opt(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tosaic.tools.opt", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def module_file(tmp_path) -> str:
    (tmp_path / "module.mlir").write_text(MODULE)
    return str(tmp_path / "module.mlir")


def test_a_reader_that_is_gone_is_no_bug(module_file) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = opt(module_file, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (Exit.REFUSED, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_is_named(module_file) -> None:
    with open("/dev/full", "wb") as full:
        done = opt(module_file, stdout=full)
    assert (done.returncode, done.stderr) == (Exit.REFUSED, "error: No space left on device\n")


@pytest.mark.parametrize(("descriptor", "name"), [(0, "input"), (1, "output")])
def test_a_stream_that_is_closed_is_named(descriptor, name, module_file) -> None:
    arguments = [module_file] if descriptor == 1 else []
    done = opt(*arguments, stdout=None, preexec_fn=lambda: os.close(descriptor))
    assert done.returncode == Exit.REFUSED
    assert done.stderr.startswith(f"error: the standard {name} is closed; name a file")


def test_an_interruption_has_its_own_exit_code(capsys) -> None:
    def work() -> None:
        raise KeyboardInterrupt

    assert run_command(["tosaic"], work) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_terminated_compilation_leaves_nothing_behind(tmp_path) -> None:
    write_model(PERCEPTRON, tmp_path / "model.onnx")
    script = (
        "import os, signal, sys; from tosaic.artifact import folder; from tosaic.tools import tosaic\n"
        "folder._finish_folders = lambda staging: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(tosaic.main(['compile', 'model.onnx', '-b', '1', '-o', 'x.tosaic']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == Exit.TERMINATED
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_tables_and_names_are_shown_by_any_terminal(tmp_path) -> None:
    write_model(PERCEPTRON, tmp_path / "model.onnx")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments in ("compile model.onnx -b 1 -o ü.tosaic", "run ü.tosaic"):
        done = subprocess.run(
            [sys.executable, "-m", "tosaic.tools.tosaic", *arguments.split()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == Exit.DONE
        assert done.stdout.isascii()
    assert b"-----" in done.stdout
