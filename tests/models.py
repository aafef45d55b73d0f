"""Small ONNX models as text, for tests of the whole way."""

from __future__ import annotations

from pathlib import Path

import onnx.parser

PERCEPTRON = """
<ir_version: 8, opset_import: ["" : 17]>
perceptron (float[N, 8] x) => (float[N, 3] y)
<
  float[8, 4] w1 = {0.5, -1, 2, 0.25, 1, 1, -1, 0, 0.125, 2, 3, -4, 1, 0, 0, 1,
                    -0.5, 1, -2, 0.25, 1, -1, 1, 0, 0.5, 2, -3, 4, -1, 2, 0.5, 1},
  float[4] b1 = {0.5, -1, 0, 2},
  float[4, 3] w2 = {1, 2, 3, -4, 5, 6, 7, -8, 9, 10, 11, -12},
  float[3] b2 = {-30, 0.5, 1}
>
{
  hidden = Gemm (x, w1, b1)
  active = Relu (hidden)
  y = Gemm (active, w2, b2)
}
"""
"""Two layers; the first dimension is open."""

BRANCHES_AND_LOOP = """
<ir_version: 8, opset_import: ["" : 17]>
choice (float[1, 3] x, bool c) => (float[1, 3] y)
<float[3, 3] w = {1, 2, 0, -1, 1, 0.5, 0, 2, 1}, int64 most = {20}, float hundred = {100}, bool yes = {1}>
{
  start = If (c) <
    then_branch = product () => (float[1, 3] p) { p = MatMul (x, w) },
    else_branch = twice () => (float[1, 3] d) { d = Add (x, x) }
  >
  y = Loop (most, yes, start) <
    body = grow (int64 i, bool going, float[1, 3] s) => (bool go_on, float[1, 3] t) {
      t = Add (s, s)
      largest = ReduceMax <keepdims = 0> (t)
      go_on = Less (largest, hundred)
    }
  >
}
"""
"""A branch on an input, and a loop of at most 20 trips that ends when a number has grown."""

LOOPS_IN_BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
nested (float[4] x) => (float[4] y, float[5] seen)
<float ten = {10}, float half = {0.5}, int64 five = {5}, int64 trips = {7}, bool yes = {1}>
{
  y, seen = Loop (five, yes, x) <
    body = outer (int64 i, bool going, float[4] s) => (bool go_on, float[4] t, float sum) {
      go_on = Identity (going)
      sum = ReduceSum <keepdims = 0> (s)
      large = Greater (sum, ten)
      t = If (large) <
        then_branch = shrink () => (float[4] u) {
          u = Loop (trips, yes, s) <
            body = inner (int64 j, bool g, float[4] v) => (bool h, float[4] w) {
              w = Mul (v, half)
              m = ReduceMax <keepdims = 0> (w)
              h = Greater (m, half)
            }
          >
        },
        else_branch = grow () => (float[4] z) { z = Exp (s) }
      >
    }
  >
}
"""
"""A branch in a loop of five trips, one arm of which is a loop that data ends."""

UNSUPPORTED = """
<ir_version: 8, opset_import: ["" : 17]>
strings (float[2] x) => (float[2] y)
{
  a = Celu (x)
  s = Cast <to = 8> (a)
  y = Cast <to = 1> (s)
}
"""
"""Casts to strings, which TOSA does not have."""


def write_model(text: str, path: Path) -> Path:
    """The model as a binary `.onnx` file."""
    onnx.save(onnx.parser.parse_model(text), path)
    return path
