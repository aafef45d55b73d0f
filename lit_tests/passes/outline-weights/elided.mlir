// RUN: tosaic-opt -p outline-weights --verify-diagnostics %s

// A module written without its resources is refused when a pass needs their values.
// expected-error @unknown {{the values of the constant 'gone' are not in the module; write the module without eliding its resources}}
func.func @main() {
  %0 = "tosa.const"() <{values = dense_resource<gone> : tensor<17xf32>}> : () -> tensor<17xf32>
  return
}
