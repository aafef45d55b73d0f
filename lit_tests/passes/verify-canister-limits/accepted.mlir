// RUN: tosaic-opt -p "verify-canister-limits{limit-instructions=40000000000}" %s | filecheck %s

// What the network takes stays as it is.
// CHECK:      func.func @main
// CHECK-NEXT:   tosa.abs
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = tosa.abs %x : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
