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


def convolution(name: str, source: str, weight: str, channels: int, result: str, stride: int = 1) -> str:
    """A convolution of `%name` over three rows and columns, with two constant operands `%w_<name>` and `%zero`."""
    return f"""
  %w_{name} = "tosa.const"() <{{values = dense<0.125> : tensor<{weight}xf32>}}> : () -> tensor<{weight}xf32>
  %{name} = tosa.conv2d %{source.partition(":")[0]}, %w_{name}, %zero, %zero, %zero {{acc_type = f32,
    dilation = array<i64: 1, 1>, pad = array<i64: 1, {2 - stride}, 1, {2 - stride}>,
    stride = array<i64: {stride}, {stride}>}} : (tensor<{source.partition(":")[2]}xf32>, tensor<{weight}xf32>,
    tensor<1xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<{result}xf32>"""


# Two scales with a residual sum, a concatenation and two results: parts end at different rows of each value.
PYRAMID = f"""func.func @main(%x: tensor<1x60x40x4xf32>) -> (tensor<1x60x40x4xf32>, tensor<1x30x20x8xf32>) {{
  {ZERO}
  {convolution("a", "x:1x60x40x4", "16x3x3x4", 16, "1x60x40x16")}
  %b = tosa.sigmoid %a : (tensor<1x60x40x16xf32>) -> tensor<1x60x40x16xf32>
  {convolution("c", "b:1x60x40x16", "16x3x3x16", 16, "1x60x40x16")}
  %d = tosa.add %c, %b : (tensor<1x60x40x16xf32>, tensor<1x60x40x16xf32>) -> tensor<1x60x40x16xf32>
  {convolution("e", "d:1x60x40x16", "8x3x3x16", 8, "1x30x20x8", 2)}
  %s = tosa.const_shape {{values = dense<[2, 1, 2, 1]> : tensor<4xindex>}} : () -> !tosa.shape<4>
  %o = tosa.const_shape {{values = dense<[0, 0]> : tensor<2xindex>}} : () -> !tosa.shape<2>
  %p = tosa.const_shape {{values = dense<[1, 1]> : tensor<2xindex>}} : () -> !tosa.shape<2>
  %f = tosa.resize %e, %s, %o, %p {{mode = NEAREST_NEIGHBOR}} : (tensor<1x30x20x8xf32>, !tosa.shape<4>, !tosa.shape<2>,
    !tosa.shape<2>) -> tensor<1x60x40x8xf32>
  %g = tosa.concat %d, %f {{axis = 3 : i32}} : (tensor<1x60x40x16xf32>, tensor<1x60x40x8xf32>) -> tensor<1x60x40x24xf32>
  {convolution("h", "g:1x60x40x24", "4x3x3x24", 4, "1x60x40x4")}
  return %h, %e : tensor<1x60x40x4xf32>, tensor<1x30x20x8xf32>
}}"""
CHAINS = {"attention": ATTENTION, "pyramid": PYRAMID}


def compiled(text: str, folder: Path, share: float) -> tuple[tosaic.Model, tosaic.Model, int]:
    """The program whole, and under a limit that is a share of what it takes."""
    source = folder / "model.mlir"
    source.write_text(text)
    whole = tosaic.load(tosaic.compile_model(source, folder / "whole"))
    limit = int(whole.manifest["total_predicted"] * share)
    cut = tosaic.load(tosaic.compile_model(source, folder / "cut", limit_instructions=limit))
    return whole, cut, limit


@pytest.mark.parametrize("share", [0.8, 0.2])
@pytest.mark.parametrize("chain", CHAINS)
def test_parts_of_a_chain_give_the_same_bits(chain: str, share: float, tmp_path: Path) -> None:
    whole, cut, limit = compiled(CHAINS[chain], tmp_path, share)
    inputs = whole.random_inputs(3)
    expected, found = whole.run(inputs), cut.run(inputs)
    assert len(found.messages) > 1
    assert all(m.predicted == m.metered <= limit for m in found.messages)
    for name, array in expected.outputs.items():
        assert found.outputs[name].tobytes() == array.tobytes()


def test_what_only_a_chain_reads_is_never_there_as_a_whole(tmp_path: Path) -> None:
    whole, cut, _ = compiled(ATTENTION, tmp_path, 0.4)
    scores = 2 * 384 * 384 * 4
    assert whole.manifest["arena_bytes"] > scores > 2 * cut.manifest["arena_bytes"]


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    """Rows of one convolution overlap in what they read of another one."""
    whole, cut, _ = compiled(PYRAMID, tmp_path, 0.3)
    assert cut.manifest["multiply_adds"] == whole.manifest["multiply_adds"]
    assert cut.manifest["arena_bytes"] < whole.manifest["arena_bytes"]
