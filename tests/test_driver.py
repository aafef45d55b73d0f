"""The stages through the Python interface."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import tosaic
from models import BRANCHES_AND_LOOP, LOOPS_IN_BRANCHES, PERCEPTRON, UNSUPPORTED, write_model
from tosaic.artifact.modules import read_module, to_bytecode
from tosaic.errors import TosaicError, UnsupportedNodesError
from tosaic.options import CompileOptions, Options
from tosaic.prices import PriceList
from tosaic.wasm.decode import BinaryModule
from tosaic_passes.functions import find_function
from tosaic_passes.pipeline import parse_pipeline, run_pipeline


@pytest.fixture
def model_file(tmp_path):
    return write_model(PERCEPTRON, tmp_path / "model.onnx")


def operations(program):
    block = find_function(program.module, "main").entry_block
    return [op.operation.name for op in block.operations]


def test_lowering_gives_only_tosa(model_file):
    assert {
        name.partition(".")[0] for name in operations(tosaic.lower_to_tosa(model_file, batch_size=1))
    } == {
        "tosa",
        "func",
    }


def test_bytes_and_protos_are_models_too(model_file):
    from_bytes = tosaic.lower_to_tosa(model_file.read_bytes(), batch_size=2)
    from_proto = tosaic.lower_to_tosa(onnx.parser.parse_model(PERCEPTRON), dims={"N": 2})
    with model_file.open("rb") as file:
        from_file = tosaic.lower_to_tosa(file, batch_size=2)
    assert str(from_bytes.module) == str(from_proto.module) == str(from_file.module)


def test_the_bytes_of_bytecode_are_a_model(model_file):
    lowered = tosaic.lower_to_tosa(model_file, batch_size=2)
    again = tosaic.lower_to_tosa(to_bytecode(lowered.module))
    assert str(again.module) == str(lowered.module)


def test_what_is_no_model_is_a_type_error(model_file):
    with model_file.open(encoding="latin-1") as text, pytest.raises(TypeError, match="not TextIOWrapper"):
        tosaic.lower_to_tosa(text)


WRONG_OPTIONS = {
    "a size as text": ({"batch_size": "1"}, "the option batch_size is '1'; give a whole number"),
    "a fraction": ({"limit_instructions": 1.5}, "limit_instructions is 1.5; give a whole number"),
    "a truth as a size": ({"batch_size": True}, "batch_size is True; give a whole number"),
    "pairs": ({"dims": [("N", 1)]}, "give a mapping of names to sizes"),
    "a list of principals": ({"access": ["controllers"]}, "give text"),
    "a list as a constant": ({"constants": {"x": [1.0]}}, "the constant 'x' is .*give a numpy array"),
}


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_an_option_of_a_wrong_type_is_named(name, model_file):
    options, reason = WRONG_OPTIONS[name]
    with pytest.raises(TosaicError, match=reason):
        tosaic.lower_to_tosa(model_file, **options)


def test_the_keyword_arguments_are_the_options():
    assert list(Options.__annotations__) == [option.name for option in fields(CompileOptions)]


def test_survey_names_what_is_unsupported():
    found = tosaic.survey(onnx.parser.parse_model(UNSUPPORTED))
    assert {node.op for node in found.unsupported} == {"Cast"}


def test_survey_of_a_supported_model_counts_operators_and_has_no_complaints(model_file):
    assert tosaic.survey(model_file, batch_size=1) == tosaic.Survey({"Gemm": 2, "Relu": 1}, ())


def test_unsupported_model_writes_nothing(tmp_path):
    with pytest.raises(UnsupportedNodesError):
        tosaic.compile_model(onnx.parser.parse_model(UNSUPPORTED), tmp_path / "out.tosaic")
    assert list(tmp_path.iterdir()) == []


def test_unknown_option_is_refused(model_file, tmp_path):
    with pytest.raises(TypeError, match="batchsize"):
        tosaic.compile_model(model_file, tmp_path / "out.tosaic", batchsize=1)


def test_target_is_checked_before_the_model_is_read(tmp_path):
    (tmp_path / "file").write_text("data")
    with pytest.raises(TosaicError, match="exists and is not a folder"):
        tosaic.compile_model(tmp_path / "missing.onnx", tmp_path / "file")


def test_compiled_model_agrees_with_onnxruntime_and_costs_what_was_predicted(model_file, tmp_path):
    artifact = tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=3)
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    result = tosaic.load(artifact).run({"x": x})
    (expected,) = onnxruntime.InferenceSession(model_file).run(None, {"x": x})
    np.testing.assert_allclose(result.outputs["y"], expected, rtol=1e-5, atol=1e-5)
    assert [m.metered for m in result.messages] == [m.predicted for m in result.messages]


@pytest.mark.parametrize("condition", [True, False])
def test_model_whose_way_depends_on_data_costs_at_most_what_was_predicted(condition, tmp_path):
    model = onnx.parser.parse_model(BRANCHES_AND_LOOP)
    loaded = tosaic.load(tosaic.compile_model(model, tmp_path / "a.tosaic"))
    inputs = {"x": np.array([[0.5, -2, 1]], np.float32), "c": np.array(condition)}
    result = loaded.run(inputs)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    np.testing.assert_allclose(result.outputs["y"], expected, rtol=1e-5)
    assert [m.exact for m in result.messages] == [False]
    assert all(m.metered <= m.predicted for m in result.messages)


@pytest.mark.parametrize("text", [BRANCHES_AND_LOOP, LOOPS_IN_BRANCHES], ids=["branch and loop", "nested"])
def test_no_input_costs_more_than_was_predicted(text, tmp_path):
    model = onnx.parser.parse_model(text)
    loaded = tosaic.load(tosaic.compile_model(model, tmp_path / "a.tosaic"))
    messages = [m for seed in range(100) for m in loaded.run(loaded.random_inputs(seed)).messages]
    assert all(m.metered <= m.predicted for m in messages)
    assert all(m.metered == m.predicted for m in messages if m.exact)
    assert len({m.metered for m in messages if not m.exact}) > 1


def test_program_of_an_artifact_is_valid_with_regions_too(tmp_path):
    tosaic.compile_model(onnx.parser.parse_model(BRANCHES_AND_LOOP), tmp_path / "a.tosaic")
    program = read_module(tmp_path / "a.tosaic" / "program.mlirbc")
    run_pipeline(program, parse_pipeline("tosa-validate{strict-op-spec-alignment=true}"))


def test_cut_model_gives_the_same_bits_in_messages_within_the_limit(model_file, tmp_path):
    whole = tosaic.compile_model(model_file, tmp_path / "whole.tosaic", batch_size=9000)
    limit = int(whole.manifest["total_predicted"] * 0.75)
    cut = tosaic.compile_model(model_file, tmp_path / "cut.tosaic", batch_size=9000, limit_instructions=limit)
    model = tosaic.load(cut)
    inputs = model.random_inputs()
    right = tosaic.load(whole).run(inputs).outputs["y"]
    assert len(model.manifest["segments"]) == 2
    for wire in ("candid", "cbor"):
        result = model.run(inputs, wire)
        assert [m.metered for m in result.messages] == [m.predicted for m in result.messages]
        assert max(m.metered for m in result.messages) <= limit
        np.testing.assert_array_equal(result.outputs["y"], right)


def test_runs_follow_each_other_on_one_canister(model_file, tmp_path):
    model = tosaic.load(tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=1))
    first, other = model.random_inputs(0), model.random_inputs(1)
    outputs = [model.run(inputs).outputs["y"] for inputs in (first, other, first)]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert (outputs[0] != outputs[1]).any()


def test_tosa_goes_straight_to_the_tosa_stage(model_file, tmp_path):
    lowered = tosaic.lower_to_tosa(model_file, batch_size=1)
    (tmp_path / "model.mlirbc").write_bytes(to_bytecode(lowered.module))
    tosaic.compile_model(model_file, tmp_path / "onnx.tosaic", batch_size=1)
    tosaic.compile_model(tmp_path / "model.mlirbc", tmp_path / "tosa.tosaic")
    modules = [contents(tmp_path / name)["canister.wasm"] for name in ("onnx.tosaic", "tosa.tosaic")]
    code = [BinaryModule.parse(module).sections for module in modules]
    assert code[0] == code[1]


def test_border_of_foreign_tosa_gets_names(tmp_path):
    text = """func.func @forward(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
      %0 = tosa.add %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      return %0 : tensor<4xf32>
    }"""
    (tmp_path / "foreign.mlir").write_text(text)
    model = tosaic.load(tosaic.compile_model(tmp_path / "foreign.mlir", tmp_path / "a.tosaic"))
    ones = np.ones(4, np.float32)
    result = model.run({"input_0": ones, "input_1": 2 * ones})
    np.testing.assert_array_equal(result.outputs["output"], 3 * ones)


def contents(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_artifacts_are_the_same_bytes_in_any_folder_under_any_hash_seed(model_file, tmp_path):
    for seed in ("0", "1"):
        folder = tmp_path / seed
        folder.mkdir()
        program = "import tosaic, sys; tosaic.compile_model(sys.argv[1], 'm.tosaic', batch_size=1)"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", program, model_file], cwd=folder, env=environment, check=True)
    assert contents(tmp_path / "0") == contents(tmp_path / "1")


def test_importing_tosaic_imports_nothing_heavy():
    program = "import tosaic, sys; print([m for m in ('numpy', 'onnx', 'torch_mlir', 'wasmtime') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there():
    assert [name for name in tosaic.__all__ if not hasattr(tosaic, name)] == []


WIDE = """
<ir_version: 8, opset_import: ["" : 17]>
wide (float[600000] x) => (float[600000] y)
{
  y = Relu (x)
}
"""
"""Its input and its output are larger than a message carries."""


def test_tensors_that_no_message_carries_go_in_parts(tmp_path):
    model = tosaic.load(tosaic.compile_model(onnx.parser.parse_model(WIDE), tmp_path / "a.tosaic"))
    inputs = model.random_inputs()
    result = model.run(inputs)
    np.testing.assert_array_equal(result.outputs["y"], np.maximum(inputs["x"], 0))
    assert [m.name for m in result.messages] == ["put"] * 3 + ["infer"] + ["get"] * 3
    assert [m.metered for m in result.messages] == [m.predicted for m in result.messages]


HEAD = """
<ir_version: 8, opset_import: ["" : 17]>
head (float[600000] x) => (float[8] y)
<int64[1] start = {0}, int64[1] end = {8}>
{
  y = Slice (x, start, end)
}
"""
"""Sending its input costs more than the inference."""


def test_limit_below_the_transfer_of_a_part_is_refused(tmp_path):
    with pytest.raises(
        TosaicError,
        match=r"the message 'put' needs [0-9,]+ instructions in one message, the limit is 1,000,000",
    ):
        tosaic.compile_model(
            onnx.parser.parse_model(HEAD), tmp_path / "a.tosaic", limit_instructions=1_000_000
        )
    assert list(tmp_path.iterdir()) == []


NO_ROOM = {
    "module_bytes": 70_128,
    "code_section_bytes": 50_000,
    "custom_section_bytes": 20_000,
    "chunk_bytes": 64,
}
"""Limits under which a module holds 64 bytes of weights."""


def limited(monkeypatch, **limits: int) -> None:
    """Put other limits in the place of the network's."""
    document = json.loads(json.dumps(PriceList.load().document))
    document["limits"] |= limits
    monkeypatch.setattr(PriceList, "load", lambda: PriceList(document))


