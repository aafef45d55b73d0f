// RUN: tosaic-opt -p outline-weights %s | filecheck %s

// Equal contents are one resource, whatever they were called; small constants stay in the text.
// CHECK-LABEL: @main
// CHECK-NEXT:    dense_resource<[[NAME:sha256_[0-9a-f]{64}]]> : tensor<17xf32>
// CHECK-NEXT:    dense_resource<[[NAME]]> : tensor<17xf32>
// CHECK-NEXT:    dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>
// CHECK:       [[NAME]]: "0x04000000000000000000803F
// CHECK-NOT:   sha256
func.func @main() {
  %0 = "tosa.const"() <{values = dense_resource<a> : tensor<17xf32>}> : () -> tensor<17xf32>
  %1 = "tosa.const"() <{values = dense_resource<b> : tensor<17xf32>}> : () -> tensor<17xf32>
  %2 = "tosa.const"() <{values = dense<[1.0, 2.0]> : tensor<2xf32>}> : () -> tensor<2xf32>
  return
}

{-#
  dialect_resources: {
    builtin: {
      a: "0x04000000000000000000803F00000040000040400000803F0000A0400000C0400000E0400000004100001041000020410000304100004041000050410000604100007041000080AA",
      b: "0x04000000000000000000803F00000040000040400000803F0000A0400000C0400000E0400000004100001041000020410000304100004041000050410000604100007041000080AA"
    }
  }
#-}
