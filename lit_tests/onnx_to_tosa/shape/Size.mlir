// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// The size is known, the operand is not read.
// CHECK-LABEL: @main
// CHECK:       "tosa.const"() <{values = dense<24> : tensor<i32>}>
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main(%x: tensor<2x3x4xf32>) -> tensor<i64> {
    %y = "onnx.Size"(%x) : (tensor<2x3x4xf32>) -> tensor<i64>
    return %y : tensor<i64>
  }
}
