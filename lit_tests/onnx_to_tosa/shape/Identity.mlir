// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// Nothing is emitted.
// CHECK-LABEL: @main
// CHECK:       return %arg0 : tensor<2xf32>
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
    %y = "onnx.Identity"(%x) : (tensor<2xf32>) -> tensor<2xf32>
    return %y : tensor<2xf32>
  }
}
