// RUN: tosaic-opt -p "tile-operators{limit-instructions=1500000}" %s | filecheck %s
// RUN: tosaic-opt -p "tile-operators{limit-instructions=40000000000}" %s | filecheck %s --check-prefix=WHOLE

// The product exceeds the limit and is computed in parts; the op behind it fits and stays.
// CHECK:       func.func @main
// CHECK:       tosa.slice
// CHECK:       [[A:%.+]] = tosa.matmul
// CHECK:       tosa.slice
// CHECK:       [[B:%.+]] = tosa.matmul
// CHECK:       tosa.concat [[A]], [[B]]
// CHECK-SAME:  -> tensor<1x96x96xf32>
// CHECK:       tosa.reduce_max
// CHECK-NOT:   tosa.concat

// WHOLE:       tosa.matmul
// WHOLE-NOT:   tosa.matmul
// WHOLE-NOT:   tosa.concat
func.func @main(%x: tensor<1x96x96xf32>) -> tensor<1x1x96xf32> {
  %zero = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>
  %0 = tosa.matmul %x, %x, %zero, %zero : (tensor<1x96x96xf32>, tensor<1x96x96xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x96x96xf32>
  %1 = tosa.reduce_max %0 {axis = 1 : i32} : (tensor<1x96x96xf32>) -> tensor<1x1x96xf32>
  return %1 : tensor<1x1x96xf32>
}
