// RUN: tosaic-opt -p convert-branches-to-selects --split-input-file %s | filecheck %s

// Both branches are computed; the condition gets the rank of what it chooses.
// CHECK-LABEL: @both
// CHECK:         %[[SUM:.*]] = tosa.add %arg1, %arg1
// CHECK-NEXT:    %[[DIFFERENCE:.*]] = tosa.sub %arg1, %arg1
// CHECK:         %[[ONES:.*]] = tosa.const_shape {values = dense<1> : tensor<2xindex>}
// CHECK-NEXT:    %[[C:.*]] = tosa.reshape %arg0, %[[ONES]] : (tensor<i1>, !tosa.shape<2>) -> tensor<1x1xi1>
// CHECK-NEXT:    %[[R:.*]] = tosa.select %[[C]], %[[SUM]], %[[DIFFERENCE]]
// CHECK-NOT:     tosa.cond_if
// CHECK:         return %[[R]]
func.func @both(%c: tensor<i1>, %x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = tosa.cond_if %c (%a = %x) : tensor<i1> (tensor<2x3xf32>) -> tensor<2x3xf32> {
  ^bb0(%a: tensor<2x3xf32>):
    %1 = tosa.add %a, %a : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    tosa.yield %1 : tensor<2x3xf32>
  } else {
  ^bb0(%b: tensor<2x3xf32>):
    %1 = tosa.sub %b, %b : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    tosa.yield %1 : tensor<2x3xf32>
  }
  return %0 : tensor<2x3xf32>
}

// -----

// A look-up may end the message, so it runs only where it is asked for.
// CHECK-LABEL: @look_up
// CHECK:         tosa.cond_if
// CHECK:           tosa.gather
func.func @look_up(%c: tensor<i1>, %x: tensor<1x4x3xf32>, %i: tensor<1x4xi32>) -> tensor<1x4x3xf32> {
  %0 = tosa.cond_if %c (%a = %x, %j = %i) : tensor<i1> (tensor<1x4x3xf32>, tensor<1x4xi32>) -> tensor<1x4x3xf32> {
  ^bb0(%a: tensor<1x4x3xf32>, %j: tensor<1x4xi32>):
    %1 = tosa.gather %a, %j : (tensor<1x4x3xf32>, tensor<1x4xi32>) -> tensor<1x4x3xf32>
    tosa.yield %1 : tensor<1x4x3xf32>
  } else {
  ^bb0(%b: tensor<1x4x3xf32>, %k: tensor<1x4xi32>):
    tosa.yield %b : tensor<1x4x3xf32>
  }
  return %0 : tensor<1x4x3xf32>
}
