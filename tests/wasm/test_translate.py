"""TOSA text as the backend reads it."""

import numpy as np
import pytest
from torch_mlir import ir

from tosaic.errors import TosaicError
from tosaic.wasm.translate import multiply_adds, read
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable


def graph(text: str):
    context = ir.Context()
    context.allow_unregistered_dialects = True
    return read(Program(ir.Module.parse(text, context), WeightTable()))


CONV = """
func.func @main(%x: tensor<1x4x4x3xf32>) -> tensor<1x4x4x8xf32> {
  %w = "tosa.const"() {values = dense<0.5> : tensor<8x3x3x3xf32>} : () -> tensor<8x3x3x3xf32>
  %b = "tosa.const"() {values = dense<0.0> : tensor<8xf32>} : () -> tensor<8xf32>
  %z = "tosa.const"() {values = dense<0.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %0 = tosa.conv2d %x, %w, %b, %z, %z {pad = array<i64: 1, 1, 1, 1>, stride = array<i64: 1, 1>,
      dilation = array<i64: 1, 1>, acc_type = f32, ic.kernel = 3 : i64}
      : (tensor<1x4x4x3xf32>, tensor<8x3x3x3xf32>, tensor<8xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x4x4x8xf32>
  return %0 : tensor<1x4x4x8xf32>
}"""


def test_zero_points_are_attributes_and_tensors_are_inputs():
    (node,) = graph(CONV).nodes
    assert [value.shape for value in node.inputs] == [(1, 4, 4, 3), (8, 3, 3, 3), (8,)]
    assert node.attributes == {
        "pad": (1, 1, 1, 1), "stride": (1, 1), "dilation": (1, 1), "acc_type": "f32", "input_zp": 0.0, "weight_zp": 0.0,
    }  # fmt: skip


def test_multiply_adds_of_a_convolution():
    assert multiply_adds(graph(CONV).nodes[0]) == 4 * 4 * 8 * 3 * 3 * 3


def test_movement_of_a_constant_is_folded():
    found = graph("""
      func.func @main(%x: tensor<3x2xi32>) -> tensor<3x2xi32> {
        %c = "tosa.const"() {values = dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi32>} : () -> tensor<2x3xi32>
        %t = tosa.transpose %c {perms = array<i32: 1, 0>} : (tensor<2x3xi32>) -> tensor<3x2xi32>
        %0 = tosa.add %x, %t : (tensor<3x2xi32>, tensor<3x2xi32>) -> tensor<3x2xi32>
        return %0 : tensor<3x2xi32>
      }""")
    assert [node.op for node in found.nodes] == ["add"]
    np.testing.assert_array_equal(found.nodes[0].inputs[1].array, [[1, 4], [2, 5], [3, 6]])


def test_segment_calls_are_inlined_in_order():
    found = graph("""
      func.func private @segment_0(%x: tensor<2xf32>) -> tensor<2xf32> {
        %0 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32>
        return %0 : tensor<2xf32>
      }
      func.func private @segment_1(%x: tensor<2xf32>) -> tensor<2xf32> {
        %0 = tosa.exp %x : (tensor<2xf32>) -> tensor<2xf32>
        return %0 : tensor<2xf32>
      }
      func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
        %0 = call @segment_0(%x) : (tensor<2xf32>) -> tensor<2xf32>
        %1 = call @segment_1(%0) : (tensor<2xf32>) -> tensor<2xf32>
        return %1 : tensor<2xf32>
      }""")
    assert [(node.op, node.segment) for node in found.nodes] == [("abs", 0), ("exp", 1)]
    assert found.segments == ["segment_0", "segment_1"]
    assert found.nodes[1].inputs[0] is found.nodes[0].output


def test_border_keeps_names_and_dtypes_or_gives_some():
    found = graph("""
      func.func @main(%x: tensor<2xi32> {ic.name = "ids", ic.dtype = "int64"}, %y: tensor<2xi1>)
          -> (tensor<2xi32>, tensor<2xi1>) {
        return %x, %y : tensor<2xi32>, tensor<2xi1>
      }""")
    assert [(b.name, b.dtype) for b in found.inputs] == [("ids", "int64"), ("input_1", "bool")]
    assert [(b.name, b.dtype) for b in found.outputs] == [("output_0", "int32"), ("output_1", "bool")]


def test_operand_that_must_be_a_constant_is_named():
    text = """
      func.func @main(%x: tensor<2xf32>, %z: tensor<1xf32>) -> tensor<2xf32> {
        %0 = tosa.negate %x, %z, %z : (tensor<2xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<2xf32>
        return %0 : tensor<2xf32>
      }"""
    with pytest.raises(TosaicError, match=r"operand 'input1_zp' of tosa\.negate"):
        graph(text)


def test_every_op_without_a_kernel_is_named_at_once():
    text = """
      func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
        %0 = "other.one"(%x) : (tensor<2xf32>) -> tensor<2xf32>
        %1 = "other.two"(%0) : (tensor<2xf32>) -> tensor<2xf32>
        return %1 : tensor<2xf32>
      }"""
    with pytest.raises(TosaicError, match=r"other\.one \(1, first .*\), other\.two \(1, first .*\)"):
        graph(text)


def test_dynamic_shape_is_refused():
    with pytest.raises(TosaicError, match="dynamic shape"):
        graph("func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> { return %x : tensor<?xf32> }")
