// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// Inference drops nothing.
// CHECK-LABEL: @main
// CHECK:       [[M:%[0-9]+]] = "tosa.const"() <{values = dense<true> : tensor<2xi1>}>
// CHECK:       return %arg0, [[M]]
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main(%x: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xi1>) {
    %y, %m = "onnx.Dropout"(%x) : (tensor<2xf32>) -> (tensor<2xf32>, tensor<2xi1>)
    return %y, %m : tensor<2xf32>, tensor<2xi1>
  }
}