def test_weights_that_no_module_holds_are_uploaded(model_file, tmp_path, monkeypatch):
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    whole = tosaic.compile_model(model_file, tmp_path / "whole.tosaic", batch_size=4)
    limited(monkeypatch, **NO_ROOM)
    artifact = tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=4)
    assert whole.manifest["uploads"] == []
    assert len(artifact.manifest["uploads"]) > 2
    model, reference = tosaic.load(artifact), tosaic.load(whole)
    for _ in range(2):
        result = model.run({"x": x})
        np.testing.assert_array_equal(result.outputs["y"], reference.run({"x": x}).outputs["y"])
        assert result.total_metered == result.total_predicted == artifact.manifest["total_predicted"]


def test_uploads_take_what_the_manifest_says_and_only_what_is_missing(model_file, tmp_path, monkeypatch):
    limited(monkeypatch, **NO_ROOM)
    artifact = tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=4)
    model = tosaic.load(artifact)
    uploaded = model.upload_weights()
    assert [m.metered for m in uploaded] == [entry["predicted"] for entry in artifact.manifest["uploads"]]
    assert model.upload_weights() == []


def test_a_changed_upload_is_found(model_file, tmp_path, monkeypatch):
    limited(monkeypatch, **NO_ROOM)
    artifact = tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=4)
    file = next((artifact.path / "uploads").iterdir())
    file.write_bytes(bytes(64))
    with pytest.raises(TosaicError, match=f"uploads/{file.name}"):
        tosaic.load(artifact)


