"""Operators larger than the limit run in parts, with the same bits and an exact prediction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tosaic
from tosaic_passes import TosaicError

ZERO = '%z = "tosa.const"() <{values = dense<0.0> : tensor<1xf32>}> : () -> tensor<1xf32>'


def convolution(
    op: str, source: str, weight: str, bias: int, result: str, stride: int = 1, pad: str = "1, 1, 1, 1"
) -> str:
    return f"""func.func @main(%x: tensor<{source}xf32>, %w: tensor<{weight}xf32>) -> tensor<{result}xf32> {{
  {ZERO}
  %b = "tosa.const"() <{{values = dense<0.5> : tensor<{bias}xf32>}}> : () -> tensor<{bias}xf32>
  %0 = {op} %x, %w, %b, %z, %z {{acc_type = f32, dilation = array<i64: 1, 1>, pad = array<i64: {pad}>,
    stride = array<i64: {stride}, {stride}>}} : (tensor<{source}xf32>, tensor<{weight}xf32>, tensor<{bias}xf32>,
    tensor<1xf32>, tensor<1xf32>) -> tensor<{result}xf32>
  %1 = tosa.clamp %0 {{min_val = -1.0 : f32, max_val = 3.0 : f32}} : (tensor<{result}xf32>) -> tensor<{result}xf32>
  return %1 : tensor<{result}xf32>
}}"""


MATMUL = f"""func.func @main(%x: tensor<1x96x256xf32>, %y: tensor<1x256x160xf32>) -> tensor<1x96x160xf32> {{
  {ZERO}
  %0 = tosa.matmul %x, %y, %z, %z : (tensor<1x96x256xf32>, tensor<1x256x160xf32>, tensor<1xf32>, tensor<1xf32>)
    -> tensor<1x96x160xf32>
  return %0 : tensor<1x96x160xf32>
}}"""
ELEMENTWISE = """func.func @main(%x: tensor<70x600xf32>, %y: tensor<1x600xf32>) -> tensor<70x1xf32> {
  %0 = tosa.exp %x : (tensor<70x600xf32>) -> tensor<70x600xf32>
  %1 = tosa.add %0, %y : (tensor<70x600xf32>, tensor<1x600xf32>) -> tensor<70x600xf32>
  %2 = tosa.tanh %1 : (tensor<70x600xf32>) -> tensor<70x600xf32>
  %3 = tosa.reduce_sum %2 {axis = 1 : i32} : (tensor<70x600xf32>) -> tensor<70x1xf32>
  return %3 : tensor<70x1xf32>
}"""
POOLING = f"""func.func @main(%x: tensor<1x61x61x16xf32>) -> tensor<1x61x61x16xf32> {{
  {ZERO}
  %0 = tosa.avg_pool2d %x, %z, %z {{acc_type = f32, kernel = array<i64: 9, 9>, pad = array<i64: 4, 4, 4, 4>,
    stride = array<i64: 1, 1>}} : (tensor<1x61x61x16xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x61x61x16xf32>
  return %0 : tensor<1x61x61x16xf32>
}}"""
CASES = {
    "rows": convolution("tosa.conv2d", "1x48x48x16", "16x3x3x16", 16, "1x48x48x16"),
    "strided rows": convolution("tosa.conv2d", "1x90x90x8", "32x5x5x8", 32, "1x45x45x32", 2, "2, 1, 1, 2"),
    "channels": convolution("tosa.conv2d", "1x6x6x64", "128x3x3x64", 128, "1x6x6x128"),
    "depthwise": convolution(
        "tosa.depthwise_conv2d", "1x40x40x16", "9x9x16x2", 32, "1x40x40x32", 1, "4, 4, 4, 4"
    ),
    "matmul": MATMUL,
    "elementwise": ELEMENTWISE,
    "pooling": POOLING,
}


@pytest.mark.parametrize("case", CASES)
def test_parts_give_the_same_bits(case: str, tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(CASES[case])
    whole = tosaic.load(tosaic.compile_model(source, tmp_path / "whole"))
    limit = int(whole.manifest["total_predicted"] * 0.75)
    parts = tosaic.load(tosaic.compile_model(source, tmp_path / "parts", limit_instructions=limit))
    inputs = whole.random_inputs(3)
    expected, found = whole.run(inputs), parts.run(inputs)
    assert len(found.messages) > 1
    assert all(m.predicted == m.metered <= limit for m in found.messages)
    for name, array in expected.outputs.items():
        assert found.outputs[name].tobytes() == array.tobytes()


def test_parts_are_valid_tosa(tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(CASES["strided rows"])
    total = tosaic.compile_model(source, tmp_path / "whole").manifest["total_predicted"]
    artifact = tosaic.compile_model(source, tmp_path / "parts", limit_instructions=int(total * 0.7))
    command = [Path(sys.executable).parent / "tosa-opt", "--tosa-validate=strict-op-spec-alignment"]
    found = subprocess.run([*command, artifact.path / "program.mlirbc"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("tosa.conv2d") > 1


def test_what_fits_stays_whole(tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(CASES["matmul"])
    total = tosaic.compile_model(source, tmp_path / "whole").manifest["total_predicted"]
    artifact = tosaic.compile_model(source, tmp_path / "same", limit_instructions=total)
    assert artifact.manifest["total_predicted"] == total


def test_a_limit_below_the_smallest_part_names_one_that_works(tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(CASES["elementwise"])
    with pytest.raises(TosaicError, match=r"needs [\d,]+ instructions in one message.* or more works"):
        tosaic.compile_model(source, tmp_path / "none", limit_instructions=1000)
