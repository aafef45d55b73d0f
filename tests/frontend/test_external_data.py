"""Weights outside the model's file, and what a large model costs in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper

from frontend_models import model
from tosaic.frontend import load


def weighted(array: np.ndarray) -> onnx.ModelProto:
    proto = model(f"g (float[{array.size}] x) => (float[{array.size}] y) {{ y = Add(x, w) }}")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "w"))
    return proto


def test_external_data_gives_the_values(tmp_path: Path) -> None:
    values = np.arange(3000, dtype=np.float32)
    onnx.save(weighted(values), tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    (held,) = load(tmp_path / "m.onnx").weights.values()
    np.testing.assert_array_equal(held, values)


def test_external_data_has_its_offset(tmp_path: Path) -> None:
    proto = weighted(np.arange(20, dtype=np.float32))
    (tmp_path / "m.data").write_bytes(b"head" + proto.graph.initializer[0].raw_data + b"tail")
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "m.data", offset=4, length=80)
    proto.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (held,) = load(tmp_path / "m.onnx").weights.values()
    np.testing.assert_array_equal(held, np.arange(20, dtype=np.float32))


MEASURE = """
import resource, sys
from tosaic.frontend import load
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
program = load(sys.argv[1])
print(peak() - before)
"""


def test_weights_are_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(weighted(np.arange(1 << 24, dtype=np.float32)).SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1.5 * path.stat().st_size
