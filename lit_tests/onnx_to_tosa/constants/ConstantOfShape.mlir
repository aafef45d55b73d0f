// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// One value, repeated.
// CHECK-LABEL: @main
// CHECK:       "tosa.const"() <{values = dense<2.500000e+00> : tensor<3x4xf32>}>
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main(%s: tensor<2xi64>) -> tensor<3x4xf32> {
    %y = "onnx.ConstantOfShape"(%s) {value = dense<2.5> : tensor<1xf32>} : (tensor<2xi64>) -> tensor<3x4xf32>
    return %y : tensor<3x4xf32>
  }
}
