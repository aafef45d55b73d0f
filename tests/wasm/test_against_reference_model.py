"""Small programs of every kind of op: the same numbers in WebAssembly and on Arm's reference model."""

from dataclasses import dataclass

import numpy as np
import pytest
from torch_mlir import ir

import reference_model
from tosaic.prices import PriceList
from tosaic.wasm.kernel import KernelOptions
from tosaic.wasm.program import KernelStore, compile
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable
from wasm.program_runner import run_program

STORE = KernelStore(PriceList.load(), KernelOptions())
DTYPES = {"f32": "float32", "i8": "int8", "i16": "int16", "i32": "int32", "i1": "bool", "f16": "float16"}


@dataclass
class Case:
    """A program of one or a few ops; types are written as `1x8xf32`."""

    inputs: str
    lines: tuple[str, ...]
    result: str
    tolerance: float = 0.0

    def text(self) -> str:
        """The module, every `name: type` list spelled out."""
        types = [f"tensor<{word}>" for word in self.inputs.split()]
        arguments = ", ".join(f"%x{i}: {type}" for i, type in enumerate(types))
        border = f'{{ic.dtype = "{DTYPES[self.result.split("x")[-1]]}"}}'
        body = "\n".join(self.lines)
        result = f"tensor<{self.result}>"
        return f"func.func @main({arguments}) -> ({result} {border}) {{\n{body}\nreturn %r : {result}\n}}"


def const(name: str, type: str, values: str) -> str:
    return f'%{name} = "tosa.const"() {{values = dense<{values}> : tensor<{type}>}} : () -> tensor<{type}>'


def op(result: str, name: str, operands: str, types: str, to: str, attributes: str = "") -> str:
    """One op; `operands` and `types` are separated by blanks."""
    names = ", ".join(f"%{operand}" for operand in operands.split())
    listed = ", ".join(t if t.startswith("!") else f"tensor<{t}>" for t in types.split())
    return f"%{result} = tosa.{name} {names} {{{attributes}}} : ({listed}) -> tensor<{to}>"


def shape(name: str, *numbers: int) -> str:
    text = f"dense<{list(numbers)}> : tensor<{len(numbers)}xindex>"
    return f"%{name} = tosa.const_shape {{values = {text}}} : () -> !tosa.shape<{len(numbers)}>"


def weights(name: str, type: str, seed: int) -> str:
    """A constant of small whole numbers."""
    *sizes, element = type.split("x")
    array = np.random.default_rng(seed).integers(-9, 10, [int(size) for size in sizes])
    return const(name, type, str((array * 1.0 if element[0] == "f" else array).tolist()))


GEOMETRY = "pad = array<i64: 1, 1, 1, 1>, stride = array<i64: 1, 1>, dilation = array<i64: 1, 1>"
WINDOW = "kernel = array<i64: 3, 3>, stride = array<i64: 2, 2>, pad = array<i64: 1, 1, 1, 1>"
RESCALE = "scale32 = true, rounding_mode = SINGLE_ROUND, input_unsigned = false, output_unsigned = false"

QUANTISED = (
    weights("w", "8x3x3x5xi8", 1),
    weights("b", "8xi32", 2),
    const("z", "1xi8", "-7"),
    const("o", "1xi8", "0"),
    const("m", "8xi32", str([1 << 29 | i << 24 for i in range(8)])),
    const("s", "8xi8", str([34, 35, 36, 37, 34, 35, 36, 37])),
    const("iz", "1xi32", "0"),
    const("oz", "1xi8", "3"),
)
CONV_I8 = op(
    "a",
    "conv2d",
    "x0 w b z o",
    "1x6x7x5xi8 8x3x3x5xi8 8xi32 1xi8 1xi8",
    "1x6x7x8xi32",
    GEOMETRY + ", acc_type = i32",
)
TO_I8 = op(
    "q",
    "rescale",
    "a m s iz oz",
    "1x6x7x8xi32 8xi32 8xi8 1xi32 1xi8",
    "1x6x7x8xi8",
    RESCALE + ", per_channel = true",
)

