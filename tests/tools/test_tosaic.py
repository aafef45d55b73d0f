"""The command `tosaic`: exit codes, what it prints, and one clear message for each kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models import PERCEPTRON, UNSUPPORTED, write_model
from tosaic.tensors.formats import read_file
from tosaic.tools import tosaic
from tosaic.tools.exits import Exit


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    model = write_model(PERCEPTRON, folder / "model.onnx")
    assert tosaic.main(["compile", str(model), "-o", str(folder / "model.tosaic"), "-b", "1"]) == Exit.DONE
    return folder / "model.tosaic"


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run `tosaic` in an empty folder with the model beside it; gives exit code, stdout and stderr."""
    write_model(PERCEPTRON, tmp_path / "model.onnx")
    write_model(UNSUPPORTED, tmp_path / "unsupported.onnx")
    (tmp_path / "garbage.onnx").write_bytes(b"this is no model")
    (tmp_path / "truncated.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:-40])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("data")
    np.save(tmp_path / "wrong_shape.npy", np.zeros((1, 9), np.float32))
    np.save(tmp_path / "wrong_dtype.npy", np.zeros((1, 8)))
    np.save(tmp_path / "right.npy", np.ones((1, 8), np.float32))
    (tmp_path / "bad.npy").write_bytes(b"1,2,3")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = tosaic.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        return code, *capfd.readouterr()

    return run


COMPILE_REFUSED = {
    "not ONNX": ("garbage.onnx", "garbage.onnx"),
    "truncated": ("truncated.onnx", "truncated.onnx"),
    "missing": ("missing.onnx", "'missing.onnx' does not exist"),
    "unknown dimension": ("model.onnx", "-b 1"),
    "unknown dimension's name": ("model.onnx --dim M=1", "'M'"),
    "unsupported operators": ("unsupported.onnx", "Cast node"),
    "limit too small": ("model.onnx -b 1 --limit 1000", "does not"),
    "a size beyond all": (f"model.onnx -b {10**22}", "cannot have dimension 10000000000000000000000"),
    "wrong principal": ("model.onnx -b 1 --access 2vxsx-fag", "its checksum is wrong"),
    "weights that nobody can read": ("model.onnx -b 1 --no-weights-private", "--weights=uploaded"),
    "shapes for MLIR": ("model.mlir -b 1", "cannot read 'model.mlir'"),
}


@pytest.mark.parametrize("kind", COMPILE_REFUSED)
def test_refused_model_gives_one_message_and_no_output(command, tmp_path, kind):
    arguments, message = COMPILE_REFUSED[kind]
    before = sorted(tmp_path.iterdir())
    code, out, err = command("compile", *arguments.split(), "-o", "out.tosaic")
    assert (code, out) == (Exit.REFUSED, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("output", ["thesis", "model.onnx", "missing/out.tosaic"])
def test_output_that_is_no_artifact_is_left_alone(command, tmp_path, output):
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code, _, err = command("compile", "model.onnx", "-b", "1", "-o", output)
    assert code == Exit.REFUSED
    assert output.partition("/")[0] in err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        "compile model.onnx",
        "compile model.onnx -o out --limit 0",
        "compile model.onnx -o out --dim three",
        "compile model.onnx -o out --input-shape x:1,eight",
        "run out --input x",
        "run out --seed=-1",
        "walk",
        "",
    ],
)
def test_wrong_usage_is_exit_2(command, arguments):
    assert command(*arguments.split())[0] == Exit.USAGE


SENSELESS = {
    "compile model.onnx -o x.mlir --emit=tosa -b 1 --limit 9": "--limit has no effect with --emit=tosa",
    "compile model.onnx -o x.mlir --emit=onnx -b 1 --float64-as-float32": "--float64-as-float32 has no effect",
    "compile model.onnx -o x.mlir --emit=tosa -b 1 --access controllers": "--access has no effect with",
    "compile model.onnx -o x.mlir --emit=tosa -b 1 --weights=uploaded": "--weights has no effect with",
    "compile model.onnx -o x.mlir --emit=segments -b 1 --no-weights-private": "--no-weights-private has no",
    "compile model.onnx -o x.mlir --emit=segments -b 1 --check": "--check has no effect with --emit=segments",
    "compile model.onnx -o x.mlir --emit=segments -b 1 --report r.html": "--report has no effect with",
    "compile model.onnx -o x.mlir --emit=segments -b 1 --json": "--json has no effect with --emit=segments",
    "compile model.onnx -o x.mlirbc -b 1": "'x.mlirbc' would be the folder of an artifact; give --emit=tosa",
    "compile model.mlir -o x --check": "--check compares with an ONNX runtime, which reads no other models",
    "compile model.onnx -o x --dim N=1 --dim N=2": "--dim is given 2 times for 'N'; give it once",
    "compile model.onnx -o x --input-shape 1,8 --input-shape 2,8": "--input-shape is given 2 times; give",
    "compile model.onnx -o x --constant x=a.npy --constant x=b.npy": "--constant is given 2 times for 'x'",
    "run x --input x=a.npy --input x=b.npy": "--input is given 2 times for 'x'; give it once",
    "compile model.onnx -o x -b 1 --report x/page.html": "--report x/page.html is inside of the artifact 'x'",
    "run x --output ./x/out": "--output ./x/out is inside of the artifact 'x'; write it to another place",
    "inspect x --html x/page.html": "--html x/page.html is inside of the artifact 'x'",
    "plan x --script x/up.sh": "--script x/up.sh is inside of the artifact 'x'",
    "store -o x y --script x/up.sh": "--script x/up.sh is inside of the artifact 'x'",
    "run x --format npz": "--format has no effect without --output; give --output as well",
    "verify x --constant x=a.npy": "--constant has no effect without --model; give --model as well",
}


