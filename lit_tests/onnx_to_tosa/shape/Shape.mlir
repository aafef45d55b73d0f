// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// The shape is known, the operand is not read.
// CHECK-LABEL: @main
// CHECK:       "tosa.const"() <{values = dense<[3, 4]> : tensor<2xi32>}>
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main(%x: tensor<2x3x4xf32>) -> tensor<2xi64> {
    %y = "onnx.Shape"(%x) {start = 1 : si64} : (tensor<2x3x4xf32>) -> tensor<2xi64>
    return %y : tensor<2xi64>
  }
}