CASES = {
    "conv2d and what follows in f32": Case(
        "1x6x7x5xf32 1x6x7x8xf32",
        (
            weights("w", "8x3x3x5xf32", 1),
            weights("b", "8xf32", 2),
            const("z", "1xf32", "0.0"),
            op(
                "a", "conv2d", "x0 w b z z", "1x6x7x5xf32 8x3x3x5xf32 8xf32 1xf32 1xf32", "1x6x7x8xf32",
                GEOMETRY + ", acc_type = f32",
            ),
            op("c", "add", "a x1", "1x6x7x8xf32 1x6x7x8xf32", "1x6x7x8xf32"),
            op("r", "clamp", "c", "1x6x7x8xf32", "1x6x7x8xf32", "min_val = 0.0 : f32, max_val = 6.0 : f32"),
        ),
        "1x6x7x8xf32",
        1e-5,
    ),
    "conv2d in i8, requantised per channel": Case(
        "1x6x7x5xi8", (*QUANTISED, CONV_I8, TO_I8, op("r", "identity", "q", "1x6x7x8xi8", "1x6x7x8xi8")), "1x6x7x8xi8"
    ),
    "conv2d in i8 with a residual": Case(
        "1x6x7x5xi8 1x6x7x8xi32",
        (*QUANTISED, CONV_I8, op("r", "add", "a x1", "1x6x7x8xi32 1x6x7x8xi32", "1x6x7x8xi32")),
        "1x6x7x8xi32",
    ),
    "depthwise_conv2d in i8": Case(
        "1x6x7x8xi8",
        (
            weights("w", "3x3x8x1xi8", 1),
            weights("b", "8xi32", 2),
            const("z", "1xi8", "5"),
            const("o", "1xi8", "0"),
            op(
                "r", "depthwise_conv2d", "x0 w b z o", "1x6x7x8xi8 3x3x8x1xi8 8xi32 1xi8 1xi8", "1x6x7x8xi32",
                GEOMETRY + ", acc_type = i32",
            ),
        ),
        "1x6x7x8xi32",
    ),
    "matmul in i8 with zero points": Case(
        "2x5x9xi8 2x9x6xi8",
        (
            const("a", "1xi8", "-3"),
            const("b", "1xi8", "4"),
            op("r", "matmul", "x0 x1 a b", "2x5x9xi8 2x9x6xi8 1xi8 1xi8", "2x5x6xi32"),
        ),
        "2x5x6xi32",
    ),
    "max_pool2d": Case(
        "1x7x7x5xf32", (op("r", "max_pool2d", "x0", "1x7x7x5xf32", "1x4x4x5xf32", WINDOW),), "1x4x4x5xf32"
    ),
    "avg_pool2d in i8": Case(
        "1x7x7x5xi8",
        (
            const("i", "1xi8", "-4"),
            const("o", "1xi8", "9"),
            op("r", "avg_pool2d", "x0 i o", "1x7x7x5xi8 1xi8 1xi8", "1x4x4x5xi8", WINDOW + ", acc_type = i32"),
        ),
        "1x4x4x5xi8",
    ),
    "negate in i8": Case(
        "3x5xi8",
        (const("i", "1xi8", "-4"), const("o", "1xi8", "9"), op("r", "negate", "x0 i o", "3x5xi8 1xi8 1xi8", "3x5xi8")),
        "3x5xi8",
    ),
    "mul in i32 with a shift": Case(
        "3x5xi32 3x5xi32",
        (const("s", "1xi8", "9"), op("r", "mul", "x0 x1 s", "3x5xi32 3x5xi32 1xi8", "3x5xi32")),
        "3x5xi32",
    ),
    "table in i8 after arithmetic": Case(
        "3x5xi8 3x5xi8",
        (
            const("t", "256xi8", str([(37 * i) % 256 - 128 for i in range(256)])),
            op("a", "bitwise_xor", "x0 x1", "3x5xi8 3x5xi8", "3x5xi8"),
            op("r", "table", "a t", "3x5xi8 256xi8", "3x5xi8"),
        ),
        "3x5xi8",
    ),
    "gather": Case(
        "2x9x5xf32",
        (
            const("i", "2x4xi32", "[[8, 0, 3, 3], [1, 2, 8, 0]]"),
            op("r", "gather", "x0 i", "2x9x5xf32 2x4xi32", "2x4x5xf32"),
        ),
        "2x4x5xf32",
    ),
    "scatter": Case(
        "2x9x5xf32 2x4x5xf32",
        (
            const("i", "2x4xi32", "[[8, 0, 3, 4], [1, 2, 8, 0]]"),
            op("r", "scatter", "x0 i x1", "2x9x5xf32 2x4xi32 2x4x5xf32", "2x9x5xf32"),
        ),
        "2x9x5xf32",
    ),
    "resize": Case(
        "1x4x5x3xf32",
        (
            shape("s", 4, 2, 4, 2),
            shape("o", 0, 0),
            shape("b", 2, 2),
            op(
                "r", "resize", "x0 s o b", "1x4x5x3xf32 !tosa.shape<4> !tosa.shape<2> !tosa.shape<2>", "1x8x10x3xf32",
                "mode = BILINEAR",
            ),
        ),
        "1x8x10x3xf32",
        1e-6,
    ),
    "argmax": Case("3x7x5xf32", (op("r", "argmax", "x0", "3x7x5xf32", "3x5xi32", "axis = 1 : i32"),), "3x5xi32"),
    "reduce_sum along a transposed axis": Case(
        "3x7x5xf32",
        (
            op("t", "transpose", "x0", "3x7x5xf32", "5x3x7xf32", "perms = array<i32: 2, 0, 1>"),
            op("r", "reduce_sum", "t", "5x3x7xf32", "5x1x7xf32", "axis = 1 : i32"),
        ),
        "5x1x7xf32",
        1e-5,
    ),
    "select of a comparison": Case(
        "3x5xf32 3x5xf32",
        (
            op("a", "greater", "x0 x1", "3x5xf32 3x5xf32", "3x5xi1"),
            op("r", "select", "a x0 x1", "3x5xi1 3x5xf32 3x5xf32", "3x5xf32"),
        ),
        "3x5xf32",
    ),
    "transpose_conv2d": Case(
        "1x4x5x3xf32",
        (
            weights("w", "6x3x3x3xf32", 1),
            weights("b", "6xf32", 2),
            const("z", "1xf32", "0.0"),
            op(
                "r", "transpose_conv2d", "x0 w b z z", "1x4x5x3xf32 6x3x3x3xf32 6xf32 1xf32 1xf32", "1x9x11x6xf32",
                "out_pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 2, 2>, acc_type = f32",
            ),
        ),
        "1x9x11x6xf32",
        1e-5,
    ),
    "cast to i8 saturates": Case("3x5xf32", (op("r", "cast", "x0", "3x5xf32", "3x5xi8"),), "3x5xi8"),
}  # fmt: skip


def arguments(inputs: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = []
    for word in inputs.split():
        *sizes, element = word.split("x")
        found.append(rng.integers(-100, 100, [int(s) for s in sizes]).astype(DTYPES[element]))
    return found


@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name):
    case = CASES[name]
    context = ir.Context()
    context.allow_unregistered_dialects = True
    program = Program(ir.Module.parse(case.text(), context), WeightTable())
    arrays = arguments(case.inputs)
    (expected,) = reference_model.run(program, arrays)
    (found,) = run_program(compile(program, kernels=STORE), arrays)
    np.testing.assert_allclose(found, expected, rtol=case.tolerance, atol=case.tolerance)
