// Normalizations and embeddings: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 9 : si64}} {
  func.func @main(%x0: tensor<2x3xf32>, %x1: tensor<3xf32>, %x2: tensor<3xf32>, %x3: tensor<3xf32>, %x4: tensor<3xf32>) -> tensor<2x3xf32> {
    // expected-error @below {{BatchNormalization node 'n': training mode is not supported}}
    %r:3 = "onnx.BatchNormalization"(%x0, %x1, %x2, %x3, %x4) {onnx_node_name = "n"} : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>)
    return %r#0 : tensor<2x3xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x5x4xf32>, %x1: tensor<5xf32>, %x2: tensor<5xf32>) -> tensor<1x5x4xf32> {
    // expected-error @below {{5 channels do not split into 2 groups}}
    %r = "onnx.GroupNormalization"(%x0, %x1, %x2) {num_groups = 2 : si64, onnx_node_name = "n"} : (tensor<1x5x4xf32>, tensor<5xf32>, tensor<5xf32>) -> tensor<1x5x4xf32>
    return %r : tensor<1x5x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x2xi32>, %x2: tensor<9x4xf32>) -> tensor<1x2x4xf32> {
    %none1 = "onnx.NoValue"() : () -> none
    // expected-error @below {{EmbedLayerNormalization node 'n': a required operand is missing}}
    %r:2 = "onnx.EmbedLayerNormalization"(%x0, %none1, %x2) {domain = "com.microsoft", onnx_node_name = "n"} : (tensor<1x2xi32>, none, tensor<9x4xf32>) -> (tensor<1x2x4xf32>, tensor<1xi32>)
    return %r#0 : tensor<1x2x4xf32>
  }
}
