// RUN: tosaic-opt -p "fold-batch-norms,tosa-validate" %s | filecheck %s

// The scales of a scalar are scalars.
// CHECK-LABEL: @main
// CHECK:       %[[C:.*]] = "tosa.const"() <{values = dense<6.000000e+00> : tensor<f32>}>
// CHECK:       tosa.mul %arg0, %[[C]]
func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %a = "tosa.const"() <{values = dense<2.0> : tensor<f32>}> : () -> tensor<f32>
  %b = "tosa.const"() <{values = dense<3.0> : tensor<f32>}> : () -> tensor<f32>
  %s = "tosa.const"() <{values = dense<0> : tensor<1xi8>}> : () -> tensor<1xi8>
  %0 = tosa.mul %x, %a, %s : (tensor<f32>, tensor<f32>, tensor<1xi8>) -> tensor<f32>
  %1 = tosa.mul %0, %b, %s : (tensor<f32>, tensor<f32>, tensor<1xi8>) -> tensor<f32>
  return %1 : tensor<f32>
}
