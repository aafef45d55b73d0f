// Text to bytecode and back, constants included; the suffix of the output or a flag asks for bytecode.
// RUN: tosaic-opt %s -o %t.mlirbc && tosaic-opt %t.mlirbc | filecheck %s
// RUN: tosaic-opt %s --emit-bytecode | tosaic-opt - | filecheck %s
// RUN: tosaic-opt %s --verify-roundtrip | filecheck %s
// RUN: tosaic-opt %s --mlir-elide-resource-strings-if-larger=8 | filecheck %s --check-prefix=ELIDED
// RUN: torch-mlir-opt %t.mlirbc | filecheck %s

// CHECK: dense_resource<weight>
// CHECK: weight: "0x040000000000803F000000400000404000008040"
// ELIDED: dense_resource<weight>
// ELIDED-NOT: 0x04
func.func @main() -> tensor<4xf32> {
  %0 = "tosa.const"() <{values = dense_resource<weight> : tensor<4xf32>}> : () -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

{-#
  dialect_resources: {
    builtin: {
      weight: "0x040000000000803F000000400000404000008040"
    }
  }
#-}
