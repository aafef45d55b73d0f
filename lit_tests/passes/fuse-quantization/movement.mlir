// RUN: tosaic-opt -p fuse-quantization --split-input-file %s | filecheck %s

// Integers are moved instead of floats, and are not quantised again where they did not change.
// CHECK-LABEL: @main
// CHECK-NOT:   Linear
// CHECK:       %[[T:.*]] = "onnx.Transpose"(%arg0) {perm = [1 : si64, 0 : si64]} : (tensor<2x3xi8>) -> tensor<3x2xi8>
// CHECK:       %[[R:.*]] = "onnx.Max"(%[[T]], %{{.*}}) : (tensor<3x2xi8>, tensor<i8>) -> tensor<3x2xi8>
// CHECK-NEXT:  return %[[R]]
func.func @main(%q: tensor<2x3xi8>) -> tensor<3x2xi8> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<5> : tensor<i8>} : () -> tensor<i8>
  %x = "onnx.DequantizeLinear"(%q, %s, %z) : (tensor<2x3xi8>, tensor<f32>, tensor<i8>) -> tensor<2x3xf32>
  %t = "onnx.Transpose"(%x) {perm = [1 : si64, 0 : si64]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %p = "onnx.Relu"(%t) : (tensor<3x2xf32>) -> tensor<3x2xf32>
  %r = "onnx.QuantizeLinear"(%p, %s, %z) : (tensor<3x2xf32>, tensor<f32>, tensor<i8>) -> tensor<3x2xi8>
  return %r : tensor<3x2xi8>
}

// -----

// A table of weights stays one of integers: only what is gathered is dequantized.
// CHECK-LABEL: @main
// CHECK:       %[[G:.*]] = "onnx.Gather"(%{{.*}}, %arg0) : (tensor<2x2xi8>, tensor<4xi64>) -> tensor<4x2xi8>
// CHECK:       "onnx.DequantizeLinear"(%[[G]], {{.*}} -> tensor<4x2xf32>
func.func @main(%i: tensor<4xi64>) -> tensor<4x2xf32> {
  %q = "onnx.Constant"() {value = dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %x = "onnx.DequantizeLinear"(%q, %s) : (tensor<2x2xi8>, tensor<f32>) -> tensor<2x2xf32>
  %r = "onnx.Gather"(%x, %i) : (tensor<2x2xf32>, tensor<4xi64>) -> tensor<4x2xf32>
  return %r : tensor<4x2xf32>
}

// -----

// Scales of channels do not move along.
// CHECK-LABEL: @main
// CHECK:       "onnx.DequantizeLinear"
// CHECK:       "onnx.Transpose"{{.*}} -> tensor<3x2xf32>
func.func @main(%q: tensor<2x3xi8>) -> tensor<3x2xf32> {
  %s = "onnx.Constant"() {value = dense<[0.5, 0.25]> : tensor<2xf32>} : () -> tensor<2xf32>
  %x = "onnx.DequantizeLinear"(%q, %s) {axis = 0 : si64} : (tensor<2x3xi8>, tensor<2xf32>) -> tensor<2x3xf32>
  %r = "onnx.Transpose"(%x) {perm = [1 : si64, 0 : si64]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %r : tensor<3x2xf32>
}