@pytest.mark.parametrize("arguments", SENSELESS)
def test_options_that_make_no_sense_together(command, tmp_path, arguments):
    before = sorted(tmp_path.iterdir())
    code, out, err = command(*arguments.split())
    assert (code, out, err.count("\n")) == (Exit.USAGE, "", 1)
    assert SENSELESS[arguments] in err
    assert sorted(tmp_path.iterdir()) == before


MEANINGFUL = [
    "model.onnx -o x.mlir --emit=segments -b 1 --limit 9000000 --access controllers --weights=uploaded",
    "model.onnx -o x.mlir --emit=tosa -b 1 --float64-as-float32",
    "model.onnx -o x.mlirbc --emit=onnx --constant x=right.npy",
    "model.onnx -o x --input-shape x:1,8 --check=1 --report r.html --json -v",
    "model.onnx -o x --input-shape [1x8] --limit 9000000 --weights=uploaded --no-weights-private",
]


@pytest.mark.parametrize("arguments", MEANINGFUL)
def test_options_that_work_together(command, arguments):
    assert command("compile", *arguments.split())[0] == Exit.DONE


RUN_REFUSED = {
    "--input z=right.npy": "the model has no input 'z'; its inputs are: x",
    "--input x=wrong_shape.npy": "the input 'x' has shape [1, 9], the model takes [1, 8]",
    "--input x=wrong_dtype.npy": "the input 'x' has dtype float64, the model takes float32",
    "--input x=bad.npy": "'bad.npy' is not a .npy file",
    "--input x=none.npy": "cannot read 'none.npy'",
    "--inputs right.npy": "'right.npy' does not name its tensors; give --input NAME=right.npy",
    "--inputs none.npz": "cannot read 'none.npz'",
    "--output model.onnx": "cannot write to 'model.onnx'",
}


@pytest.mark.parametrize("arguments", RUN_REFUSED)
def test_refused_run(command, artifact, arguments):
    code, out, err = command("run", artifact, *arguments.split())
    assert (code, out) == (Exit.REFUSED, "")
    assert RUN_REFUSED[arguments] in err


def test_a_model_for_few_runs_here_as_one_of_them(command):
    options = ("-b", "1", "--access", "em77e-bvlzu-aq")
    assert command("compile", "model.onnx", "-o", "few.tosaic", *options)[0] == Exit.DONE
    document = json.loads(command("run", "few.tosaic", "--json")[1])
    assert document["total_predicted"] == document["total_metered"]
    manifest = json.loads(command("inspect", "few.tosaic", "--json")[1])
    assert manifest["access"] == "em77e-bvlzu-aq"


@pytest.mark.parametrize("more", [(), ("--no-weights-private",)])
def test_small_weights_can_be_uploaded_as_well(command, more):
    options = ("-b", "1", "--weights=uploaded", *more)
    assert command("compile", "model.onnx", "-o", "uploaded.tosaic", *options)[0] == Exit.DONE
    manifest = json.loads(command("inspect", "uploaded.tosaic", "--json")[1])
    assert [message["name"] for message in manifest["fetch"]] == [
        "fetch_chunks",
        "fetch_chunks: reply callback",
    ]
    document = json.loads(command("run", "uploaded.tosaic", "--json")[1])
    assert document["total_predicted"] == document["total_metered"]
    assert command("verify", "uploaded.tosaic", "--model", "model.onnx")[0] == Exit.DONE


def test_a_store_is_an_artifact_of_its_own_kind(command):
    code, out, _ = command("store", "-o", "store", "--access", "em77e-bvlzu-aq", "--json")
    manifest = json.loads(out)
    assert (code, manifest["kind"], manifest["access"]) == (Exit.DONE, "store", "em77e-bvlzu-aq")
    assert sorted(manifest["files"]) == ["canister.did", "canister.hidden", "canister.wasm", "icp.yaml"]
    assert "read by em77e-bvlzu-aq" in command("inspect", "store")[1]
    assert "'store' is a store and not a model" in command("run", "store")[2]
    assert "tosaic makes exactly this store" in command("verify", "store")[1]
    assert command("store", "-o", "store")[0] == Exit.DONE


