"""A small fixed slice of Arm's conformance cases; `make conformance` runs many."""

import json
import subprocess
import sys

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


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance")
    for pattern, options in ((OTHERS, SMALL), (WINDOWS, SMALL_WINDOWS)):
        command = [
            sys.executable,
            str(run.HERE / "generate.py"),
            str(folder),
            "7",
            "1",
            pattern,
            *options.split(),
        ]
        subprocess.run(command, check=True, capture_output=True)
    return sorted(path.parent for path in folder.glob("*/*/desc.json"))


@pytest.mark.slow
def test_every_case_is_held_or_refused(cases):
    found = [judge.judge(case) for case in cases]
    bad = [j for j in found if j.verdict not in (judge.Verdict.HELD, judge.Verdict.REFUSED)]
    assert not bad
    assert {run.reason_class(j.reason) for j in found if j.reason} <= set(run.known_refusals())
    assert sum(j.verdict is judge.Verdict.HELD for j in found) > 50


def test_a_wrong_number_is_found(cases):
    folder = next(case for case in cases if case.parent.name == "bitwise_not")
    description = json.loads((folder / "desc.json").read_text())
    module, reference = judge.deserialize(folder, description), judge.reference(folder, description)
    [(element, array)] = judge.run(module, folder, description)
    assert judge.compare(folder, description, [(element, array)], reference) == ""
    array.reshape(-1)[0] ^= np.array(1, array.dtype)
    assert "non-compliant" in judge.compare(folder, description, [(element, array)], reference)
