// RUN: tosaic-opt -p adopt-tosa --split-input-file %s | filecheck %s

// Constants and reshapes of other dialects.
// CHECK-LABEL: @reshapes
// CHECK:         %[[TWO:.*]] = "tosa.const"() <{values = dense<2.{{0*}}e+00> : tensor<2x2x3xf32>}>
// CHECK:         %[[SHAPE:.*]] = tosa.const_shape {values = dense<[2, 2, 3]> : tensor<3xindex>}
// CHECK-NEXT:    %[[APART:.*]] = tosa.reshape %arg0, %[[SHAPE]]
// CHECK-NEXT:    %[[SUM:.*]] = tosa.add %[[APART]], %[[TWO]]
// CHECK:         %[[FLAT:.*]] = tosa.reshape %[[SUM]], {{.*}} -> tensor<12xf32>
// CHECK:         return %[[FLAT]]
func.func @reshapes(%x: tensor<4x3xf32>) -> tensor<12xf32> {
  %two = arith.constant dense<2.0> : tensor<2x2x3xf32>
  %0 = tensor.expand_shape %x [[0, 1], [2]] output_shape [2, 2, 3] : tensor<4x3xf32> into tensor<2x2x3xf32>
  %1 = tosa.add %0, %two : (tensor<2x2x3xf32>, tensor<2x2x3xf32>) -> tensor<2x2x3xf32>
  %2 = tensor.collapse_shape %1 [[0, 1, 2]] : tensor<2x2x3xf32> into tensor<12xf32>
  return %2 : tensor<12xf32>
}

// -----

// A quantised type is its storage.
// CHECK-LABEL: @quantised(
// CHECK-SAME:    %arg0: tensor<4xi8>) -> tensor<4xi8>
// CHECK:         tosa.clamp %arg0 {{.*}} (tensor<4xi8>) -> tensor<4xi8>
func.func @quantised(%x: tensor<4x!quant.uniform<i8:f32, 0.5:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.5:-3>> {
  %0 = tosa.clamp %x {min_val = -3 : i8, max_val = 127 : i8} : (tensor<4x!quant.uniform<i8:f32, 0.5:-3>>) -> tensor<4x!quant.uniform<i8:f32, 0.5:-3>>
  return %0 : tensor<4x!quant.uniform<i8:f32, 0.5:-3>>
}

// -----

// Calls are inlined; what nobody calls goes.
// CHECK-NOT:     @layer
// CHECK-NOT:     @other
// CHECK-LABEL: @main
// CHECK-NEXT:    %[[ONCE:.*]] = tosa.exp %arg0
// CHECK-NEXT:    %[[TWICE:.*]] = tosa.exp %[[ONCE]]
// CHECK-NEXT:    return %[[TWICE]]
// CHECK-NOT:     @other
func.func private @layer(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = tosa.exp %x : (tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
func.func @main(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = call @layer(%x) : (tensor<8xf32>) -> tensor<8xf32>
  %1 = call @layer(%0) : (tensor<8xf32>) -> tensor<8xf32>
  return %1 : tensor<8xf32>
}
func.func @other(%x: tensor<8xf32>) -> tensor<8xf32> {
  return %x : tensor<8xf32>
}

// -----

// What a reshape leaves open is known, and a cast that forgets it goes, with the open type of the result.
// CHECK-LABEL: @open
// CHECK-SAME:    -> tensor<6x2xf32>
// CHECK:         %[[SHAPE:.*]] = tosa.const_shape {values = dense<[6, 2]> : tensor<2xindex>}
// CHECK-NEXT:    %[[PAIRS:.*]] = tosa.reshape %arg0, %[[SHAPE]]
// CHECK-NEXT:    return %[[PAIRS]]
func.func @open(%x: tensor<4x3xf32>) -> tensor<?x?xf32> {
  %shape = tosa.const_shape {values = dense<[-1, 2]> : tensor<2xindex>} : () -> !tosa.shape<2>
  %0 = tosa.reshape %x, %shape : (tensor<4x3xf32>, !tosa.shape<2>) -> tensor<6x2xf32>
  %1 = tensor.cast %0 : tensor<6x2xf32> to tensor<?x?xf32>
  return %1 : tensor<?x?xf32>
}
