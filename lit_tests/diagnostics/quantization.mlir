// Quantised operators: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<f32>, %x1: tensor<ui8>, %x3: tensor<f32>, %x4: tensor<ui8>) -> tensor<2xui8> {
    %none2 = "onnx.NoValue"() : () -> none
    // expected-error @below {{QLinearConcat node 'n': operand 0 is missing}}
    %r = "onnx.QLinearConcat"(%x0, %x1, %none2, %x3, %x4) {domain = "com.microsoft", axis = 0 : si64, onnx_node_name = "n"} : (tensor<f32>, tensor<ui8>, none, tensor<f32>, tensor<ui8>) -> tensor<2xui8>
    return %r : tensor<2xui8>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x2x2x1xui8>, %x1: tensor<f32>, %x2: tensor<ui8>, %x3: tensor<f32>, %x4: tensor<ui8>) -> tensor<1x1x1x1xui8> {
    // expected-error @below {{channels_last is not supported}}
    %r = "onnx.QLinearGlobalAveragePool"(%x0, %x1, %x2, %x3, %x4) {domain = "com.microsoft", channels_last = 1 : si64, onnx_node_name = "n"} : (tensor<1x2x2x1xui8>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<1x1x1x1xui8>
    return %r : tensor<1x1x1x1xui8>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x1x2x2xui8>, %x1: tensor<f32>, %x2: tensor<ui8>, %x3: tensor<f32>, %x4: tensor<ui8>) -> tensor<1x1x1x1xui8> {
    // expected-error @below {{the zero point must be a constant; got a value that is computed at run time}}
    %r = "onnx.QLinearAveragePool"(%x0, %x1, %x2, %x3, %x4) {domain = "com.microsoft", kernel_shape = [2 : si64, 2 : si64], onnx_node_name = "n"} : (tensor<1x1x2x2xui8>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<1x1x1x1xui8>
    return %r : tensor<1x1x1x1xui8>
  }
}
