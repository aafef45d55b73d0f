// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// Ones on a diagonal.
// CHECK-LABEL: @main
// CHECK:       "tosa.const"() <{values = dense<{{.}}[0.000000e+00, 1.000000e+00], [0.000000e+00, 0.000000e+00]]> : tensor<2x2xf32>}>
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
    %y = "onnx.EyeLike"(%x) {k = 1 : si64} : (tensor<2x2xf32>) -> tensor<2x2xf32>
    return %y : tensor<2x2xf32>
  }
}
