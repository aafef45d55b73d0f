// Products and sums of them: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<f32>, %x1: tensor<2x2xf32>) -> tensor<2xf32> {
    // expected-error @below {{MatMul node 'n': a scalar has no matrix product}}
    %r = "onnx.MatMul"(%x0, %x1) {onnx_node_name = "n"} : (tensor<f32>, tensor<2x2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x3xf32>, %x1: tensor<2x3xf32>) -> tensor<2x3xf32> {
    // expected-error @below {{matrices [2, 3] and [2, 3] do not fit}}
    %r = "onnx.MatMul"(%x0, %x1) {onnx_node_name = "n"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    return %r : tensor<2x3xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x3xf32>, %x1: tensor<3x2xf16>) -> tensor<2x2xf32> {
    // expected-error @below {{operands of different types: float32, float16}}
    %r = "onnx.MatMul"(%x0, %x1) {onnx_node_name = "n"} : (tensor<2x3xf32>, tensor<3x2xf16>) -> tensor<2x2xf32>
    return %r : tensor<2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x2x3xf32>, %x1: tensor<4x3x2xf32>) -> tensor<2x2x2xf32> {
    // expected-error @below {{the batches of [2, 2, 3] and [4, 3, 2] do not broadcast}}
    %r = "onnx.MatMul"(%x0, %x1) {onnx_node_name = "n"} : (tensor<2x2x3xf32>, tensor<4x3x2xf32>) -> tensor<2x2x2xf32>
    return %r : tensor<2x2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x3xi32>, %x1: tensor<3x2xi32>) -> tensor<2x2xi32> {
    // expected-error @below {{the factor 0.5 of int32 numbers is no integer}}
    %r = "onnx.Gemm"(%x0, %x1) {alpha = 5.000000e-01 : f32, onnx_node_name = "n"} : (tensor<2x3xi32>, tensor<3x2xi32>) -> tensor<2x2xi32>
    return %r : tensor<2x2xi32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x3xf32>, %x1: tensor<3x2xf32>) -> tensor<3x2xf32> {
    // expected-error @below {{the equation 'ij->ji' has 1 terms for 2 operands}}
    %r = "onnx.Einsum"(%x0, %x1) {equation = "ij->ji", onnx_node_name = "n"} : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
    return %r : tensor<3x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x3xf32>) -> tensor<3x2xf32> {
    // expected-error @below {{the equation 'ijk->kji' does not fit the ranks of the operands}}
    %r = "onnx.Einsum"(%x0) {equation = "ijk->kji", onnx_node_name = "n"} : (tensor<2x3xf32>) -> tensor<3x2xf32>
    return %r : tensor<3x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<3xf32>, %x1: tensor<3x2xf32>) -> tensor<2xf32> {
    // expected-error @below {{vectors and transposed batches are not supported}}
    %r = "onnx.FusedMatMul"(%x0, %x1) {domain = "com.microsoft", onnx_node_name = "n"} : (tensor<3xf32>, tensor<3x2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x32xf32>, %x4: tensor<32xi32>) -> tensor<1x4xf32> {
    %c1 = "onnx.Constant"() {value = dense<0> : tensor<4x1x16xui8>} : () -> tensor<4x1x16xui8>
    %c2 = "onnx.Constant"() {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
    %none3 = "onnx.NoValue"() : () -> none
    // expected-error @below {{group indices are not supported (quantise without act-order)}}
    %r = "onnx.MatMulNBits"(%x0, %c1, %c2, %none3, %x4) {domain = "com.microsoft", K = 32 : si64, N = 4 : si64, block_size = 32 : si64, onnx_node_name = "n"} : (tensor<1x32xf32>, tensor<4x1x16xui8>, tensor<4xf32>, none, tensor<32xi32>) -> tensor<1x4xf32>
    return %r : tensor<1x4xf32>
  }
}
