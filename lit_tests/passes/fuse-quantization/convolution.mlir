// RUN: tosaic-opt -p fuse-quantization --split-input-file %s | filecheck %s

// A bias becomes i32, in units of the sums; Clip stays as far as the result's range does not clip already.
// CHECK-LABEL: @main
// CHECK-NOT:   DequantizeLinear
// CHECK:       %[[BIAS:.*]] = "onnx.Constant"() {value = dense<[10, -20]> : tensor<2xi32>}
// CHECK:       %[[Y:.*]] = "onnx.QLinearConv"(%arg0, %{{[^,]*}}, %{{[^,]*}}, %arg1, %{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}}, %[[BIAS]]) {onnx_node_name = "conv", pads = [1 : si64, 1 : si64, 1 : si64, 1 : si64]}
// CHECK:       %[[SIX:.*]] = "onnx.Constant"() {value = dense<-68> : tensor<i8>}
// CHECK:       %[[MIN:.*]] = "onnx.Min"(%[[Y]], %[[SIX]])
// CHECK-NEXT:  return %[[MIN]] : tensor<1x2x4x4xi8>
func.func @main(%q: tensor<1x1x4x4xi8>, %wq: tensor<2x1x3x3xi8>) -> tensor<1x2x4x4xi8> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %ws = "onnx.Constant"() {value = dense<0.25> : tensor<f32>} : () -> tensor<f32>
  %ys = "onnx.Constant"() {value = dense<0.1> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %yz = "onnx.Constant"() {value = dense<-128> : tensor<i8>} : () -> tensor<i8>
  %b = "onnx.Constant"() {value = dense<[1.25, -2.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %low = "onnx.Constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %high = "onnx.Constant"() {value = dense<6.0> : tensor<f32>} : () -> tensor<f32>
  %x = "onnx.DequantizeLinear"(%q, %s, %z) : (tensor<1x1x4x4xi8>, tensor<f32>, tensor<i8>) -> tensor<1x1x4x4xf32>
  %w = "onnx.DequantizeLinear"(%wq, %ws, %z) : (tensor<2x1x3x3xi8>, tensor<f32>, tensor<i8>) -> tensor<2x1x3x3xf32>
  %y = "onnx.Conv"(%x, %w, %b) {onnx_node_name = "conv", pads = [1 : si64, 1 : si64, 1 : si64, 1 : si64]} : (tensor<1x1x4x4xf32>, tensor<2x1x3x3xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  %c = "onnx.Clip"(%y, %low, %high) : (tensor<1x2x4x4xf32>, tensor<f32>, tensor<f32>) -> tensor<1x2x4x4xf32>
  %r = "onnx.QuantizeLinear"(%c, %ys, %yz) : (tensor<1x2x4x4xf32>, tensor<f32>, tensor<i8>) -> tensor<1x2x4x4xi8>
  return %r : tensor<1x2x4x4xi8>
}

// -----

// A result that is read as floats, too, is dequantized from the sums.
// CHECK-LABEL: @main
// CHECK:       %[[SUMS:.*]] = "onnx.ConvInteger"(%arg0, %arg1, {{.*}} -> tensor<1x2x4x4xi32>
// CHECK:       %[[SCALE:.*]] = "onnx.Constant"() {value = dense<2.500000e-01> : tensor<f32>}
// CHECK:       %[[Y:.*]] = "onnx.DequantizeLinear"(%[[SUMS]], %[[SCALE]])
// CHECK:       "onnx.QuantizeLinear"(%[[Y]],
func.func @main(%q: tensor<1x1x4x4xi8>, %wq: tensor<2x1x1x1xi8>) -> (tensor<1x2x4x4xi8>, tensor<1x2x4x4xf32>) {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %x = "onnx.DequantizeLinear"(%q, %s, %z) : (tensor<1x1x4x4xi8>, tensor<f32>, tensor<i8>) -> tensor<1x1x4x4xf32>
  %w = "onnx.DequantizeLinear"(%wq, %s, %z) : (tensor<2x1x1x1xi8>, tensor<f32>, tensor<i8>) -> tensor<2x1x1x1xf32>
  %y = "onnx.Conv"(%x, %w) : (tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>) -> tensor<1x2x4x4xf32>
  %r = "onnx.QuantizeLinear"(%y, %s, %z) : (tensor<1x2x4x4xf32>, tensor<f32>, tensor<i8>) -> tensor<1x2x4x4xi8>
  return %r, %y : tensor<1x2x4x4xi8>, tensor<1x2x4x4xf32>
}
