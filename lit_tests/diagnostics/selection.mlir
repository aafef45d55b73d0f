// Indices, orders and choices: what is refused.
// RUN: tosaic-opt -p convert-onnx-to-tosa --split-input-file --verify-diagnostics %s

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<4x2xf32>) -> tensor<2x2xf32> {
    %c1 = "onnx.Constant"() {value = dense<[0, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
    // expected-error @below {{Gather node 'n': an index is outside of a dimension of size 4}}
    %r = "onnx.Gather"(%x0, %c1) {onnx_node_name = "n"} : (tensor<4x2xf32>, tensor<2xi64>) -> tensor<2x2xf32>
    return %r : tensor<2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x2xf32>) -> tensor<2x2xf32> {
    // expected-error @below {{axis 2 is outside of rank 2}}
    %r = "onnx.Softmax"(%x0) {axis = 2 : si64, onnx_node_name = "n"} : (tensor<2x2xf32>) -> tensor<2x2xf32>
    return %r : tensor<2x2xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x1048576xf32>) -> tensor<1x1048576xf32> {
    %c1 = "onnx.Constant"() {value = dense<1048576> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-error @below {{ordering 1048576 of 1048576 elements in 1 rows needs too many operations}}
    %r:2 = "onnx.TopK"(%x0, %c1) {onnx_node_name = "n"} : (tensor<1x1048576xf32>, tensor<1xi64>) -> (tensor<1x1048576xf32>, tensor<1x1048576xi64>)
    return %r#0 : tensor<1x1048576xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<4xf32>) -> tensor<1x5xi64> {
    // expected-error @below {{the model declares 5 results of 4 elements}}
    %r = "onnx.NonZero"(%x0) {onnx_node_name = "n"} : (tensor<4xf32>) -> tensor<1x5xi64>
    return %r : tensor<1x5xi64>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<4096x4096xf32>) -> tensor<2x4096xf32> {
    // expected-error @below {{the comparison of 4096 slices of 4096 elements needs too many operations}}
    %r:4 = "onnx.Unique"(%x0) {axis = 0 : si64, onnx_node_name = "n"} : (tensor<4096x4096xf32>) -> (tensor<2x4096xf32>, none, none, none)
    return %r#0 : tensor<2x4096xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<2x4xf32>, %x1: tensor<2x1xi64>, %x2: tensor<2x1xf32>) -> tensor<2x4xf32> {
    // expected-error @below {{the reduction 'mean' is not known}}
    %r = "onnx.ScatterElements"(%x0, %x1, %x2) {axis = 1 : si64, reduction = "mean", onnx_node_name = "n"} : (tensor<2x4xf32>, tensor<2x1xi64>, tensor<2x1xf32>) -> tensor<2x4xf32>
    return %r : tensor<2x4xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<1x65536xf32>, %x1: tensor<1x65536xi64>, %x2: tensor<1x65536xf32>) -> tensor<1x65536xf32> {
    // expected-error @below {{a scatter of 65536 rows into 65536 with reduction 'add' needs too much memory}}
    %r = "onnx.ScatterElements"(%x0, %x1, %x2) {axis = 1 : si64, reduction = "add", onnx_node_name = "n"} : (tensor<1x65536xf32>, tensor<1x65536xi64>, tensor<1x65536xf32>) -> tensor<1x65536xf32>
    return %r : tensor<1x65536xf32>
  }
}

// -----

module attributes {onnx.opset = {ai.onnx = 21 : si64}} {
  func.func @main(%x0: tensor<4xi32>) -> tensor<1xf32> {
    // expected-error @below {{mode 'BM25' is not known}}
    %r = "onnx.TfIdfVectorizer"(%x0) {max_gram_length = 1 : si64, max_skip_count = 0 : si64, min_gram_length = 1 : si64, mode = "BM25", ngram_counts = [0 : si64], ngram_indexes = [0 : si64], pool_int64s = [1 : si64], onnx_node_name = "n"} : (tensor<4xi32>) -> tensor<1xf32>
    return %r : tensor<1xf32>
  }
}
