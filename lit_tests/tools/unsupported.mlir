// Every node that cannot be lowered is reported at once, each at its own line.
// RUN: tosaic-opt -p convert-onnx-to-tosa --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
    // expected-error @below {{NoSuchOp node '/a': }}
    %0 = "onnx.NoSuchOp"(%x) {onnx_node_name = "/a"} : (tensor<2xf32>) -> tensor<2xf32>
    %1 = "onnx.Relu"(%0) : (tensor<2xf32>) -> tensor<2xf32>
    // expected-error @below {{NorThisOne node '/b': }}
    %2 = "onnx.NorThisOne"(%1) {onnx_node_name = "/b"} : (tensor<2xf32>) -> tensor<2xf32>
    return %2 : tensor<2xf32>
  }
}
