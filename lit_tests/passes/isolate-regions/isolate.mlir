// RUN: tosaic-opt -p isolate-regions --split-input-file %s | filecheck %s

// A value comes in as an argument of both branches, a constant is repeated where it is read.
// CHECK-LABEL: @branches
// CHECK:         tosa.cond_if %arg0 (%[[A:.*]] = %arg1) : tensor<i1> (tensor<2xf32>) -> tensor<2xf32> {
// CHECK-NEXT:    ^bb0
// CHECK-NEXT:      %[[ONE:.*]] = "tosa.const"
// CHECK-NEXT:      tosa.add %[[A]], %[[ONE]]
// CHECK:         } else {
// CHECK-NEXT:    ^bb0
// CHECK-NEXT:      tosa.yield %[[A]]
func.func @branches(%c: tensor<i1>, %x: tensor<2xf32>) -> tensor<2xf32> {
  %one = "tosa.const"() <{values = dense<1.0> : tensor<1xf32>}> : () -> tensor<1xf32>
  %0 = tosa.cond_if %c : tensor<i1> -> tensor<2xf32> {
    %1 = tosa.add %x, %one : (tensor<2xf32>, tensor<1xf32>) -> tensor<2xf32>
    tosa.yield %1 : tensor<2xf32>
  } else {
    tosa.yield %x : tensor<2xf32>
  }
  return %0 : tensor<2xf32>
}

// -----

// A loop hands on what it only reads. The argument's second result is nobody's.
// CHECK-LABEL: @loop
// CHECK:         %[[L:.*]]:2 = tosa.while_loop (%[[S:.*]] = %arg0, %[[X:.*]] = %arg1)
// CHECK:           tosa.greater %[[X]], %[[S]]
// CHECK:         } do {
// CHECK-NEXT:    ^bb0(%[[S2:.*]]: tensor<f32>, %[[X2:.*]]: tensor<f32>):
// CHECK-NEXT:      %[[T:.*]] = tosa.add %[[S2]], %[[X2]]
// CHECK-NEXT:      tosa.yield %[[T]], %[[X2]]
// CHECK:         return %[[L]]#0
func.func @loop(%s: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = tosa.while_loop (%a = %s) : (tensor<f32>) -> tensor<f32> {
    %1 = tosa.greater %x, %a : (tensor<f32>, tensor<f32>) -> tensor<i1>
    tosa.yield %1 : tensor<i1>
  } do {
  ^bb0(%a: tensor<f32>):
    %1 = tosa.add %a, %x : (tensor<f32>, tensor<f32>) -> tensor<f32>
    tosa.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// -----

// What a branch inside a branch reads goes through both.
// CHECK-LABEL: @nested
// CHECK:         tosa.cond_if %arg0 (%[[C:.*]] = %arg0, %[[X:.*]] = %arg1)
// CHECK:           tosa.cond_if %[[C]] (%[[Y:.*]] = %[[X]])
// CHECK:             tosa.negate %[[Y]]
func.func @nested(%c: tensor<i1>, %x: tensor<2xf32>) -> tensor<2xf32> {
  %zero = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>
  %0 = tosa.cond_if %c : tensor<i1> -> tensor<2xf32> {
    %1 = tosa.cond_if %c : tensor<i1> -> tensor<2xf32> {
      %2 = tosa.negate %x, %zero, %zero : (tensor<2xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<2xf32>
      tosa.yield %2 : tensor<2xf32>
    } else {
      tosa.yield %x : tensor<2xf32>
    }
    tosa.yield %1 : tensor<2xf32>
  } else {
    tosa.yield %x : tensor<2xf32>
  }
  return %0 : tensor<2xf32>
}
