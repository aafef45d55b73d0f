// RUN: tosaic-opt -p "tile-operators{limit-instructions=1900000}" %s | filecheck %s

// The second stage goes on with what the first gave; the shorter arm is done by then and hands its result on.
// CHECK:       [[FIRST:%.+]] = tosa.cond_if [[C:%[a-z0-9]+]] (
// CHECK:       tosa.matmul
// CHECK-NOT:   tosa.matmul
// CHECK:       } else {
// CHECK:       tosa.abs
// CHECK:       tosa.cond_if [[C]] ([[B:%[a-z0-9]+]] = [[FIRST]]
// CHECK:       tosa.matmul
// CHECK:       } else {
// CHECK-NOT:   tosa.abs
// CHECK:       tosa.yield [[B]]
func.func @main(%c: tensor<i1>, %x: tensor<1x80x80xf32>) -> tensor<1x1x80xf32> {
  %0 = tosa.cond_if %c (%a = %x) : tensor<i1> (tensor<1x80x80xf32>) -> tensor<1x80x80xf32> {
  ^bb0(%b: tensor<1x80x80xf32>):
    %zero = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>
    %1 = tosa.matmul %b, %b, %zero, %zero : (tensor<1x80x80xf32>, tensor<1x80x80xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x80x80xf32>
    %2 = tosa.matmul %1, %b, %zero, %zero : (tensor<1x80x80xf32>, tensor<1x80x80xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x80x80xf32>
    tosa.yield %2 : tensor<1x80x80xf32>
  } else {
  ^bb0(%d: tensor<1x80x80xf32>):
    %3 = tosa.abs %d : (tensor<1x80x80xf32>) -> tensor<1x80x80xf32>
    tosa.yield %3 : tensor<1x80x80xf32>
  }
  %4 = tosa.reduce_max %0 {axis = 1 : i32} : (tensor<1x80x80xf32>) -> tensor<1x1x80xf32>
  return %4 : tensor<1x1x80xf32>
}
