// RUN: tosaic-opt -p "split-execution{limit-instructions=1000}" --split-input-file --verify-diagnostics %s

// A kernel that alone exceeds the limit is named, with a limit that works.
// expected-error-re @unknown {{^tosa.exp '/head/Exp' needs [0-9,]+ instructions in one message, the limit is 1,000; a limit of [0-9]+ or more works$}}
func.func @main(%x: tensor<64xf32>) -> tensor<64xf32> {
  %0 = tosa.exp %x : (tensor<64xf32>) -> tensor<64xf32> loc("/head/Exp")
  return %0 : tensor<64xf32>
}

// -----

// expected-error @unknown {{the program is cut into segments already; cut the program that @main holds whole}}
func.func private @segment_0(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @segment_0(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// expected-error @unknown {{the module has no function @main}}
func.func @other(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}
