// RUN: tosaic-opt -p "verify-canister-limits{limit-instructions=1000}" --split-input-file --verify-diagnostics %s

// expected-error-re @unknown {{^the network would refuse this canister: instructions of a message \(infer\): [0-9,]+ where 1,000 are allowed, [0-9,]+ too many \(give --limit [0-9]+\)$}}
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = tosa.abs %x : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// Tensors of 2.4 GB each, two at a time: more than a memory of 32 bits.
// expected-error-re @unknown {{heap bytes: [0-9,]+ where 4,294,967,296 are allowed, [0-9,]+ too many \(give a smaller input}}
func.func @main(%x: tensor<600000000xf32>) -> tensor<600000000xf32> {
  %0 = tosa.reverse %x {axis = 0 : i32} : (tensor<600000000xf32>) -> tensor<600000000xf32>
  return %0 : tensor<600000000xf32>
}

// -----

// expected-error-re @unknown {{bytes of a tensor: 4,800,000,000 where 4,294,967,296 are allowed, 505,032,704 too many}}
func.func @main(%x: tensor<1200000000xf32>) -> tensor<1200000000xf32> {
  %0 = tosa.abs %x : (tensor<1200000000xf32>) -> tensor<1200000000xf32>
  return %0 : tensor<1200000000xf32>
}
