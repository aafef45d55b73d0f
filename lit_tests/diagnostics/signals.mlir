// Spectra and recurrent operators: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x4x3xf32>) -> tensor<1x4x2xf32> {
    // expected-error @below {{DFT node 'n': axis 1 of [1, 4, 3] holds no real or complex signal}}
    %r = "onnx.DFT"(%x0) {onnx_node_name = "n"} : (tensor<1x4x3xf32>) -> tensor<1x4x2xf32>
    return %r : tensor<1x4x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x8x1xf32>) -> tensor<1x3x3x2xf32> {
    %c1 = "onnx.Constant"() {value = dense<2> : tensor<i64>} : () -> tensor<i64>
    // expected-error @below {{it has neither a window nor a frame_length}}
    %r = "onnx.STFT"(%x0, %c1) {onnx_node_name = "n"} : (tensor<1x8x1xf32>, tensor<i64>) -> tensor<1x3x3x2xf32>
    return %r : tensor<1x3x3x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x1x3xf32>, %x1: tensor<1x16x3xf32>, %x2: tensor<1x16x4xf32>) -> tensor<2x1x1x4xf32> {
    // expected-error @below {{direction 'sideways' is not known}}
    %r = "onnx.LSTM"(%x0, %x1, %x2) {hidden_size = 4 : si64, direction = "sideways", onnx_node_name = "n"} : (tensor<2x1x3xf32>, tensor<1x16x3xf32>, tensor<1x16x4xf32>) -> tensor<2x1x1x4xf32>
    return %r : tensor<2x1x1x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x1x3xf32>, %x1: tensor<1x12x3xf32>, %x2: tensor<1x12x4xf32>) -> tensor<2x1x1x4xf32> {
    // expected-error @below {{the activation 'Swish' is not known}}
    %r = "onnx.GRU"(%x0, %x1, %x2) {hidden_size = 4 : si64, activations = ["Sigmoid", "Swish"], onnx_node_name = "n"} : (tensor<2x1x3xf32>, tensor<1x12x3xf32>, tensor<1x12x4xf32>) -> tensor<2x1x1x4xf32>
    return %r : tensor<2x1x1x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<2x1x3xf32>, %x1: tensor<1x3x16xui8>, %x2: tensor<1x4x16xui8>) -> tensor<2x1x1x4xf32> {
    // expected-error @below {{the scales and zero points of the weights are missing}}
    %r = "onnx.DynamicQuantizeLSTM"(%x0, %x1, %x2) {domain = "com.microsoft", hidden_size = 4 : si64, onnx_node_name = "n"} : (tensor<2x1x3xf32>, tensor<1x3x16xui8>, tensor<1x4x16xui8>) -> tensor<2x1x1x4xf32>
    return %r : tensor<2x1x1x4xf32>
  }
}
