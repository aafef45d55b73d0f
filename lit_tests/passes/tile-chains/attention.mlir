// RUN: tosaic-opt -p "tile-chains{limit-instructions=10000000}" %s | filecheck %s
// RUN: tosaic-opt -p "tile-chains{limit-instructions=40000000000}" %s | filecheck %s --check-prefix=WHOLE

// The scores are larger than what they come from and what they become: they are computed for some rows, used, and
// computed for the next ones.
// CHECK:       func.func @main
// CHECK:       tosa.slice %arg0
// CHECK:       [[SCORES:%.+]] = tosa.matmul
// CHECK-SAME:  -> tensor<1x[[ROWS:[0-9]+]]x512xf32>
// CHECK:       [[WEIGHTS:%.+]] = tosa.sigmoid [[SCORES]]
// CHECK:       [[FIRST:%.+]] = tosa.matmul [[WEIGHTS]], %arg2
// CHECK-SAME:  -> tensor<1x[[ROWS]]x16xf32>
// CHECK:       tosa.slice %arg0
// CHECK:       tosa.matmul
// CHECK:       tosa.sigmoid
// CHECK:       [[SECOND:%.+]] = tosa.matmul
// CHECK:       tosa.concat [[FIRST]], [[SECOND]]
// CHECK-SAME:  -> tensor<1x512x16xf32>

// What one message holds stays whole.
// WHOLE:       tosa.matmul
// WHOLE-SAME:  -> tensor<1x512x512xf32>
// WHOLE-NOT:   tosa.concat
func.func @main(%q: tensor<1x512x16xf32>, %k: tensor<1x16x512xf32>, %v: tensor<1x512x16xf32>) -> tensor<1x512x16xf32> {
  %zero = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>
  %0 = tosa.matmul %q, %k, %zero, %zero : (tensor<1x512x16xf32>, tensor<1x16x512xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x512x512xf32>
  %1 = tosa.sigmoid %0 : (tensor<1x512x512xf32>) -> tensor<1x512x512xf32>
  %2 = tosa.matmul %1, %v, %zero, %zero : (tensor<1x512x512xf32>, tensor<1x512x16xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x512x16xf32>
  return %2 : tensor<1x512x16xf32>
}
