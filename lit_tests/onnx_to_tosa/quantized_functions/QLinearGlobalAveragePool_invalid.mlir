// RUN: tosaic-opt -p convert-onnx-to-tosa --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x: tensor<1x3x3x2xi8>, %s: tensor<f32>, %z: tensor<i8>) -> tensor<1x1x1x2xi8> {
    // expected-error @below {{QLinearGlobalAveragePool node 'pool': channels_last is not supported}}
    %y = "onnx.QLinearGlobalAveragePool"(%x, %s, %z, %s, %z) {onnx_node_name = "pool", domain = "com.microsoft", channels_last = 1 : si64} : (tensor<1x3x3x2xi8>, tensor<f32>, tensor<i8>, tensor<f32>, tensor<i8>) -> tensor<1x1x1x2xi8>
    return %y : tensor<1x1x1x2xi8>
  }
}
