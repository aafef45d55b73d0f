// RUN: tosaic-opt -p convert-onnx-to-tosa %s | filecheck %s

// The list becomes a constant.
// CHECK-LABEL: @main
// CHECK:       [[C:%[0-9]+]] = "tosa.const"() <{values = dense<[3, 4]> : tensor<2xi32>}>
// CHECK:       return [[C]] : tensor<2xi32>
module attributes {onnx.opset = {ai.onnx = 17 : si64}} {
  func.func @main() -> tensor<2xi64> {
    %y = "onnx.Constant"() {value_ints = [3 : si64, 4 : si64]} : () -> tensor<2xi64>
    return %y : tensor<2xi64>
  }
}
