// RUN: tosaic-opt -p fold-transposes --split-input-file %s | filecheck %s

// Between two transposes an elementwise op computes in the other layout.
// CHECK-LABEL: @inverse_pair
// CHECK-NEXT:    %[[Y:.*]] = tosa.abs %arg0
// CHECK-NEXT:    return %[[Y]]
func.func @inverse_pair(%x: tensor<1x4x5x3xf32>) -> tensor<1x4x5x3xf32> {
  %0 = tosa.transpose %x {perms = array<i32: 0, 3, 1, 2>} : (tensor<1x4x5x3xf32>) -> tensor<1x3x4x5xf32>
  %1 = tosa.abs %0 : (tensor<1x3x4x5xf32>) -> tensor<1x3x4x5xf32>
  %2 = tosa.transpose %1 {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x3x4x5xf32>) -> tensor<1x4x5x3xf32>
  return %2 : tensor<1x4x5x3xf32>
}

// -----

// A constant beside it is laid out anew.
// CHECK-LABEL: @constant
// CHECK-NEXT:    %[[C:.*]] = "tosa.const"() <{values = dense<{{\[\[\[\[}}1.000000e+00, 2.000000e+00, 3.000000e+00]]]]> : tensor<1x1x1x3xf32>}>
// CHECK-NEXT:    %[[Y:.*]] = tosa.add %arg0, %[[C]]
// CHECK-NEXT:    return %[[Y]]
func.func @constant(%x: tensor<1x4x5x3xf32>) -> tensor<1x4x5x3xf32> {
  %c = "tosa.const"() <{values = dense<[[[[1.0]], [[2.0]], [[3.0]]]]> : tensor<1x3x1x1xf32>}> : () -> tensor<1x3x1x1xf32>
  %0 = tosa.transpose %x {perms = array<i32: 0, 3, 1, 2>} : (tensor<1x4x5x3xf32>) -> tensor<1x3x4x5xf32>
  %1 = tosa.add %0, %c : (tensor<1x3x4x5xf32>, tensor<1x3x1x1xf32>) -> tensor<1x3x4x5xf32>
  %2 = tosa.transpose %1 {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x3x4x5xf32>) -> tensor<1x4x5x3xf32>
  return %2 : tensor<1x4x5x3xf32>
}

// -----

// Moving only dimensions of size 1 is a reshape.
// CHECK-LABEL: @unit_dims
// CHECK:         %[[Y:.*]] = tosa.reshape %arg0
// CHECK-NEXT:    return %[[Y]]
func.func @unit_dims(%x: tensor<1x1x4x5xf32>) -> tensor<1x4x5x1xf32> {
  %0 = tosa.transpose %x {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x1x4x5xf32>) -> tensor<1x4x5x1xf32>
  return %0 : tensor<1x4x5x1xf32>
}

// -----

// A transpose that somebody needs stays.
// CHECK-LABEL: @needed
// CHECK:         tosa.transpose
func.func @needed(%x: tensor<1x3x4x5xf32>) -> tensor<1x4x5x3xf32> {
  %0 = tosa.transpose %x {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x3x4x5xf32>) -> tensor<1x4x5x3xf32>
  return %0 : tensor<1x4x5x3xf32>
}
