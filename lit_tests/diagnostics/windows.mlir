// Convolutions and pooling: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xi32>, %x1: tensor<1x1x3x3xi32>) -> tensor<1x1x2x2xi32> {
    // expected-error @below {{Conv node 'n': TOSA has no convolution of int32}}
    %r = "onnx.Conv"(%x0, %x1) {onnx_node_name = "n"} : (tensor<1x1x4x4xi32>, tensor<1x1x3x3xi32>) -> tensor<1x1x2x2xi32>
    return %r : tensor<1x1x2x2xi32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4x4x4xf32>, %x1: tensor<1x1x3x3x3x3xf32>) -> tensor<1x1x2x2x2x2xf32> {
    // expected-error @below {{TOSA has no convolution with 4 spatial axes}}
    %r = "onnx.Conv"(%x0, %x1) {onnx_node_name = "n"} : (tensor<1x1x4x4x4x4xf32>, tensor<1x1x3x3x3x3xf32>) -> tensor<1x1x2x2x2x2xf32>
    return %r : tensor<1x1x2x2x2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x3x4x4xf32>, %x1: tensor<1x2x3x3xf32>) -> tensor<1x1x2x2xf32> {
    // expected-error @below {{weights [1, 2, 3, 3] and 1 groups do not fit an input [1, 3, 4, 4]}}
    %r = "onnx.Conv"(%x0, %x1) {onnx_node_name = "n"} : (tensor<1x3x4x4xf32>, tensor<1x2x3x3xf32>) -> tensor<1x1x2x2xf32>
    return %r : tensor<1x1x2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<1x1x3x3xf32>) -> tensor<1x1x2x2xf32> {
    // expected-error @below {{a kernel of 1 axes does not fit an input with 2 spatial axes}}
    %r = "onnx.Conv"(%x0, %x1) {kernel_shape = [3 : si64], onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<1x1x3x3xf32>) -> tensor<1x1x2x2xf32>
    return %r : tensor<1x1x2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<1x1x3x3xf32>) -> tensor<1x1x2x2xf32> {
    // expected-error @below {{strides, dilations and pads do not fit 2 spatial axes}}
    %r = "onnx.Conv"(%x0, %x1) {strides = [1 : si64], onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<1x1x3x3xf32>) -> tensor<1x1x2x2xf32>
    return %r : tensor<1x1x2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<1x1x3x3xf32>) -> tensor<1x1x4x4xf32> {
    // expected-error @below {{auto_pad 'SAME' is not known}}
    %r = "onnx.Conv"(%x0, %x1) {auto_pad = "SAME", onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<1x1x3x3xf32>) -> tensor<1x1x4x4xf32>
    return %r : tensor<1x1x4x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x2x2xf32>, %x1: tensor<1x1x3x3xf32>) -> tensor<1x1x1x1xf32> {
    // expected-error @below {{the window is larger than its input}}
    %r = "onnx.Conv"(%x0, %x1) {onnx_node_name = "n"} : (tensor<1x1x2x2xf32>, tensor<1x1x3x3xf32>) -> tensor<1x1x1x1xf32>
    return %r : tensor<1x1x1x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<1x1x3x3xf32>) -> tensor<1x1x6x6xf32> {
    // expected-error @below {{output_padding and output_shape do not fit 2 spatial axes}}
    %r = "onnx.ConvTranspose"(%x0, %x1) {output_padding = [1 : si64], onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<1x1x3x3xf32>) -> tensor<1x1x6x6xf32>
    return %r : tensor<1x1x6x6xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>) -> tensor<1x1x1x3xf32> {
    // expected-error @below {{the window reads only padding}}
    %r = "onnx.MaxPool"(%x0) {kernel_shape = [2 : si64, 2 : si64], pads = [-4 : si64, 0 : si64, 2 : si64, 0 : si64], onnx_node_name = "n"} : (tensor<1x1x4x4xf32>) -> tensor<1x1x1x3xf32>
    return %r : tensor<1x1x1x3xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>) -> tensor<1x1x7x7xf32> {
    // expected-error @below {{a padding as large as the kernel leaves windows without elements}}
    %r = "onnx.AveragePool"(%x0) {kernel_shape = [2 : si64, 2 : si64], pads = [2 : si64, 2 : si64, 2 : si64, 2 : si64], onnx_node_name = "n"} : (tensor<1x1x4x4xf32>) -> tensor<1x1x7x7xf32>
    return %r : tensor<1x1x7x7xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>) -> tensor<1x1x1x1xf32> {
    // expected-error @below {{it has [2, 2] windows as onnxruntime counts them, [1, 1] as onnx does}}
    %r = "onnx.AveragePool"(%x0) {kernel_shape = [2 : si64, 2 : si64], ceil_mode = 1 : si64, strides = [3 : si64, 3 : si64], onnx_node_name = "n"} : (tensor<1x1x4x4xf32>) -> tensor<1x1x1x1xf32>
    return %r : tensor<1x1x1x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x2x2x2x2xf32>) -> tensor<1x1x1x1x1x1xf32> {
    // expected-error @below {{pooling with 4 spatial axes is not supported}}
    %r = "onnx.AveragePool"(%x0) {kernel_shape = [2 : si64, 2 : si64, 2 : si64, 2 : si64], onnx_node_name = "n"} : (tensor<1x1x2x2x2x2xf32>) -> tensor<1x1x1x1x1x1xf32>
    return %r : tensor<1x1x1x1x1x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x9000x1xf32>) -> tensor<1x1x1x1xf32> {
    // expected-error @below {{a kernel or padding of 9000 is above TOSA's level 8k (8192)}}
    %r = "onnx.MaxPool"(%x0) {kernel_shape = [9000 : si64, 1 : si64], onnx_node_name = "n"} : (tensor<1x1x9000x1xf32>) -> tensor<1x1x1x1xf32>
    return %r : tensor<1x1x1x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x9002x1xf32>) -> tensor<1x1x2x1xf32> {
    // expected-error @below {{a stride of 9000 is above TOSA's level 8k (8192)}}
    %r = "onnx.MaxPool"(%x0) {kernel_shape = [2 : si64, 1 : si64], strides = [9000 : si64, 1 : si64], onnx_node_name = "n"} : (tensor<1x1x9002x1xf32>) -> tensor<1x1x2x1xf32>
    return %r : tensor<1x1x2x1xf32>
  }
}
