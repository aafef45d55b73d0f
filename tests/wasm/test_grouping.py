"""Which ops share a kernel, seen in `ic.kernel`."""

from torch_mlir import ir

from tosaic.wasm.grouping import clusters
from tosaic.wasm.translate import read
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

T = "tensor<1x4x4x8xf32>"
CONV = """
  %w = "tosa.const"() {values = dense<0.5> : tensor<8x1x1x8xf32>} : () -> tensor<8x1x1x8xf32>
  %b = "tosa.const"() {values = dense<0.0> : tensor<8xf32>} : () -> tensor<8xf32>
  %z = "tosa.const"() {values = dense<0.0> : tensor<1xf32>} : () -> tensor<1xf32>
"""


def conv(result: str, operand: str) -> str:
    return (
        f"{result} = tosa.conv2d {operand}, %w, %b, %z, %z {{pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>,"
        f" dilation = array<i64: 1, 1>, acc_type = f32}} : ({T}, tensor<8x1x1x8xf32>, tensor<8xf32>, tensor<1xf32>,"
        f" tensor<1xf32>) -> {T}\n"
    )


def unary(result: str, op: str, operand: str) -> str:
    return f"{result} = tosa.{op} {operand} : ({T}) -> {T}\n"


def binary(result: str, op: str, a: str, b: str) -> str:
    return f"{result} = tosa.{op} {a}, {b} : ({T}, {T}) -> {T}\n"


def program(*lines: str, results: str = "%r") -> Program:
    count = results.count("%")
    types = ", ".join([T] * count)
    body = CONV + "".join(lines)
    context = ir.Context()
    context.allow_unregistered_dialects = True
    text = f"func.func @main(%x: {T}, %y: {T}) -> ({types}) {{\n{body}\nreturn {results} : {types}\n}}"
    return Program(ir.Module.parse(text, context), WeightTable())


def kernels(program: Program) -> list[str]:
    """The ops of each kernel, in the order of execution."""
    return [" ".join(node.op for node in cluster.nodes) for cluster in clusters(read(program))]


def test_chain_of_elementwise_ops_is_one_kernel():
    assert kernels(program(unary("%0", "exp", "%x"), binary("%r", "add", "%0", "%y"))) == ["exp add"]


def reduction(result: str, operand: str) -> str:
    """Of [1, 4, 4, 8], broadcast back to it by the addition that makes the result."""
    sums = "tensor<1x4x4x1xf32>"
    return (
        f"%sums = tosa.reduce_sum {operand} {{axis = 3 : i32}} : ({T}) -> {sums}\n"
        f"{result} = tosa.add %x, %sums : ({T}, {sums}) -> {T}\n"
    )


def test_elementwise_ops_that_only_a_reduction_reads_are_computed_on_its_way():
    lines = unary("%0", "abs", "%x"), binary("%1", "sub", "%0", "%y"), reduction("%r", "%1")
    assert kernels(program(*lines)) == ["abs sub reduce_sum", "add"]


def test_what_others_read_too_is_no_prologue():
    lines = unary("%0", "abs", "%x"), reduction("%1", "%0"), binary("%r", "add", "%0", "%1")
    assert kernels(program(*lines)) == ["abs", "reduce_sum", "add add"]
    lines = unary("%0", "abs", "%x"), reduction("%r", "%0")
    assert kernels(program(*lines, results="%r, %0")) == ["abs", "reduce_sum", "add"]


def test_long_sequences_are_no_prologue():
    assert kernels(program(unary("%0", "exp", "%x"), reduction("%r", "%0"))) == ["exp", "reduce_sum", "add"]


def test_elementwise_ops_go_into_the_product_before_them():
    lines = conv("%0", "%x"), binary("%1", "add", "%0", "%y"), unary("%r", "abs", "%1")
    assert kernels(program(*lines)) == ["conv2d add abs"]


def test_value_used_twice_inside_one_kernel_is_never_stored():
    lines = conv("%0", "%x"), unary("%1", "abs", "%0"), binary("%r", "add", "%0", "%1")
    assert kernels(program(*lines)) == ["conv2d abs add"]


def test_value_read_by_another_kernel_ends_the_chain():
    lines = conv("%0", "%x"), unary("%1", "abs", "%0"), conv("%2", "%0"), binary("%r", "add", "%1", "%2")
    assert kernels(program(*lines)) == ["conv2d", "conv2d abs add"]


def test_result_of_the_program_ends_the_chain():
    lines = conv("%0", "%x"), unary("%r", "abs", "%0")
    assert kernels(program(*lines, results="%0, %r")) == ["conv2d", "abs"]


def test_sum_of_two_products_belongs_to_the_later_one():
    lines = conv("%0", "%x"), conv("%1", "%y"), binary("%r", "add", "%0", "%1")
    assert kernels(program(*lines)) == ["conv2d", "conv2d add"]


def test_long_sequences_stay_out_of_register_tiles():
    lines = conv("%0", "%x"), unary("%1", "sigmoid", "%0"), binary("%r", "add", "%0", "%1")
    assert kernels(program(*lines)) == ["conv2d", "sigmoid add"]


def test_elementwise_operand_of_a_root_is_a_kernel_of_its_own():
    assert kernels(program(unary("%0", "abs", "%x"), conv("%r", "%0"))) == ["abs", "conv2d"]


def test_numbers_are_obeyed():
    fused = unary("%0", "abs", "%x"), unary("%r", "abs", "%0")
    given = program(*(line.replace(" :", f" {{ic.kernel = {i} : i64}} :") for i, line in enumerate(fused)))
    assert kernels(given) == ["abs", "abs"]


def test_grouping_again_changes_nothing():
    lines = conv("%0", "%x"), unary("%1", "abs", "%y"), conv("%2", "%1"), binary("%r", "add", "%0", "%2")
    once = program(*lines)
    first = kernels(once)
    assert kernels(once) == first