@pytest.mark.parametrize("option", ["--writers=public", "--access=nobody", "--writers=controllers,public"])
def test_a_store_is_refused_for_wrong_principals(command, tmp_path, option):
    code, out, err = command("store", "-o", "store", option)
    assert (code, out) == (Exit.REFUSED, "")
    assert err.startswith("error: ")
    assert not (tmp_path / "store").exists()


def test_run_prints_one_json_object(command, artifact):
    code, out, err = command("run", artifact, "--input", "x=right.npy", "--output", "results", "--json")
    document = json.loads(out)
    assert (code, err) == (Exit.DONE, "")
    assert document["total_predicted"] == document["total_metered"] > document["page_touch"] > 0
    assert document["total_predicted"] == document["total_performance_counter"]
    assert [message["name"] for message in document["messages"]] == ["infer"]
    assert set(document["messages"][0]) == {"name", "predicted", "metered", "performance_counter", "limit"}
    assert document["memory_bytes"] > 0
    assert np.load(document["outputs"]["y"]).shape == (1, 3)


@pytest.mark.parametrize("suffix", [".npz", ".cbor", ".safetensors"])
def test_a_file_with_the_names_of_inputs(command, artifact, tmp_path, suffix):
    command("tensor", "convert", "right.npy", f"all{suffix}", "--name", "x")
    assert command("run", artifact, "--inputs", f"all{suffix}", "--output", "found")[2] == ""
    command("run", artifact, "--input", "x=right.npy", "--output", "right")
    assert (tmp_path / "found" / "y.npy").read_bytes() == (tmp_path / "right" / "y.npy").read_bytes()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pb", ".cbor", ".safetensors", ".candid"])
def test_inputs_and_outputs_in_every_format(command, artifact, tmp_path, suffix):
    assert command("tensor", "convert", "right.npy", f"x{suffix}", "--name", "x")[0] == Exit.DONE
    given = ("--input", f"x=x{suffix}", "--output", "found", "--format", suffix)
    code, out, err = command("run", artifact, *given, "--json")
    assert (code, err) == (Exit.DONE, "")
    command("run", artifact, "--input", "x=right.npy", "--output", "right")
    file = read_file(Path(json.loads(out)["outputs"]["y"]))
    assert (file.format.suffix, file.path.parent.name) == (suffix, "found")
    np.testing.assert_array_equal(file.tensor("y").reshape(1, 3), np.load(tmp_path / "right" / "y.npy"))


def test_both_wires_give_the_same_bits(command, artifact, tmp_path):
    outputs = {}
    for wire in ("candid", "cbor"):
        code, out, _ = command("run", artifact, "--wire", wire, "--output", wire, "--json")
        document = json.loads(out)
        assert (code, document["total_metered"]) == (Exit.DONE, document["total_predicted"])
        assert document["messages"][0]["name"] == {"candid": "infer", "cbor": "infer_cbor"}[wire]
        outputs[wire] = np.load(tmp_path / wire / "y.npy").tobytes()
    assert outputs["candid"] == outputs["cbor"]


def test_run_says_that_inputs_are_random(command, artifact):
    code, out, err = command("run", artifact)
    assert code == Exit.DONE
    assert "no --input for 'x': random values of seed 0" in err
    assert "infer" in out


def test_changed_artifact_is_refused(command, artifact, tmp_path):
    import shutil

    copy = tmp_path / "copy.tosaic"
    shutil.copytree(artifact, copy)
    content = bytearray((copy / "canister.wasm").read_bytes())
    content[100] ^= 1
    (copy / "canister.wasm").write_bytes(content)
    for verb in ("run", "inspect"):
        code, _, err = command(verb, copy)
        assert (code, "'canister.wasm' of the artifact was changed" in err) == (Exit.REFUSED, True)


def test_check_passes_on_a_right_canister(command):
    code, out, err = command("compile", "model.onnx", "-b", "2", "-o", "out.tosaic", "--check=2")
    assert (code, err) == (Exit.DONE, "")
    assert out.startswith("out.tosaic: ")


def test_compile_prints_its_manifest_as_json(command):
    code, out, _ = command("compile", "model.onnx", "-b", "1", "-o", "out.tosaic", "--json")
    document = json.loads(out)
    assert code == Exit.DONE
    assert document["artifact"] == "out.tosaic"
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 8]}]
    assert "canister.wasm" in document["files"]


def test_inspect_writes_a_page_that_needs_nothing_else(command, artifact):
    code, out, _ = command("inspect", artifact, "--html", "page.html")
    with open("page.html") as file:
        text = file.read()
    assert code == Exit.DONE
    assert "segment_0" in out
    assert "tosa." in text
    assert "http" not in text


def test_bug_is_exit_3_with_a_reproducer(command, monkeypatch):
    from tosaic import driver

    def broken(*_):
        raise KeyError("lost")

    monkeypatch.setattr(driver, "compile_to_canister", broken)
    code, _, err = command("compile", "model.onnx", "-o", "out.tosaic")
    assert code == Exit.BUG
    with open(err.strip().rpartition(" ")[2]) as file:
        assert "tosaic compile model.onnx -o out.tosaic" in file.read()
