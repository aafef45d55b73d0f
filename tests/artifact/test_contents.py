"""What stands in an artifact, read by tools that know nothing of it."""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tosaic
from models import PERCEPTRON, write_model

BIN = Path(sys.executable).parent
BATCH = 9000


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A perceptron in several segments."""
    folder = tmp_path_factory.mktemp("contents")
    model = write_model(PERCEPTRON, folder / "model.onnx")
    whole = tosaic.compile_model(model, folder / "whole.tosaic", batch_size=BATCH)
    limit = int(whole.manifest["total_predicted"] * 0.8)
    return tosaic.compile_model(model, folder / "cut.tosaic", batch_size=BATCH, limit_instructions=limit)


def read_by_tosa_opt(file: Path) -> str:
    return subprocess.run([BIN / "tosa-opt", file], capture_output=True, text=True, check=True).stdout


def test_iree_runs_the_program_as_it_is(cut):
    compiler = pytest.importorskip("iree.compiler")
    runtime = pytest.importorskip("iree.runtime")
    binary = compiler.compile_str(
        (cut.path / "program.mlirbc").read_bytes(),
        input_type="tosa",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=generic"],
    )
    x = np.random.default_rng(2).standard_normal((BATCH, 8)).astype(np.float32)
    loaded = runtime.load_vm_flatbuffer(binary, driver="local-sync")
    (expected,) = onnxruntime.InferenceSession(cut.path.parent / "model.onnx").run(None, {"x": x})
    np.testing.assert_allclose(loaded.main(x).to_host(), expected, rtol=1e-4, atol=1e-4)


def test_program_holds_its_weights(cut):
    text = read_by_tosa_opt(cut.path / "program.mlirbc")
    resources = text[text.index("{-#") :]
    assert re.findall(r"sha256_([0-9a-f]{64}): ", resources)


def test_segments_name_weights_that_are_in_the_folder(cut):
    names = set()
    for index, segment in enumerate(cut.manifest["segments"]):
        text = read_by_tosa_opt(cut.path / segment["file"])
        assert segment["file"] == f"segments/{index:03}.mlirbc"
        assert "func.func public @main" in text
        names |= set(re.findall(r"dense_resource<sha256_([0-9a-f]{64})>", text))
    assert names == {entry["sha256"] for entry in cut.manifest["weights"]}
    assert names == {file.name for file in (cut.path / "weights").iterdir()}


def test_weights_are_named_by_their_content(cut):
    for entry in cut.manifest["weights"]:
        content = cut.read_bytes(f"weights/{entry['sha256']}")
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"] == np.dtype(entry["dtype"]).itemsize * np.prod(entry["shape"])


def test_chunks_make_up_the_module(cut):
    wasm = cut.read_bytes("canister.wasm")
    pieces = [wasm[start : start + 2**20] for start in range(0, len(wasm), 2**20)]
    assert cut.manifest["chunks"] == [
        {"sha256": hashlib.sha256(piece).hexdigest(), "bytes": len(piece), "holds": ["code", "weights"]}
        for piece in pieces
    ]


def perceptron(*widths: int, seed: int = 1) -> onnx.ModelProto:
    """Layers of these widths; the last one is the head."""
    rng = np.random.default_rng(1)
    weights, nodes = [], []
    for index, shape in enumerate(itertools.pairwise(widths)):
        if index == len(widths) - 2:
            rng = np.random.default_rng(seed)
        weights.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"w{index}"))
        weights.append(
            numpy_helper.from_array(rng.standard_normal(shape[1:]).astype(np.float32), f"b{index}")
        )
        nodes.append(helper.make_node("Gemm", [f"x{index}", f"w{index}", f"b{index}"], [f"x{index + 1}"]))
    border = [
        [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, (1, widths[index]))]
        for index in (0, len(widths) - 1)
    ]
    graph = helper.make_graph(nodes, "perceptron", *border, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LAYERS = (256, 1200, 700, 700, 300)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A perceptron with weights of several chunks."""
    folder = tmp_path_factory.mktemp("large")
    return tosaic.compile_model(perceptron(*LAYERS, 200), folder / "model.tosaic")


def hashes(artifact, holds=("code", "weights")) -> set[str]:
    return {entry["sha256"] for entry in artifact.manifest["chunks"] if set(entry["holds"]) & set(holds)}


def test_no_chunk_holds_code_and_weights(large):
    assert [entry["holds"] for entry in large.manifest["chunks"]] == [["code"]] + [["weights"]] * 9


@pytest.mark.parametrize("head", [200, 10, 3000])
def test_a_new_head_needs_its_bytes_and_three_chunks(large, head, tmp_path):
    other = tosaic.compile_model(perceptron(*LAYERS, head, seed=2), tmp_path / "other.tosaic")
    new = [entry for entry in other.manifest["chunks"] if entry["sha256"] not in hashes(large)]
    assert sum(entry["bytes"] for entry in new) <= 4 * (LAYERS[-1] + 1) * head + 3 * 2**20
    assert other.manifest["chunks"][1]["sha256"] in hashes(large)


def test_another_limit_needs_no_new_chunk_of_weights(large, tmp_path):
    limit = large.manifest["total_predicted"] // 2
    cut = tosaic.compile_model(perceptron(*LAYERS, 200), tmp_path / "cut.tosaic", limit_instructions=limit)
    assert len(cut.manifest["segments"]) > 1
    assert hashes(cut, ["weights"]) == hashes(large, ["weights"])


def test_segments_hand_on_what_later_ones_read(cut):
    *inner, last = cut.manifest["segments"]
    assert inner
    assert all(segment["live_tensors"] and segment["live_bytes"] for segment in inner)
    assert last["live_tensors"] == [f"tensor<{BATCH}x3xf32>"]


def test_messages_stay_within_the_limit(cut):
    manifest = cut.manifest
    assert max(message["predicted"] for message in manifest["messages"]) <= manifest["limit_instructions"]
    predicted = [segment["message_instructions"] for segment in manifest["segments"]]
    assert [message["predicted"] for message in manifest["messages"][: len(predicted)]] == predicted


def test_toolchain_is_recorded(cut):
    assert cut.manifest["toolchain"]["torch-mlir"].isdigit()
    assert cut.manifest["bytecode_version"] == 6
    assert 'specification_version = "1.0"' in cut.manifest["tosa"]
