// RUN: tosaic-opt -p fold-transposes --split-input-file %s | filecheck %s

// Ops that name axes follow the layout.
// CHECK-LABEL: @reduce_and_concat
// CHECK-NEXT:    %[[R:.*]] = tosa.reduce_sum %arg0 {axis = 3 : i32} : (tensor<1x4x5x3xf32>) -> tensor<1x4x5x1xf32>
// CHECK-NEXT:    %[[Y:.*]] = tosa.concat %[[R]], %arg0 {axis = 3 : i32} : {{.*}} -> tensor<1x4x5x4xf32>
// CHECK-NEXT:    return %[[Y]]
func.func @reduce_and_concat(%x: tensor<1x4x5x3xf32>) -> tensor<1x4x5x4xf32> {
  %0 = tosa.transpose %x {perms = array<i32: 0, 3, 1, 2>} : (tensor<1x4x5x3xf32>) -> tensor<1x3x4x5xf32>
  %1 = tosa.reduce_sum %0 {axis = 1 : i32} : (tensor<1x3x4x5xf32>) -> tensor<1x1x4x5xf32>
  %2 = tosa.concat %1, %0 {axis = 1 : i32} : (tensor<1x1x4x5xf32>, tensor<1x3x4x5xf32>) -> tensor<1x4x4x5xf32>
  %3 = tosa.transpose %2 {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x4x4x5xf32>) -> tensor<1x4x5x4xf32>
  return %3 : tensor<1x4x5x4xf32>
}

// -----

// So do the operands of a pad.
// CHECK-LABEL: @pad
// CHECK:         %[[P:.*]] = tosa.const_shape {values = dense<[0, 0, 3, 4, 5, 6, 1, 2]>
// CHECK-NEXT:    %[[Y:.*]] = tosa.pad %arg0, %[[P]]
// CHECK-NEXT:    return %[[Y]]
func.func @pad(%x: tensor<1x4x5x3xf32>) -> tensor<1x11x16x6xf32> {
  %v = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>
  %p = tosa.const_shape {values = dense<[0, 0, 1, 2, 3, 4, 5, 6]> : tensor<8xindex>} : () -> !tosa.shape<8>
  %0 = tosa.transpose %x {perms = array<i32: 0, 3, 1, 2>} : (tensor<1x4x5x3xf32>) -> tensor<1x3x4x5xf32>
  %1 = tosa.pad %0, %p, %v : (tensor<1x3x4x5xf32>, !tosa.shape<8>, tensor<1xf32>) -> tensor<1x6x11x16xf32>
  %2 = tosa.transpose %1 {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x6x11x16xf32>) -> tensor<1x11x16x6xf32>
  return %2 : tensor<1x11x16x6xf32>
}
