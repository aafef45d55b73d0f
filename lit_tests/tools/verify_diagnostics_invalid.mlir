// A wrong expectation fails in both directions: what came unexpected, and what did not come.
// RUN: not tosaic-opt --verify-diagnostics %s 2>&1 | filecheck %s

// CHECK: :10:10: error: unexpected error: use of undeclared SSA value name
// CHECK: :8:1: error: expected error "no such message" was not produced

func.func @main() -> tensor<2xf32> {
  // expected-error @below {{no such message}}
  // Not an expectation.
  return %1 : tensor<2xf32>
}
