// RUN: tosaic-opt -p convert-uint8-to-int8 --split-input-file %s | filecheck %s

// What only quantised operators see, moved or not, changes its sign together with its zero points.
// CHECK-LABEL: @main
// CHECK:       "onnx.QuantizeLinear"(%arg0, %{{[^,]*}}, %[[A:[^,)]*]]) : {{.*}} -> tensor<2x3xi8>
// CHECK:       "onnx.Transpose"{{.*}} -> tensor<3x2xi8>
// CHECK:       "onnx.DequantizeLinear"(%{{.*}}) : (tensor<3x2xi8>, tensor<f32>, tensor<i8>) -> tensor<3x2xf32>
func.func @main(%x: tensor<2x3xf32>) -> tensor<3x2xf32> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<100> : tensor<ui8>} : () -> tensor<ui8>
  %q = "onnx.QuantizeLinear"(%x, %s, %z) : (tensor<2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<2x3xui8>
  %t = "onnx.Transpose"(%q) {perm = [1 : si64, 0 : si64]} : (tensor<2x3xui8>) -> tensor<3x2xui8>
  %y = "onnx.DequantizeLinear"(%t, %s, %z) : (tensor<3x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<3x2xf32>
  return %y : tensor<3x2xf32>
}

// -----

// A result of the model keeps its type, and with it what goes into it unchanged.
// CHECK-LABEL: @main
// CHECK:       "onnx.QuantizeLinear"{{.*}} -> tensor<2x3xui8>
// CHECK:       return {{.*}} : tensor<6xui8>
func.func @main(%x: tensor<2x3xf32>) -> tensor<6xui8> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<100> : tensor<ui8>} : () -> tensor<ui8>
  %q = "onnx.QuantizeLinear"(%x, %s, %z) : (tensor<2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<2x3xui8>
  %shape = "onnx.Constant"() {value = dense<6> : tensor<1xi64>} : () -> tensor<1xi64>
  %r = "onnx.Reshape"(%q, %shape) : (tensor<2x3xui8>, tensor<1xi64>) -> tensor<6xui8>
  return %r : tensor<6xui8>
}

// -----

// Readers inside of branches change along.
// CHECK-LABEL: @main
// CHECK:       "onnx.QuantizeLinear"{{.*}} -> tensor<3xi8>
// CHECK:       "onnx.If"
// CHECK:       "onnx.DequantizeLinear"{{.*}} : (tensor<3xi8>, tensor<f32>, tensor<i8>) -> tensor<3xf32>
func.func @main(%x: tensor<3xf32>, %c: tensor<i1>) -> tensor<3xf32> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<100> : tensor<ui8>} : () -> tensor<ui8>
  %q = "onnx.QuantizeLinear"(%x, %s, %z) : (tensor<3xf32>, tensor<f32>, tensor<ui8>) -> tensor<3xui8>
  %r = "onnx.If"(%c) ({
    %y = "onnx.DequantizeLinear"(%q, %s, %z) : (tensor<3xui8>, tensor<f32>, tensor<ui8>) -> tensor<3xf32>
    "onnx.Yield"(%y) : (tensor<3xf32>) -> ()
  }, {
    "onnx.Yield"(%x) : (tensor<3xf32>) -> ()
  }) : (tensor<i1>) -> tensor<3xf32>
  return %r : tensor<3xf32>
}
