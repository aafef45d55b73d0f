// RUN: tosaic-opt -p "tosa-attach-target{profiles=pro_int},tosa-validate{strict-op-spec-alignment=true}" --split-input-file --verify-diagnostics %s

func.func @below(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error @below {{requires any of [pro_fp]}}
  %0 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

func.func @same_line(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = tosa.abs %x : (tensor<2xf32>) -> tensor<2xf32> // expected-error-re {{tosa.abs.*pro_.p}}
  return %0 : tensor<2xf32>
}

// -----

func.func @above() -> tensor<2xf32> {
  return %1 : tensor<2xf32>
  // expected-error @above {{undeclared SSA value}}
}

// -----

// expected-error @+2 {{undeclared SSA value}}
func.func @offset() -> tensor<2xf32> {
  return %1 : tensor<2xf32>
}
