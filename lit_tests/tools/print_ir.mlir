// RUN: tosaic-opt -p "cse,canonicalize" --mlir-print-ir-after=cse %s 2>&1 | filecheck %s --check-prefix=AFTER
// RUN: tosaic-opt -p "cse,canonicalize" --mlir-print-ir-before=canonicalize %s 2>&1 | filecheck %s --check-prefix=BEFORE
// RUN: tosaic-opt -p "cse,canonicalize" --mlir-print-ir-before-all --mlir-print-ir-after-all %s 2>&1 | filecheck %s --check-prefix=ALL
// RUN: tosaic-opt --mlir-print-op-generic %s | filecheck %s --check-prefix=GENERIC
// RUN: tosaic-opt --mlir-print-debuginfo %s | filecheck %s --check-prefix=DEBUG
// RUN: tosaic-opt -p cse --mlir-timing %s 2>&1 | filecheck %s --check-prefix=TIMING

// AFTER: IR Dump After cse
// AFTER-NEXT: module {
// BEFORE: IR Dump Before canonicalize
// ALL: IR Dump Before CSEPass
// ALL: IR Dump After CSEPass
// ALL: IR Dump Before CanonicalizerPass
// ALL: IR Dump After CanonicalizerPass
// GENERIC: "tosa.abs"(%arg0)
// DEBUG: tosa.abs %arg0 {{.*}} loc(#[[LOC:.+]])
// DEBUG: #[[LOC]] = loc("/encoder/Abs")
// TIMING: Execution time report
// TIMING: CSEPass
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32> loc("/encoder/Abs")
  %1 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32>
  %2 = tosa.add %0, %1 : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %2 : tensor<2xf32>
}
