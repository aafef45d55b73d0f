"""Operators larger than the limit run in parts, with the same bits and an exact prediction."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tosaic
from tosaic_passes.errors import LimitTooSmallError

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
WEIGHTS = np.random.default_rng(0).random((4096, 38), np.float32).tobytes().hex()
COLUMNS_BEHIND_VECTORS = f"""func.func @main(%x: tensor<1x1x4096xf32>) -> tensor<1x1x38xf32> {{
  {ZERO}
  %y = "tosa.const"() <{{values = dense<"0x{WEIGHTS}"> : tensor<1x4096x38xf32>}}> : () -> tensor<1x4096x38xf32>
  %0 = tosa.matmul %x, %y, %z, %z : (tensor<1x1x4096xf32>, tensor<1x4096x38xf32>, tensor<1xf32>, tensor<1xf32>)
    -> tensor<1x1x38xf32>
  return %0 : tensor<1x1x38xf32>
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
TRANSPOSED = f"""func.func @main(%x: tensor<1x23x19x16xf32>, %w: tensor<8x5x5x16xf32>) -> tensor<1x48x39x8xf32> {{
  {ZERO}
  %b = "tosa.const"() <{{values = dense<0.5> : tensor<8xf32>}}> : () -> tensor<8xf32>
  %0 = tosa.transpose_conv2d %x, %w, %b, %z, %z {{acc_type = f32, out_pad = array<i64: -1, 0, -2, 0>,
    stride = array<i64: 2, 2>}} : (tensor<1x23x19x16xf32>, tensor<8x5x5x16xf32>, tensor<8xf32>, tensor<1xf32>,
    tensor<1xf32>) -> tensor<1x48x39x8xf32>
  return %0 : tensor<1x48x39x8xf32>
}}"""
LOOP = """func.func @main(%x: tensor<1x120x120xf32>, %c: tensor<i32>) -> tensor<1x120x120xf32> {{
  %zero = "tosa.const"() <{{values = dense<0> : tensor<i32>}}> : () -> tensor<i32>
  %0:2 = tosa.while_loop (%i = %zero, %a = %x) : (tensor<i32>, tensor<1x120x120xf32>)
    -> (tensor<i32>, tensor<1x120x120xf32>) {{
    %n = "tosa.const"() <{{values = dense<9> : tensor<i32>}}> : () -> tensor<i32>
    %more = tosa.greater %n, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
    {test}
  }} do {{
  ^bb0(%j: tensor<i32>, %b: tensor<1x120x120xf32>):
    %z = "tosa.const"() <{{values = dense<0.0> : tensor<1xf32>}}> : () -> tensor<1xf32>
    %one = "tosa.const"() <{{values = dense<1> : tensor<i32>}}> : () -> tensor<i32>
    %k = tosa.add %j, %one : (tensor<i32>, tensor<i32>) -> tensor<i32>
    %p = tosa.matmul %b, %b, %z, %z : (tensor<1x120x120xf32>, tensor<1x120x120xf32>, tensor<1xf32>, tensor<1xf32>)
      -> tensor<1x120x120xf32>
    %t = tosa.tanh %p : (tensor<1x120x120xf32>) -> tensor<1x120x120xf32>
    tosa.yield %k, %t : tensor<i32>, tensor<1x120x120xf32>
  }}
  return %0#1 : tensor<1x120x120xf32>
}}"""
EARLY = """%m = "tosa.const"() <{values = dense<4> : tensor<i32>}> : () -> tensor<i32>
    %early = tosa.greater %m, %i : (tensor<i32>, tensor<i32>) -> tensor<i1>
    %both = tosa.logical_and %more, %early : (tensor<i1>, tensor<i1>) -> tensor<i1>
    tosa.yield %both : tensor<i1>"""
SMALL = """func.func @main(%x: tensor<4x40xf32>) -> tensor<4x1xf32> {
  %0 = tosa.exp %x : (tensor<4x40xf32>) -> tensor<4x40xf32>
  %1 = tosa.reduce_sum %0 {axis = 1 : i32} : (tensor<4x40xf32>) -> tensor<4x1xf32>
  return %1 : tensor<4x1xf32>
}"""
CASES = {
    "transposed convolution": TRANSPOSED,
    "loop": LOOP.format(test="tosa.yield %more : tensor<i1>"),
    "rows": convolution("tosa.conv2d", "1x48x48x16", "16x3x3x16", 16, "1x48x48x16"),
    "strided rows": convolution("tosa.conv2d", "1x90x90x8", "32x5x5x8", 32, "1x45x45x32", 2, "2, 1, 1, 2"),
    "channels": convolution("tosa.conv2d", "1x6x6x64", "128x3x3x64", 128, "1x6x6x128"),
    "depthwise": convolution(
        "tosa.depthwise_conv2d", "1x40x40x16", "9x9x16x2", 32, "1x40x40x32", 1, "4, 4, 4, 4"
    ),
    "matmul": MATMUL,
    "columns behind vectors": COLUMNS_BEHIND_VECTORS,
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


def test_a_limit_below_the_smallest_part_names_one_that_works(tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(SMALL)
    with pytest.raises(LimitTooSmallError) as error:
        tosaic.compile_model(source, tmp_path / "none", limit_instructions=1000)
    assert list(tmp_path.iterdir()) == [source]
    found = re.search(r"a limit of (\d+) works, one of (\d+) does not$", str(error.value))
    assert found
    works, fails = int(found[1]), int(found[2])
    assert 0 < works - fails <= works // 100
    model = tosaic.load(tosaic.compile_model(source, tmp_path / "parts", limit_instructions=works))
    assert all(m.metered <= works for m in model.run(model.random_inputs(3)).messages)
    with pytest.raises(LimitTooSmallError):
        tosaic.compile_model(source, tmp_path / "none", limit_instructions=fails)


def test_a_loop_that_may_end_early_is_cut_too(tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(LOOP.format(test=EARLY))
    whole = tosaic.load(tosaic.compile_model(source, tmp_path / "whole"))
    limit = whole.manifest["total_predicted"] // 2
    parts = tosaic.load(tosaic.compile_model(source, tmp_path / "parts", limit_instructions=limit))
    inputs = whole.random_inputs(3)
    found = parts.run(inputs)
    assert len(found.messages) > 1
    assert all(m.metered <= m.predicted <= limit for m in found.messages)
    assert found.outputs["output"].tobytes() == whole.run(inputs).outputs["output"].tobytes()


@pytest.mark.parametrize("test", ["tosa.yield %more : tensor<i1>", EARLY], ids=["counted", "early"])
def test_trips_that_do_not_fit_are_cut_themselves(test: str, tmp_path: Path) -> None:
    source = tmp_path / "model.mlir"
    source.write_text(LOOP.format(test=test))
    whole = tosaic.load(tosaic.compile_model(source, tmp_path / "whole"))
    limit = 3_900_000  # less than a trip and the reply
    parts = tosaic.load(tosaic.compile_model(source, tmp_path / "parts", limit_instructions=limit))
    inputs = whole.random_inputs(3)
    found = parts.run(inputs)
    assert all(m.metered <= m.predicted <= limit for m in found.messages)
    assert all(m.metered == m.predicted for m in found.messages if m.exact)
    assert found.outputs["output"].tobytes() == whole.run(inputs).outputs["output"].tobytes()


def test_parts_fill_the_messages_that_kernels_before_them_leave_open(tmp_path: Path) -> None:
    """Three kernels of a third each: halves of them would leave a third of every message unused, and take 6."""
    product = """tosa.matmul %{}, %y, %z, %z : (tensor<1x192x160xf32>, tensor<1x160x160xf32>, tensor<1xf32>,
    tensor<1xf32>) -> tensor<1x192x160xf32>"""
    text = f"""func.func @main(%x: tensor<1x192x160xf32>, %y: tensor<1x160x160xf32>) -> tensor<1x192x160xf32> {{
  {ZERO}
  %0 = {product.format("x")}
  %1 = {product.format("0")}
  %2 = {product.format("1")}
  return %2 : tensor<1x192x160xf32>
}}"""
    source = tmp_path / "model.mlir"
    source.write_text(text)
    total = tosaic.compile_model(source, tmp_path / "whole").manifest["total_predicted"]
    parts = tosaic.compile_model(source, tmp_path / "parts", limit_instructions=total // 4)
    assert len(parts.manifest["segments"]) == 4


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
