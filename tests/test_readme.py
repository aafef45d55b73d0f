"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import networks
import onnx
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def fenced(marker: str) -> str:
    """The fenced block that follows a comment which contains the marker."""
    found = re.search(rf"<!-- [^>]*{re.escape(marker)}[^>]* -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, marker
    return found[1]


def run(script: Path, *arguments: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'compiler'}{os.pathsep}{ROOT / 'passes'}"}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env=environment
    ).stdout


def test_build_script_is_the_example_and_runs(tmp_path: Path) -> None:
    script = ROOT / "examples" / "lower_in_a_build.py"
    assert fenced("examples/lower_in_a_build.py") == script.read_text()
    model = tmp_path / "model.onnx"
    onnx.save(networks.keyword_spotting(), model)
    assert "'Conv': 9" in run(script, str(model), folder=tmp_path)
    assert (tmp_path / "model.tosa.mlirbc").read_bytes().startswith(b"ML\xefR")


def test_transcript_of_the_demo(tmp_path: Path) -> None:
    pytest.importorskip("magika")
    script = ROOT / "examples" / "file_type.py"
    assert run(script, str(script), folder=tmp_path) == fenced("make demo")
