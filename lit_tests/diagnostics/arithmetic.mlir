// Elementwise operators and casts: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>, %x1: tensor<2xi32>) -> tensor<2xf32> {
    // expected-error @below {{Add node 'n': operands of different types: float32, int32}}
    %r = "onnx.Add"(%x0, %x1) {onnx_node_name = "n"} : (tensor<2xf32>, tensor<2xi32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>, %x1: tensor<3xf32>) -> tensor<2xf32> {
    // expected-error @below {{shapes [2], [3] do not broadcast}}
    %r = "onnx.Add"(%x0, %x1) {onnx_node_name = "n"} : (tensor<2xf32>, tensor<3xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 26 : si64}} {
  func.func @main(%x0: tensor<2xf16>) -> tensor<2xi16> {
    // expected-error @below {{TOSA does not show the bits of float16 as int16}}
    %r = "onnx.BitCast"(%x0) {to = 3 : si64, onnx_node_name = "n"} : (tensor<2xf16>) -> tensor<2xi16>
    return %r : tensor<2xi16>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 26 : si64}} {
  func.func @main(%x0: tensor<2xi64>) -> tensor<2xf64> {
    // expected-error @below {{TOSA 1.0 holds float64 in 32 bits}}
    %r = "onnx.BitCast"(%x0) {to = 11 : si64, onnx_node_name = "n"} : (tensor<2xi64>) -> tensor<2xf64>
    return %r : tensor<2xf64>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main() -> tensor<2xi32> {
    %c0 = "onnx.Constant"() {value = dense<[6, 7]> : tensor<2xi32>} : () -> tensor<2xi32>
    %c1 = "onnx.Constant"() {value = dense<[2, 3]> : tensor<2xi32>} : () -> tensor<2xi32>
    // expected-error @below {{the division of two constants is not folded}}
    %r = "onnx.Div"(%c0, %c1) {onnx_node_name = "n"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
    return %r : tensor<2xi32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 25 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf8E8M0FNU> {
    // expected-error @below {{the rounding mode 'sideways' is not known}}
    %r = "onnx.Cast"(%x0) {to = 24 : si64, saturate = 1 : si64, round_mode = "sideways", onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<2xf8E8M0FNU>
    return %r : tensor<2xf8E8M0FNU>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 25 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf8E8M0FNU> {
    // expected-error @below {{float8_e8m0 is rounded with saturation only}}
    %r = "onnx.Cast"(%x0) {to = 24 : si64, saturate = 0 : si64, onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<2xf8E8M0FNU>
    return %r : tensor<2xf8E8M0FNU>
  }
}
