// RUN: tosaic-opt -p convert-fft-to-matmul --split-input-file %s | filecheck %s

// Rows of real numbers first, half of the spectrum; then columns of complex ones.
// CHECK-LABEL: @real
// CHECK:         %[[ROWS:.*]] = tosa.matmul {{.*}} (tensor<1x4x8xf32>, tensor<1x8x10xf32>, {{.*}} -> tensor<1x4x10xf32>
// CHECK:         tosa.transpose {{.*}} {perms = array<i32: 0, 3, 2, 1>} : (tensor<1x4x2x5xf32>) -> tensor<1x5x2x4xf32>
// CHECK:         %[[COLUMNS:.*]] = tosa.matmul {{.*}} (tensor<1x5x8xf32>, tensor<1x8x8xf32>, {{.*}} -> tensor<1x5x8xf32>
// CHECK:         tosa.transpose {{.*}} {perms = array<i32: 2, 0, 3, 1>} : (tensor<1x5x2x4xf32>) -> tensor<2x1x4x5xf32>
// CHECK-NOT:     tosa.rfft2d
func.func @real(%x: tensor<1x4x8xf32>) -> (tensor<1x4x5xf32>, tensor<1x4x5xf32>) {
  %0, %1 = tosa.rfft2d %x : (tensor<1x4x8xf32>) -> (tensor<1x4x5xf32>, tensor<1x4x5xf32>)
  return %0, %1 : tensor<1x4x5xf32>, tensor<1x4x5xf32>
}

// -----

// A dimension of one number is its own transform. Sines at quarter turns are exact: the inverse has them negated.
// CHECK-LABEL: @inverse
// CHECK:         %[[WAVES:.*]] = "tosa.const"() <{values = dense<{{\[\[}}[1.{{0*}}e+00, 1.{{0*}}e+00, {{-?}}0.{{0*}}e+00, {{-?}}0.{{0*}}e+00]
// CHECK:         tosa.matmul %{{.*}}, %[[WAVES]]
// CHECK-NOT:     tosa.matmul
// CHECK-NOT:     tosa.fft2d
func.func @inverse(%x: tensor<1x1x2xf32>, %y: tensor<1x1x2xf32>) -> (tensor<1x1x2xf32>, tensor<1x1x2xf32>) {
  %0, %1 = tosa.fft2d %x, %y {inverse = true} : (tensor<1x1x2xf32>, tensor<1x1x2xf32>) -> (tensor<1x1x2xf32>, tensor<1x1x2xf32>)
  return %0, %1 : tensor<1x1x2xf32>, tensor<1x1x2xf32>
}
