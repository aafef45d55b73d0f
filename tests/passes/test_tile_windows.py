"""A window of an op's result, computed by itself, has the bits that it has in the whole result."""

from __future__ import annotations

import random

import numpy as np
import pytest
from torch_mlir import ir

from counting_model import CountingModel
from tosaic_passes.cost_model import Charge
from tosaic_passes.functions import find_function
from tosaic_passes.program import Program
from tosaic_passes.tile_expression import Expression
from tosaic_passes.tile_search import TilingSearch, windows
from tosaic_passes.tile_windows import Window
from tosaic_passes.weights import WeightTable
from wasm.program_runner import run_program
from wasm.test_program import STORE, compile

CONSTANTS = {
    "z": ("f32", "0.0"), "b": ("f32", "0.5, -1.5, 2.0, 0.25"), "one": ("i32", "1073741824, 1073741823, 536870912"),
    "by": ("i8", "30, 31, 29"), "q": ("i8", "0"), "t": ("i8", ", ".join(str(i % 99) for i in range(256))),
    "fill": ("f32", "7.0"),
}  # fmt: skip
CONVOLUTION = (
    "acc_type = f32, dilation = array<i64: 1, 2>, pad = array<i64: 1, 1, 0, 1>, stride = array<i64: 2, 1>"
)
POOLING = "kernel = array<i64: 3, 2>, pad = array<i64: 1, 1, 1, 0>, stride = array<i64: 2, 1>"
CASES = {
    "conv2d": ("tosa.conv2d %x, %y, %b, %z, %z {" + CONVOLUTION + "}", "2x9x11x3", "4x3x3x3", "2x5x8x4"),
    "depthwise_conv2d": (
        "tosa.depthwise_conv2d %x, %y, %b, %z, %z {" + CONVOLUTION + "}", "1x9x11x2", "3x3x2x2", "1x5x8x4",
    ),
    "transpose_conv2d": (
        "tosa.transpose_conv2d %x, %y, %b, %z, %z {acc_type = f32, out_pad = array<i64: -1, 2, 1, -2>, "
        "stride = array<i64: 3, 2>}", "1x5x6x3", "4x4x5x3", "1x17x14x4",
    ),
    "avg_pool2d": ("tosa.avg_pool2d %x, %z, %z {acc_type = f32, " + POOLING + "}", "1x9x7x5", None, "1x5x7x5"),
    "max_pool2d": ("tosa.max_pool2d %x {" + POOLING + "}", "1x9x7x5", None, "1x5x7x5"),
    "matmul": ("tosa.matmul %x, %y, %z, %z", "2x6x7", "2x7x9", "2x6x9"),
    "resize": ("tosa.resize %x, %s0, %s1, %s2 {mode = BILINEAR}", "1x9x8x3", None, "1x22x15x3",
               (8, 3, 4, 2), (-2, 0), (-3, 0)),
    "nearest": ("tosa.resize %x, %s0, %s1, %s2 {mode = NEAREST_NEIGHBOR}", "1x9x8x3", None, "1x22x15x3",
                (8, 3, 4, 2), (-2, 0), (-3, 0)),
    "reduce_max": ("tosa.reduce_max %x {axis = 1 : i32}", "5x6x7", None, "5x1x7"),
    "reduce_sum": ("tosa.reduce_sum %x {axis = 2 : i32}", "5x6x7", None, "5x6x1"),
    "argmax": ("tosa.argmax %x {axis = 1 : i32}", "5x6x7", None, "5x7xi32"),
    "gather": ("tosa.gather %x, %i", "2x6x7", "2x5xi32", "2x5x7"),
    "scatter": ("tosa.scatter %x, %i, %y", "2x6x7", "2x5x7", "2x6x7"),
    "transpose": ("tosa.transpose %x {perms = array<i32: 2, 0, 1>}", "5x6x7", None, "7x5x6"),
    "pad": ("tosa.pad %x, %s0, %fill", "5x6", None, "8x9", (1, 2, 3, 0)),
    "slice": ("tosa.slice %x, %s0, %s1", "5x6", None, "3x4", (1, 2), (3, 4)),
    "tile": ("tosa.tile %x, %s0", "5x6", None, "15x6", (3, 1)),
    "reverse": ("tosa.reverse %x {axis = 1 : i32}", "5x6", None, "5x6"),
    "concat": ("tosa.concat %x, %y, %x {axis = 1 : i32}", "5x6", "5x3", "5x15"),
    "reshape": ("tosa.reshape %x, %s0", "4x6x10", None, "2x12x2x5", (2, 12, 2, 5)),
    "flatten": ("tosa.reshape %x, %s0", "1x4x6x3", None, "24x3", (24, 3)),
    "select": ("tosa.add %x, %y", "5x1x7", "5x6x1", "5x6x7"),
}  # fmt: skip
"""The op; the shapes of %x, %y and of the result (f32 unless it says else); constant sizes %s0, %s1, ..."""


