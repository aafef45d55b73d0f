"""TOSA from other producers: what is taken as it is, and what a refusal says."""

from __future__ import annotations

import numpy as np
import pytest

import tosaic
from models import PERCEPTRON, write_model
from tosaic.errors import TosaicError


def function(body: str, arguments: str = "%x: tensor<4xf32>", result: str = "tensor<4xf32>") -> str:
    return f"func.func @main({arguments}) -> {result} {{\n{body}\n}}"


REFUSED = {
    "a call without an end": (
        function("%0 = call @main(%x) : (tensor<4xf32>) -> tensor<4xf32>\nreturn %0 : tensor<4xf32>"),
        "@main calls @main, which has no body or calls itself",
    ),
    "a function without a body": (
        "func.func private @far(tensor<4xf32>) -> tensor<4xf32>\n"
        + function("%0 = call @far(%x) : (tensor<4xf32>) -> tensor<4xf32>\nreturn %0 : tensor<4xf32>"),
        "@main calls @far, which has no body",
    ),
    "two entries": (
        "func.func @a(%x: tensor<4xf32>) { return }\nfunc.func @b(%x: tensor<4xf32>) { return }",
        "no function @main, but @a, @b",
    ),
    "a dynamic shape": (
        function("return %x : tensor<?xf32>", "%x: tensor<?xf32>", "tensor<?xf32>"),
        r"input of @main has the type tensor<\?xf32>; export the model with fixed shapes",
    ),
    "another dialect": (
        function("%0 = math.sqrt %x : tensor<4xf32>\nreturn %0 : tensor<4xf32>"),
        r"math\.sqrt \(1\); lower the whole model to TOSA",
    ),
    "a state": (
        "tosa.variable @v = dense<0.0> : tensor<4xf32>\n"
        + function("%0 = tosa.variable_read @v : tensor<4xf32>\nreturn %0 : tensor<4xf32>"),
        r"tosa\.variable_read \(1\); make the state an input and an output",
    ),
    "an op of its producer": (
        function(
            '%0 = tosa.custom %x {domain_name = "d", operator_name = "o", implementation_attrs = ""} : '
            "(tensor<4xf32>) -> tensor<4xf32>\nreturn %0 : tensor<4xf32>"
        ),
        r"tosa\.custom \(1\); express them by other ops of TOSA 1\.0",
    ),
    "the syntax of an older TOSA": (
        function(
            "%0 = tosa.reshape %x {new_shape = array<i64: 2, 2>} : (tensor<4xf32>) -> tensor<2x2xf32>\n"
            "return %0 : tensor<2x2xf32>",
            result="tensor<2x2xf32>",
        ),
        "is not a valid MLIR module: .* bytecode and the generic form",
    ),
    "elements of 64 bits": (
        function("%0 = tosa.exp %x : (tensor<4xf64>) -> tensor<4xf64>\nreturn %0 : tensor<4xf64>").replace(
            "4xf32", "4xf64"
        ),
        "takes or gives tensor<4xf64>, .*; allow it with --float64-as-float32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_reason_and_writes_nothing(name: str, tmp_path) -> None:
    text, reason = REFUSED[name]
    (tmp_path / "model.mlir").write_text(text)
    with pytest.raises(TosaicError, match=reason):
        tosaic.compile_model(tmp_path / "model.mlir", tmp_path / "model.tosaic")
    assert not (tmp_path / "model.tosaic").exists()


def test_helpers_attributes_and_names_of_other_producers(tmp_path) -> None:
    (tmp_path / "model.mlir").write_text(
        """module attributes {tf_saved_model.semantics, torch.debug_module_name = "Net"} {
          ml_program.global private mutable @seed(dense<0> : tensor<i64>) : tensor<i64>
          func.func private @twice(%x: tensor<4xf32>) -> tensor<4xf32> {
            %0 = tosa.add %x, %x {my.note = "kept"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
            return %0 : tensor<4xf32>
          }
          func.func @forward(%x: tensor<4xf32> {ml_program.identifier = "x"}) -> tensor<4xf32>
              attributes {tf.entry_function = {inputs = "x"}} {
            %0 = func.call @twice(%x) : (tensor<4xf32>) -> tensor<4xf32>
            %1 = func.call @twice(%0) : (tensor<4xf32>) -> tensor<4xf32>
            return %1 : tensor<4xf32>
          }
        }"""
    )
    model = tosaic.load(tosaic.compile_model(tmp_path / "model.mlir", tmp_path / "model.tosaic"))
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(model.run({"input": x}).outputs["output"], 4 * x)


def test_float64_is_float32_where_it_is_allowed(tmp_path) -> None:
    text = function(
        """%c = "tosa.const"() <{values = dense<[0.1, 0.2, 0.3, 0.4]> : tensor<4xf64>}> : () -> tensor<4xf64>
        %0 = tosa.cast %x : (tensor<4xf32>) -> tensor<4xf64>
        %1 = tosa.add %0, %c : (tensor<4xf64>, tensor<4xf64>) -> tensor<4xf64>
        return %1 : tensor<4xf64>""",
        result="tensor<4xf64>",
    )
    (tmp_path / "model.mlir").write_text(text)
    artifact = tosaic.compile_model(
        tmp_path / "model.mlir", tmp_path / "model.tosaic", float64_as_float32=True
    )
    outputs = tosaic.load(artifact).run({"input": np.ones(4, np.float32)}).outputs
    np.testing.assert_array_equal(
        outputs["output"], np.float32(1) + np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    )


def test_a_program_that_is_cut_is_cut_anew(tmp_path) -> None:
    model = write_model(PERCEPTRON, tmp_path / "model.onnx")
    whole = tosaic.compile_model(model, tmp_path / "whole.tosaic", batch_size=9000)
    limit = int(whole.manifest["total_predicted"] * 0.75)
    cut = tosaic.compile_model(model, tmp_path / "cut.tosaic", batch_size=9000, limit_instructions=limit)
    assert [len(artifact.manifest["segments"]) for artifact in (whole, cut)] == [1, 2]
    anew = [tmp_path / f"anew_{name}.tosaic" for name in ("whole", "cut")]
    for before, after in zip((whole, cut), anew):
        tosaic.compile_model(before.path / "program.mlirbc", after)
    assert len({(path / "canister.wasm").read_bytes() for path in anew}) == 1
