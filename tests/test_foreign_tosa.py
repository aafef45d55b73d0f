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
        r"input 'input' has unknown dimension at axis 0; add -b 1 or --input-shape input:1",
    ),
    "a shape that depends on data": (
        function(
            """%0 = "t.nonzero"(%x) : (tensor<4xf32>) -> tensor<?xf32>
            %1 = tosa.abs %0 : (tensor<?xf32>) -> tensor<?xf32>
            return %1 : tensor<?xf32>""",
            result="tensor<?xf32>",
        ),
        r"the shape that t\.nonzero \(line 2, column 6\) gives depends on data, or is not known",
    ),
    "an input that is no tensor": (
        function("return %x : i32", "%x: i32", "i32"),
        "input of @main has the type i32; give a function that takes and gives tensors",
    ),
    "another dialect": (
        function("%0 = math.sqrt %x : tensor<4xf32>\nreturn %0 : tensor<4xf32>"),
        r"math\.sqrt \(1, first at line 2, column 6\); lower the whole model to TOSA",
    ),
    "a state": (
        "tosa.variable @v = dense<0.0> : tensor<4xf32>\n"
        + function("%0 = tosa.variable_read @v : tensor<4xf32>\nreturn %0 : tensor<4xf32>"),
        r"tosa\.variable_read \(1, first at line 3, column 6\); make the state an input and an output",
    ),
    "an op of its producer": (
        function(
            '%0 = tosa.custom %x {domain_name = "d", operator_name = "o", implementation_attrs = ""} : '
            "(tensor<4xf32>) -> tensor<4xf32>\nreturn %0 : tensor<4xf32>"
        ),
        r"tosa\.custom \(1, first at line 2, column 6\); express them by other ops of TOSA 1\.0",
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
          func.func public @"forward pass"(%x: tensor<4xf32> {ml_program.identifier = "x"}) -> tensor<4xf32>
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


OPEN = function(
    """%r:2 = tosa.while_loop (%i = %n, %a = %x) : (tensor<i32>, tensor<?x2xf32>) -> (tensor<i32>, tensor<?x2xf32>) {
      %most = "tosa.const"() <{values = dense<3> : tensor<i32>}> : () -> tensor<i32>
      %more = tosa.greater %most, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
      tosa.yield %more : tensor<i1>
    } do {
    ^bb0(%i: tensor<i32>, %a: tensor<?x2xf32>):
      %one = "tosa.const"() <{values = dense<1> : tensor<i32>}> : () -> tensor<i32>
      %next = tosa.add %i, %one : (tensor<i32>, tensor<i32>) -> tensor<i32>
      %double = tosa.add %a, %a : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
      tosa.yield %next, %double : tensor<i32>, tensor<?x2xf32>
    }
    %flat = tosa.const_shape {values = dense<-1> : tensor<1xindex>} : () -> !tosa.shape<1>
    %0 = tosa.reshape %r#1, %flat : (tensor<?x2xf32>, !tosa.shape<1>) -> tensor<?xf32>
    %1 = tosa.concat %0, %0 {axis = 0 : i32} : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
    %2 = tensor.cast %1 : tensor<?xf32> to tensor<*xf32>
    return %2 : tensor<*xf32>""",
    "%n: tensor<i32>, %x: tensor<?x2xf32>",
    "tensor<*xf32>",
)


@pytest.mark.parametrize(
    "options", [{"input_shapes": {"input_1": (3, 2)}}, {"batch_size": 3}], ids=["shape", "batch"]
)
def test_open_shapes_are_bound_and_followed_through_a_loop(options, tmp_path) -> None:
    (tmp_path / "model.mlir").write_text(OPEN)
    constants = {"input_0": np.array(0, np.int32)}
    artifact = tosaic.compile_model(
        tmp_path / "model.mlir", tmp_path / "model.tosaic", constants=constants, **options
    )
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    outputs = tosaic.load(artifact).run({"input_1": x}).outputs
    np.testing.assert_array_equal(outputs["output"], np.tile(8 * x.reshape(-1), 2))


def test_shapes_that_are_computed_from_shapes(tmp_path) -> None:
    """The ops of TOSA 1.1 for shapes are constants once the inputs have theirs, two steps after one another."""
    text = """module attributes {tosa.target_env = #tosa.target_env<specification_version = "1.1.draft", level = "8k",
        profiles = [pro_int, pro_fp], extensions = [shape]>} {
      func.func @main(%x: tensor<?x?xf32>) -> tensor<?xf32> {
        %rows = tosa.dim %x {axis = 0 : i32} : (tensor<?x?xf32>) -> !tosa.shape<1>
        %columns = tosa.dim %x {axis = 1 : i32} : (tensor<?x?xf32>) -> !tosa.shape<1>
        %all = tosa.mul_shape %rows, %columns : (!tosa.shape<1>, !tosa.shape<1>) -> !tosa.shape<1>
        %0 = tosa.reshape %x, %all : (tensor<?x?xf32>, !tosa.shape<1>) -> tensor<?xf32>
        %size = tosa.dim %0 {axis = 0 : i32} : (tensor<?xf32>) -> !tosa.shape<1>
        %1 = tosa.tile %0, %size : (tensor<?xf32>, !tosa.shape<1>) -> tensor<?xf32>
        return %1 : tensor<?xf32>
      }
    }"""
    (tmp_path / "model.mlir").write_text(text)
    artifact = tosaic.compile_model(
        tmp_path / "model.mlir", tmp_path / "model.tosaic", input_shapes={None: (2, 3)}
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = tosaic.load(artifact).run({"input": x}).outputs
    np.testing.assert_array_equal(outputs["output"], np.tile(x.reshape(-1), 6))


def test_dimensions_of_mlir_have_no_names(tmp_path) -> None:
    (tmp_path / "model.mlir").write_text(OPEN)
    with pytest.raises(
        TosaicError, match="the dimensions of an MLIR module have no names; give --input-shape"
    ):
        tosaic.lower_to_tosa(tmp_path / "model.mlir", dims={"N": 3})
