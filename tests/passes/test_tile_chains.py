"""Kernels that hand on a large tensor run part by part, with the same bits, an exact prediction and less memory."""

from __future__ import annotations

from pathlib import Path

import pytest

import tosaic

ZERO = '%zero = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>'
ATTENTION = f"""func.func @main(%q: tensor<2x384x16xf32>, %k: tensor<2x16x384xf32>, %v: tensor<2x384x16xf32>)
    -> tensor<2x384x16xf32> {{
  {ZERO}
  %0 = tosa.matmul %q, %k, %zero, %zero : (tensor<2x384x16xf32>, tensor<2x16x384xf32>, tensor<1xf32>, tensor<1xf32>)
    -> tensor<2x384x384xf32>
  %1 = tosa.reduce_max %0 {{axis = 2 : i32}} : (tensor<2x384x384xf32>) -> tensor<2x384x1xf32>
  %2 = tosa.sub %0, %1 : (tensor<2x384x384xf32>, tensor<2x384x1xf32>) -> tensor<2x384x384xf32>
  %3 = tosa.exp %2 : (tensor<2x384x384xf32>) -> tensor<2x384x384xf32>
  %4 = tosa.reduce_sum %3 {{axis = 2 : i32}} : (tensor<2x384x384xf32>) -> tensor<2x384x1xf32>
  %5 = tosa.matmul %3, %v, %zero, %zero : (tensor<2x384x384xf32>, tensor<2x384x16xf32>, tensor<1xf32>, tensor<1xf32>)
    -> tensor<2x384x16xf32>
  %6 = tosa.reciprocal %4 : (tensor<2x384x1xf32>) -> tensor<2x384x1xf32>
  %shift = "tosa.const"() <{{values = dense<0> : tensor<1xi8>}}> : () -> tensor<1xi8>
  %7 = tosa.mul %5, %6, %shift : (tensor<2x384x16xf32>, tensor<2x384x1xf32>, tensor<1xi8>) -> tensor<2x384x16xf32>
  return %7 : tensor<2x384x16xf32>
}}"""
NEIGHBOURS = f"""func.func @main(%x: tensor<1x80x80x8xf32>, %w: tensor<64x1x1x8xf32>, %u: tensor<4x9x9x64xf32>)
    -> tensor<1x80x80x4xf32> {{
  {ZERO}
  %0 = tosa.conv2d %x, %w, %zero, %zero, %zero {{acc_type = f32, dilation = array<i64: 1, 1>,
    pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>}} : (tensor<1x80x80x8xf32>, tensor<64x1x1x8xf32>,
    tensor<1xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x80x80x64xf32>
  %1 = tosa.conv2d %0, %u, %zero, %zero, %zero {{acc_type = f32, dilation = array<i64: 1, 1>,
    pad = array<i64: 4, 4, 4, 4>, stride = array<i64: 1, 1>}} : (tensor<1x80x80x64xf32>, tensor<4x9x9x64xf32>,
    tensor<1xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x80x80x4xf32>
  return %1 : tensor<1x80x80x4xf32>
}}"""


def compiled(text: str, folder: Path, share: float) -> tuple[tosaic.Model, tosaic.Model, int]:
    """The program whole, and under a limit that is a share of what it takes."""
    source = folder / "model.mlir"
    source.write_text(text)
    whole = tosaic.load(tosaic.compile_model(source, folder / "whole"))
    limit = int(whole.manifest["total_predicted"] * share)
    cut = tosaic.load(tosaic.compile_model(source, folder / "cut", limit_instructions=limit))
    return whole, cut, limit


@pytest.mark.parametrize("share", [0.8, 0.4, 0.2])
def test_parts_of_a_chain_give_the_same_bits(share: float, tmp_path: Path) -> None:
    whole, cut, limit = compiled(ATTENTION, tmp_path, share)
    inputs = whole.random_inputs(3)
    expected, found = whole.run(inputs), cut.run(inputs)
    assert len(found.messages) > 1
    assert all(m.predicted == m.metered <= limit for m in found.messages)
    assert found.outputs["output"].tobytes() == expected.outputs["output"].tobytes()


def test_what_only_a_chain_reads_is_never_there_as_a_whole(tmp_path: Path) -> None:
    whole, cut, _ = compiled(ATTENTION, tmp_path, 0.4)
    scores = 2 * 384 * 384 * 4
    assert whole.manifest["arena_bytes"] > scores > 2 * cut.manifest["arena_bytes"]


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    """Rows of the second convolution overlap in what they read of the first one, which therefore stays whole."""
    source = tmp_path / "model.mlir"
    source.write_text(NEIGHBOURS)
    total = tosaic.compile_model(source, tmp_path / "whole").manifest["total_predicted"]
    cut = tosaic.compile_model(source, tmp_path / "cut", limit_instructions=int(total * 0.9))
    assert cut.manifest["multiply_adds"] == 80 * 80 * 64 * 8 + 80 * 80 * 4 * 81 * 64
