// Resizing and sampling: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x2x2xf32>) -> tensor<1x1x4x4xf32> {
    // expected-error @below {{Resize node 'n': it has neither scales nor sizes}}
    %r = "onnx.Resize"(%x0) {onnx_node_name = "n"} : (tensor<1x1x2x2xf32>) -> tensor<1x1x4x4xf32>
    return %r : tensor<1x1x4x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x2x2xf32>) -> tensor<1x1x4x4xf32> {
    %none1 = "onnx.NoValue"() : () -> none
    %c2 = "onnx.Constant"() {value = dense<[1.0, 1.0, 2.0, 2.0]> : tensor<4xf32>} : () -> tensor<4xf32>
    // expected-error @below {{tf_crop_and_resize needs a region of interest}}
    %r = "onnx.Resize"(%x0, %none1, %c2) {coordinate_transformation_mode = "tf_crop_and_resize", mode = "linear", onnx_node_name = "n"} : (tensor<1x1x2x2xf32>, none, tensor<4xf32>) -> tensor<1x1x4x4xf32>
    return %r : tensor<1x1x4x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<2x4xf32>, %x2: tensor<2xi64>) -> tensor<2x1x1x1xf32> {
    // expected-error @below {{mode 'median' is not known}}
    %r = "onnx.RoiAlign"(%x0, %x1, %x2) {mode = "median", sampling_ratio = 1 : si64, onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<2x4xf32>, tensor<2xi64>) -> tensor<2x1x1x1xf32>
    return %r : tensor<2x1x1x1xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<1x1x2x2xf32>, %x2: tensor<1x8x3x2xf32>) -> tensor<1x1x3x3xf32> {
    // expected-error @below {{an operand of shape [1, 8, 3, 2] does not fit the shape [1, 4, 2, 9]}}
    %r = "onnx.DeformConv"(%x0, %x1, %x2) {onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<1x1x2x2xf32>, tensor<1x8x3x2xf32>) -> tensor<1x1x3x3xf32>
    return %r : tensor<1x1x3x3xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1x4x4xf32>, %x1: tensor<1x2x2x2xf32>) -> tensor<1x1x2x2xf32> {
    // expected-error @below {{mode 'linear' with padding 'mirror' is not known}}
    %r = "onnx.GridSample"(%x0, %x1) {padding_mode = "mirror", onnx_node_name = "n"} : (tensor<1x1x4x4xf32>, tensor<1x2x2x2xf32>) -> tensor<1x1x2x2xf32>
    return %r : tensor<1x1x2x2xf32>
  }
}
