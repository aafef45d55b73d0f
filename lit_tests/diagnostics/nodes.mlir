// What holds for every node: operands, results, attributes, opsets.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main() -> tensor<2xf32> {
    // expected-error @below {{Relu node 'n': it has 0 operands}}
    %r = "onnx.Relu"() {onnx_node_name = "n"} : () -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    %none1 = "onnx.NoValue"() : () -> none
    // expected-error @below {{Add node 'n': a required operand is missing}}
    %r = "onnx.Add"(%x0, %none1) {onnx_node_name = "n"} : (tensor<2xf32>, none) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{attribute 'slope' is not supported}}
    %r = "onnx.Relu"(%x0) {slope = 1 : si64, onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{result 1 is not supported}}
    %r:2 = "onnx.Relu"(%x0) {onnx_node_name = "n"} : (tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
    return %r#0 : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<3xf32> {
    // expected-error @below {{its lowering gives [2] float32, but ONNX says [3] float32}}
    %r = "onnx.Relu"(%x0) {onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<3xf32>
    return %r : tensor<3xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{a result of type tensor<2xcomplex<f32>> is no tensor of numbers with known shape}}
    %r:2 = "onnx.Relu"(%x0) {onnx_node_name = "n"} : (tensor<2xf32>) -> (tensor<2xf32>, tensor<2xcomplex<f32>>)
    return %r#0 : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<4x2xf32>, %x1: tensor<2xi64>) -> tensor<2x2xf32> {
    // expected-error @below {{its first result is missing}}
    %r:2 = "onnx.Gather"(%x0, %x1) {axis = 0 : si64, onnx_node_name = "n"} : (tensor<4x2xf32>, tensor<2xi64>) -> (none, tensor<2x2xf32>)
    return %r#1 : tensor<2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x0x0xf32>, %x1: tensor<1x4xf32>, %x2: tensor<1xi64>) -> tensor<1x1x1x1xf32> {
    // expected-error @below {{TOSA has no tensors without elements, and this one has shape [1, 0, 1]}}
    %r = "onnx.RoiAlign"(%x0, %x1, %x2) {sampling_ratio = 1 : si64, onnx_node_name = "n"} : (tensor<1x1x0x0xf32>, tensor<1x4xf32>, tensor<1xi64>) -> tensor<1x1x1x1xf32>
    return %r : tensor<1x1x1x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<1x2x4xf32>, %x1: tensor<1x2x4xf32>, %x2: tensor<4xf32>) -> tensor<1x2x4xf32> {
    // expected-error @below {{an optional result is not supported}}
    %r:2 = "onnx.SkipSimplifiedLayerNormalization"(%x0, %x1, %x2) {domain = "com.microsoft", onnx_node_name = "n"} : (tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<4xf32>) -> (tensor<1x2x4xf32>, tensor<1x2x1xf32>)
    return %r#0 : tensor<1x2x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x2x0xf32>) -> tensor<1x2x1xf32> {
    // expected-error @below {{an operand has no elements, and what it gives then is not defined}}
    %r = "onnx.GlobalMaxPool"(%x0) {onnx_node_name = "n"} : (tensor<1x2x0xf32>) -> tensor<1x2x1xf32>
    return %r : tensor<1x2x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 9 : si64}} {
  func.func @main(%x0: tensor<2xi32>, %x1: tensor<2xi32>) -> tensor<2xi32> {
    // expected-error @below {{opset 9 is too old (convert the model to opset 10 or newer)}}
    %r = "onnx.Mod"(%x0, %x1) {onnx_node_name = "n"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
    return %r : tensor<2xi32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{a random number would not be alike}}
    %r = "onnx.Bernoulli"(%x0) {onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module {
  // A module that comes from elsewhere may lack the opset.
  // expected-error @unknown {{the module does not say which ONNX opset it uses; add the module attribute onnx.opset}}
  func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
    %r = "onnx.Relu"(%x) : (tensor<2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{NoSuchOp node 'n': the operator has no lowering to TOSA}}
    %r = "onnx.NoSuchOp"(%x0) {onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64, com.microsoft = 1 : si64}} {
  func.func @main(%x0: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{NoSuchOp node 'n': the operator of domain 'com.microsoft' has no lowering to TOSA}}
    %r = "onnx.NoSuchOp"(%x0) {domain = "com.microsoft", onnx_node_name = "n"} : (tensor<2xf32>) -> tensor<2xf32>
    return %r : tensor<2xf32>
  }
}
