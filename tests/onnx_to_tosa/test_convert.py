"""convert-onnx-to-tosa as a whole: signature, target, failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from tosaic_passes.convert_onnx_to_tosa import ConvertOnnxToTosaPass
from tosaic_passes.errors import TosaicError, UnsupportedNodesError
from tosaic_passes.onnx_to_tosa import registry
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.tensor import Tensor
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

UNARY = """
module attributes {{onnx.opset = {{ai.onnx = {opset} : si64}}}} {{
  func.func @main(%x: tensor<{type}> {{ic.name = "x"}}) -> tensor<{type}> {{
    %y = "onnx.{op}"(%x) {{{attributes}}} : (tensor<{type}>) -> tensor<{type}> loc("first")
    %z = "onnx.Identically"(%y) : (tensor<{type}>) -> tensor<{type}> loc("second")
    return %{returned} : tensor<{type}>
  }}
}}"""


@pytest.fixture
def context() -> Iterator[ir.Context]:
    context = ir.Context()
    context.allow_unregistered_dialects = True
    with context, ir.Location.unknown():
        yield context


def program(
    op: str, type: str = "2xf32", attributes: str = "", opset: int = 13, broken: bool = False
) -> Program:
    text = UNARY.format(op=op, type=type, attributes=attributes, opset=opset, returned="z" if broken else "y")
    lines = [line for line in text.splitlines() if broken or "Identically" not in line]
    return Program(ir.Module.parse("\n".join(lines)), WeightTable())


def test_border_keeps_names_and_onnx_dtypes(context: ir.Context) -> None:
    lowered = program("Neg", "2xi64")
    ConvertOnnxToTosaPass().run(lowered)
    assert '%arg0: tensor<2xi32> {ic.dtype = "int64", ic.name = "x"}' in str(lowered.module)


def test_narrowing_is_told_once(context: ir.Context, caplog: pytest.LogCaptureFixture) -> None:
    ConvertOnnxToTosaPass().run(program("Neg", "2xi64"))
    assert [r.getMessage() for r in caplog.records] == [
        "TOSA 1.0 computes in 32 bits: int64 as int32 (docs/types.md)"
    ]


def test_node_name_becomes_location(context: ir.Context) -> None:
    lowered = program("Exp")
    ConvertOnnxToTosaPass().run(lowered)
    assert 'loc("first")' in lowered.module.operation.get_asm(enable_debug_info=True, use_local_scope=True)


@pytest.mark.parametrize(
    "type", ["2x3xf32", "f32", "2xf16", "2xbf16", "2xi8", "2xui8", "2xi64", "2x1x1x1x1x1xi64"]
)
def test_result_is_valid_tosa_1_0(context: ir.Context, type: str) -> None:
    lowered = program("Relu", type)
    ConvertOnnxToTosaPass().run(lowered)
    PassManager.parse("builtin.module(tosa-validate{strict-op-spec-alignment})").run(lowered.module.operation)


def test_the_extensions_in_use_are_attached(context: ir.Context) -> None:
    lowered = program("Relu", "2xbf16")
    ConvertOnnxToTosaPass().run(lowered)
    assert "extensions = [bf16, int16]" in str(lowered.module)


def test_what_a_lowering_gets_wrong_is_refused(context: ir.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(ctx: LoweringContext, x: Tensor) -> Tensor:
        return ctx.emit("tanh", [ctx.reshape(x, (1, 2))], x.shape, x.dtype)

    broken = dataclasses.replace(registry.find("Relu", "", 13), function=wrong)
    monkeypatch.setattr(registry, "find", lambda *_: broken)
    with pytest.raises(UnsupportedNodesError, match="Relu node 'first': what it is lowered to is not valid"):
        ConvertOnnxToTosaPass().run(program("Relu"))


def test_lowered_module_can_be_read_back(context: ir.Context) -> None:
    lowered = program("Relu")
    ConvertOnnxToTosaPass().run(lowered)
    assert ir.Module.parse(str(lowered.module)).operation.verify()


def test_all_unsupported_nodes_are_named_at_once(context: ir.Context) -> None:
    with pytest.raises(UnsupportedNodesError) as error:
        ConvertOnnxToTosaPass().run(program("Relu", attributes="slope = 1 : si64", broken=True))
    assert str(error.value) == (
        "2 nodes cannot be lowered to TOSA:\n"
        "  Relu node 'first': attribute 'slope' is not supported\n"
        "  Identically node 'second': the operator has no lowering to TOSA"
    )


def test_failure_leaves_the_module_as_it_was(context: ir.Context) -> None:
    broken = program("Relu", broken=True)
    before = str(broken.module)
    with pytest.raises(UnsupportedNodesError):
        ConvertOnnxToTosaPass().run(broken)
    assert str(broken.module) == before


def test_older_opset_never_gets_a_newer_meaning(context: ir.Context) -> None:
    with pytest.raises(UnsupportedNodesError, match="opset 9 is too old"):
        ConvertOnnxToTosaPass().run(program("Mod", opset=9))


def test_rank_above_six_is_flat_and_keeps_its_shape(context: ir.Context) -> None:
    lowered = program("Relu", "1x1x2x1x1x1x2xf32")
    ConvertOnnxToTosaPass().run(lowered)
    seen = '{ic.dtype = "float32", ic.name = "x", ic.shape = array<i64: 1, 1, 2, 1, 1, 1, 2>}'
    assert f"%arg0: tensor<4xf32> {seen}" in str(lowered.module)


def test_result_without_elements_stands_beside_the_function(context: ir.Context) -> None:
    lowered = program("Relu", "0x3xi64")
    ConvertOnnxToTosaPass().run(lowered)
    listed = '{ic.dtype = "int64", place = 0 : i64, type = tensor<0x3xi32>}'
    assert f"attributes {{ic.empty_results = [{listed}]}}" in str(lowered.module)
    assert "tosa." not in str(lowered.module.body)


def test_module_without_opset_is_refused(context: ir.Context) -> None:
    unversioned = program("Relu")
    del unversioned.module.operation.attributes["onnx.opset"]
    with pytest.raises(TosaicError, match="does not say which ONNX opset"):
        ConvertOnnxToTosaPass().run(unversioned)


def test_dtype_that_tosa_cannot_hold_is_refused(context: ir.Context) -> None:
    with pytest.raises(
        UnsupportedNodesError, match="an output of type tensor<2xcomplex<f32>> is no tensor of numbers"
    ):
        ConvertOnnxToTosaPass().run(program("Relu", "2xcomplex<f32>"))


def test_float64_input_that_is_computed_with_is_refused(context: ir.Context) -> None:
    with pytest.raises(UnsupportedNodesError, match=r"input node 'x': it is float64 .*--float64-as-float32"):
        ConvertOnnxToTosaPass().run(program("Neg", "2xf64"))


def test_float64_input_is_narrowed_on_request(context: ir.Context) -> None:
    lowered = program("Neg", "2xf64")
    ConvertOnnxToTosaPass(float64_as_float32=True).run(lowered)
    assert '%arg0: tensor<2xf32> {ic.dtype = "float64", ic.name = "x"}' in str(lowered.module)


def test_input_that_tosa_cannot_hold_is_refused(context: ir.Context) -> None:
    text = """
    module attributes {onnx.opset = {ai.onnx = 13 : si64}} {
      func.func @main(%x: tensor<2xcomplex<f32>>) -> tensor<2xf32> {
        %y = "onnx.Cast"(%x) {to = 1 : si64} : (tensor<2xcomplex<f32>>) -> tensor<2xf32>
        return %y : tensor<2xf32>
      }
    }"""
    with pytest.raises(UnsupportedNodesError, match="an input of type tensor<2xcomplex<f32>> is no tensor"):
        ConvertOnnxToTosaPass().run(Program(ir.Module.parse(text), WeightTable()))
