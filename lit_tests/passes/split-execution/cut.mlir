// RUN: tosaic-opt -p "split-execution{limit-instructions=3000000}" %s | filecheck %s
// RUN: tosaic-opt -p "split-execution{limit-instructions=40000000000}" %s | filecheck %s --check-prefix=WHOLE

// Two products that do not fit one message; a value that the second one reads goes from segment to segment.
// CHECK:      func.func private @segment_0([[X:%.+]]: tensor<1x96x96xf32>) -> tensor<1x96x96xf32>
// CHECK-SAME:   ic.message_instructions = {{[0-9]+}} : i64
// CHECK:        tosa.matmul
// CHECK-NOT:    tosa.matmul
// CHECK:        return
// CHECK:      func.func private @segment_1([[Y:%.+]]: tensor<1x96x96xf32>, [[X1:%.+]]: tensor<1x96x96xf32>)
// CHECK:        tosa.matmul [[Y]], [[X1]]
// CHECK:      func.func @main([[ARG:%.+]]: tensor<1x96x96xf32>)
// CHECK-NEXT:   [[Z:%.+]] = call @segment_0([[ARG]])
// CHECK-NEXT:   [[W:%.+]] = call @segment_1([[Z]], [[ARG]])
// CHECK-NEXT:   return [[W]]

// WHOLE:      @segment_0
// WHOLE-NOT:  @segment_1
func.func @main(%x: tensor<1x96x96xf32>) -> tensor<1x96x96xf32> {
  %zero = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>
  %0 = tosa.matmul %x, %x, %zero, %zero : (tensor<1x96x96xf32>, tensor<1x96x96xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x96x96xf32>
  %1 = tosa.matmul %0, %x, %zero, %zero : (tensor<1x96x96xf32>, tensor<1x96x96xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x96x96xf32>
  return %1 : tensor<1x96x96xf32>
}
