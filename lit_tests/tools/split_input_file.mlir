// Each piece is a module of its own; messages keep the line numbers of the file.
// RUN: tosaic-opt -p cse --split-input-file %s | filecheck %s

// CHECK-LABEL: @first
func.func @first() {
  return
}
// CHECK: // -----
// -----

// CHECK-LABEL: @second
func.func @second() {
  return
}
