// Attention of onnxruntime's own operators: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x3x2x3x4xf32>, %x1: tensor<1x3x8xf32>, %x2: tensor<1x3x8xf32>) -> tensor<1x3x8xf32> {
    // expected-error @below {{MultiHeadAttention node 'n': packed queries, keys or values are not supported}}
    %r = "onnx.MultiHeadAttention"(%x0, %x1, %x2) {domain = "com.microsoft", num_heads = 2 : si64, onnx_node_name = "n"} : (tensor<1x3x2x3x4xf32>, tensor<1x3x8xf32>, tensor<1x3x8xf32>) -> tensor<1x3x8xf32>
    return %r : tensor<1x3x8xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x3x8xf32>, %x1: tensor<1x2x3x4xf32>, %x2: tensor<1x2x3x4xf32>, %x3: tensor<24xf32>) -> tensor<1x3x8xf32> {
    // expected-error @below {{a bias for keys and values that are split into heads is not supported}}
    %r = "onnx.MultiHeadAttention"(%x0, %x1, %x2, %x3) {domain = "com.microsoft", num_heads = 2 : si64, onnx_node_name = "n"} : (tensor<1x3x8xf32>, tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>, tensor<24xf32>) -> tensor<1x3x8xf32>
    return %r : tensor<1x3x8xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x3x8xf32>, %x1: tensor<1x3xi64>, %x2: tensor<9x4xf32>, %x3: tensor<9x4xf32>) -> tensor<1x3x8xf32> {
    // expected-error @below {{packed batches and a scale are not supported}}
    %r = "onnx.RotaryEmbedding"(%x0, %x1, %x2, %x3) {domain = "com.microsoft", scale = 5.000000e-01 : f32, onnx_node_name = "n"} : (tensor<1x3x8xf32>, tensor<1x3xi64>, tensor<9x4xf32>, tensor<9x4xf32>) -> tensor<1x3x8xf32>
    return %r : tensor<1x3x8xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x3x8xf32>, %x1: tensor<8x24xf32>, %x2: tensor<24xf32>, %x3: tensor<1x1x1x1xi32>) -> tensor<1x3x8xf32> {
    // expected-error @below {{a mask of shape [1, 1, 1, 1] is not supported}}
    %r = "onnx.Attention"(%x0, %x1, %x2, %x3) {domain = "com.microsoft", num_heads = 2 : si64, onnx_node_name = "n"} : (tensor<1x3x8xf32>, tensor<8x24xf32>, tensor<24xf32>, tensor<1x1x1x1xi32>) -> tensor<1x3x8xf32>
    return %r : tensor<1x3x8xf32>
  }
}
