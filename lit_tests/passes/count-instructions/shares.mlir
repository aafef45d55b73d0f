// RUN: tosaic-opt -p count-instructions %s | filecheck %s

// Every op says which kernel it is part of and what it adds; the total stands on the function. Reshapes are free.
// CHECK:      func.func @main({{.*}} attributes {ic.instructions = [[TOTAL:[0-9]+]] : i64}
// CHECK:      tosa.exp {{.*}} {ic.instructions = [[TOTAL]] : i64, ic.kernel = [[KERNEL:[0-9]+]] : i64}
// CHECK:      tosa.reshape {{.*}} {ic.instructions = 0 : i64, ic.kernel = {{[0-9]+}} : i64}
func.func @main(%x: tensor<4x8xf32>) -> tensor<32xf32> {
  %shape = tosa.const_shape {values = dense<32> : tensor<1xindex>} : () -> !tosa.shape<1>
  %0 = tosa.exp %x : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %1 = tosa.reshape %0, %shape : (tensor<4x8xf32>, !tosa.shape<1>) -> tensor<32xf32>
  return %1 : tensor<32xf32>
}
