// Native passes in the written order, with options and nested managers.
// RUN: tosaic-opt -p "func.func(cse),canonicalize{max-iterations=2}" %s | filecheck %s
// RUN: tosaic-opt --pass-pipeline="builtin.module(func.func(cse),canonicalize)" - < %s | filecheck %s
// RUN: tosaic-opt %s | filecheck %s --check-prefix=UNCHANGED
// RUN: tosaic-opt -p "cse,canonicalize{max-iterations=2}" --dump-pass-pipeline %s 2>&1 | filecheck %s --check-prefix=DUMP

// DUMP: builtin.module(cse,canonicalize{max-iterations=2})

// CHECK-LABEL: func.func @main
// CHECK-NEXT:    [[A:%.+]] = tosa.abs
// CHECK-NEXT:    [[B:%.+]] = tosa.add [[A]], [[A]]
// CHECK-NEXT:    return [[B]]

// UNCHANGED-LABEL: func.func @main
// UNCHANGED-NEXT:    tosa.abs
// UNCHANGED-NEXT:    tosa.abs
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32>
  %1 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32>
  %2 = tosa.add %0, %1 : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %2 : tensor<2xf32>
}
