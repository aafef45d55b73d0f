"""A small fixed slice of Arm's conformance cases; `make conformance` runs many."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tosa_conformance import judge, run

WINDOWS = "avg_pool2d|conv2d|conv3d|depthwise_conv2d|matmul_t|max_pool2d|transpose_conv2d"
OTHERS = rf"(?!{run.BEYOND}$)(?!.*conv|.*pool|matmul_t).*"
SMALL = "--tensor-dim-range 1,8"
SMALL_WINDOWS = (
    f"{SMALL} --conv-kernel 2,3 1,2,2 --max-conv-padding 1 --max-conv-stride 2 --max-conv-dilation 1 "
    "--max-pooling-padding 1 --max-pooling-stride 2 --max-pooling-kernel 2"
)


def generated(folder: Path, operators: str, options: str) -> list[Path]:
    """One case of each operator; the generator draws from global random numbers, so it runs in its own process."""
    command = [
        sys.executable,
        str(run.HERE / "generate.py"),
        str(folder),
        "7",
        "1",
        operators,
        *options.split(),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(path.parent for path in folder.glob("*/*/desc.json"))


@pytest.mark.slow
def test_every_case_is_held_or_refused(tmp_path):
    cases = [
        *generated(tmp_path / "others", OTHERS, SMALL),
        *generated(tmp_path / "windows", WINDOWS, SMALL_WINDOWS),
    ]
    found = [judge.judge(case) for case in cases]
    bad = [j for j in found if j.verdict not in (judge.Verdict.HELD, judge.Verdict.REFUSED)]
    assert not bad
    assert {run.reason_class(j.reason) for j in found if j.reason} <= set(run.known_refusals())
    assert sum(j.verdict is judge.Verdict.HELD for j in found) > 50


def test_a_wrong_number_is_found(tmp_path):
    (folder,) = generated(tmp_path, "bitwise_not", SMALL)
    description = json.loads((folder / "desc.json").read_text())
    module, reference = judge.deserialize(folder, description), judge.reference(folder, description)
    [(element, array)] = judge.run(module, folder, description)
    assert judge.compare(folder, description, [(element, array)], reference) == ""
    array.reshape(-1)[0] ^= np.array(1, array.dtype)
    assert "non-compliant" in judge.compare(folder, description, [(element, array)], reference)