LIMITS = {
    "module bytes": "module_bytes",
    "code section bytes": "code_section_bytes",
    "functions": "functions",
    "operators of a function": "operators_per_function",
    "complexity of a function": "complexity_per_function",
    "instructions to compile the module": "install_instructions",
    "exported methods": "exported_methods",
    "bytes of the methods' names": "method_name_bytes",
    "icp: custom sections": "custom_sections",
    "bytes of icp: custom sections": "custom_section_bytes",
    "heap bytes": "heap_bytes",
}
"""Limits on the module, as they are named and as the price list calls them."""


@pytest.mark.parametrize("what", LIMITS)
def test_one_more_than_a_limit_is_refused_by_the_compiler_and_by_the_replica(
    what, model_file, tmp_path, monkeypatch
):
    artifact = tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=4)
    used = {entry["what"]: entry["used"] for entry in artifact.manifest["limits"]}[what]
    before = list(tmp_path.iterdir())
    with monkeypatch.context() as context:
        limited(context, **{LIMITS[what]: used})
        tosaic.load(artifact).run({"x": np.zeros((4, 8), np.float32)})
    limited(monkeypatch, **{LIMITS[what]: used - 1})
    excess = re.escape(f"{what}: {used:,} where {used - 1:,} are allowed, 1 too many (")
    with pytest.raises(TosaicError, match=f"the network would refuse this module: {excess}"):
        tosaic.load(artifact)
    with pytest.raises(TosaicError, match=f"the network would refuse this [a-z]+: {what}"):
        tosaic.compile_model(model_file, tmp_path / "b.tosaic", batch_size=4)
    assert list(tmp_path.iterdir()) == before


def test_no_limit_of_the_network_is_left_out(model_file, tmp_path):
    artifact = tosaic.compile_model(model_file, tmp_path / "a.tosaic", batch_size=4)
    listed = {entry["what"] for entry in artifact.manifest["limits"]}
    assert listed == {
        *LIMITS, "globals", "instructions of a message (infer)", "instructions of a query (infer_query)",
        "bytes of an argument", "bytes of a reply", "bytes of a query's reply",
    }  # fmt: skip
    assert all(entry["used"] <= entry["limit"] for entry in artifact.manifest["limits"])