def typed(shape: str) -> str:
    return f"tensor<{shape}>" if shape.endswith("i32") else f"tensor<{shape}xf32>"


def program_of(case: str) -> Program:
    op, x, y, result, *sizes = CASES[case]
    given = {"x": typed(x)} | ({"y": typed(y)} if y else {})
    if "%i" in op:
        given["i"] = f"tensor<{x.split('x')[0]}x5xi32>"
        given = {name: type for name, type in given.items() if f"%{name}" in op}
    lines, types = [], dict(given)
    for name, (element, values) in CONSTANTS.items():
        type = f"tensor<{len(values.split(','))}x{element}>"
        lines.append(f'%{name} = "tosa.const"() {{values = dense<[{values}]> : {type}}} : () -> {type}')
        types[name] = type
    for k, values in enumerate(sizes):
        listed = f"dense<[{', '.join(map(str, values))}]> : tensor<{len(values)}xindex>"
        types[f"s{k}"] = f"!tosa.shape<{len(values)}>"
        lines.append(f"%s{k} = tosa.const_shape {{values = {listed}}} : () -> {types[f's{k}']}")
    operands = [name.strip("%,") for name in op.split("{")[0].split()[1:]]
    signature = ", ".join(f"%{name}: {type}" for name, type in given.items())
    text = "\n".join(lines)
    return Program(
        ir.Module.parse(
            f"""func.func @main({signature}) -> {typed(result)} {{
            {text}
            %r = {op} : ({", ".join(types[name] for name in operands)}) -> {typed(result)}
            return %r : {typed(result)} }}""",
            ir.Context(),
        ),
        WeightTable(),
    )


def expression_of(program: Program) -> Expression:
    block = find_function(program.module, "main").entry_block
    ops = [op.operation for op in block.operations if op.operation.name not in ("func.return", "tosa.const")]
    expression = Expression.of([op for op in ops if op.name != "tosa.const_shape"])
    assert expression is not None
    return expression


def return_windows(program: Program, count: int, rng: random.Random) -> list[Window]:
    """Let @main return random windows of its result besides the result; gives those that can be computed alone."""
    expression, main = expression_of(program), find_function(program.module, "main")
    shape = ir.RankedTensorType(expression.result.type).shape
    end = main.entry_block.operations[len(main.entry_block.operations) - 1].operation
    chosen = [tuple(_stretch(extent, rng) for extent in shape) for _ in range(count)]
    with program.context, ir.Location.unknown(), ir.InsertionPoint(end):
        chosen = [window for window in chosen if expression.reads(window) is not None]
        values = [expression.result, *(expression.build(window) for window in chosen)]
        ir.Operation.create("func.return", operands=values)
        end.erase()
        type = ir.FunctionType.get(main.type.inputs, [value.type for value in values])
        main.attributes["function_type"] = ir.TypeAttr.get(type)
    return chosen


def _stretch(extent: int, rng: random.Random) -> tuple[int, int]:
    start = rng.choice([0, rng.randrange(extent)])
    return start, rng.choice([extent - start, rng.randint(1, extent - start)])


@pytest.mark.parametrize("case", CASES)
def test_windows_have_the_bits_of_the_whole(case: str) -> None:
    program = program_of(case)
    chosen = return_windows(program, 24, random.Random(1))
    assert len(chosen) > 3
    assert program.module.operation.verify()
    generator = np.random.default_rng(0)
    arguments = []
    for type in find_function(program.module, "main").type.inputs:
        tensor = ir.RankedTensorType(type)
        shape = tuple(tensor.shape)
        floats = generator.standard_normal(shape).astype(np.float32)
        indices = np.stack([generator.permutation(5) for _ in range(shape[0])]).astype(np.int32)
        arguments.append(indices if str(tensor.element_type) == "i32" else floats)
    whole, *parts = run_program(compile(program, kernels=STORE), arguments)
    for window, part in zip(chosen, parts, strict=True):
        inside = tuple(slice(start, start + size) for start, size in window)
        assert part.tobytes() == np.ascontiguousarray(whole[inside]).tobytes(), window


class FreePages(CountingModel):
    page_access = page_write = 0


SUM = program_of("select")


def search(instructions: int) -> TilingSearch:
    return TilingSearch(expression_of(SUM), Charge(instructions), FreePages())


def test_one_axis_is_cut_where_that_is_enough() -> None:
    tiling = search(6000).best(room=2100)
    assert tiling is not None
    assert (tiling.parts, tiling.sizes) == (3, (5, 2, 7))


def test_several_axes_are_cut_where_one_is_not_enough() -> None:
    tiling = search(21_000).best(room=500)
    assert tiling is not None
    assert tiling.parts == len(list(windows((5, 6, 7), tiling.sizes)))
    assert sum(size < extent for size, extent in zip(tiling.sizes, (5, 6, 7))) > 1
    assert np.prod(tiling.sizes) <= 4


def test_no_part_is_smaller_than_an_element() -> None:
    found = search(2_100_000)
    assert found.best(room=10_000) is None
    assert found.least_cost() == 10_100
