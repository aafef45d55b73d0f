// RUN: not tosaic-opt --split-input-file %s 2>&1 | filecheck %s

// CHECK: split_input_file_invalid.mlir:12:10: error: use of undeclared SSA value name
// CHECK-NOT: @first
func.func @first() {
  return
}

// -----

func.func @second() -> tensor<2xf32> {
  return %1 : tensor<2xf32>
}
