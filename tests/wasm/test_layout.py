"""Which data movement costs a kernel call, and which is only another view."""

from torch_mlir import ir

from tosaic.wasm.grouping import clusters
from tosaic.wasm.layout import Layout, lay_out
from tosaic.wasm.program import border_itemsize
from tosaic.wasm.translate import read
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable


def layout(signature: str, results: str, *lines: str) -> Layout:
    context = ir.Context()
    context.allow_unregistered_dialects = True
    names, types = results.split(" : ")
    text = (
        f"func.func @main({signature}) -> ({types}) {{\n"
        + "\n".join(lines)
        + f"\nreturn {names} : {types}\n}}"
    )
    graph = read(Program(ir.Module.parse(text, context), WeightTable()))
    return lay_out(graph, clusters(graph), border_itemsize)


def calls(found: Layout) -> list[str]:
    return [call.request.op for work in found.works for call in work.calls]


ZERO = '%z = "tosa.const"() {values = dense<0.0> : tensor<1xf32>} : () -> tensor<1xf32>'


def shape(name: str, *numbers: int) -> str:
    text = f"dense<{list(numbers)}> : tensor<{len(numbers)}xindex>"
    return f"{name} = tosa.const_shape {{values = {text}}} : () -> !tosa.shape<{len(numbers)}>"


def matmul(result: str, a: str, b: str) -> str:
    types = "(tensor<1x8x8xf32>, tensor<1x8x8xf32>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x8x8xf32>"
    return f"{result} = tosa.matmul {a}, {b}, %z, %z : {types}"


def test_reshape_and_slice_between_kernels_are_free():
    found = layout(
        "%x: tensor<6x8xf32>",
        "%3 : tensor<2x8xf32>",
        shape("%s", 2, 3, 8),
        shape("%t", 2, 8),
        shape("%o", 0, 1, 0),
        shape("%n", 2, 1, 8),
        "%0 = tosa.exp %x : (tensor<6x8xf32>) -> tensor<6x8xf32>",
        "%1 = tosa.reshape %0, %s : (tensor<6x8xf32>, !tosa.shape<3>) -> tensor<2x3x8xf32>",
        "%2 = tosa.slice %1, %o, %n : (tensor<2x3x8xf32>, !tosa.shape<3>, !tosa.shape<3>) -> tensor<2x1x8xf32>",
        "%r = tosa.reshape %2, %t : (tensor<2x1x8xf32>, !tosa.shape<2>) -> tensor<2x8xf32>",
        "%3 = tosa.abs %r : (tensor<2x8xf32>) -> tensor<2x8xf32>",
    )
    assert calls(found) == ["elementwise", "elementwise"]


def test_transposed_operand_of_a_product_is_read_where_it_lies():
    found = layout(
        "%x: tensor<1x8x8xf32>",
        "%1 : tensor<1x8x8xf32>",
        ZERO,
        "%0 = tosa.transpose %x {perms = array<i32: 0, 2, 1>} : (tensor<1x8x8xf32>) -> tensor<1x8x8xf32>",
        matmul("%1", "%x", "%0"),
    )
    assert calls(found) == ["matmul"]


def test_parts_are_computed_where_their_concatenation_wants_them():
    found = layout(
        "%x: tensor<1x8x8xf32>",
        "%2 : tensor<1x8x16xf32>",
        ZERO,
        matmul("%0", "%x", "%x"),
        matmul("%1", "%x", "%0"),
        "%2 = tosa.concat %0, %1 {axis = 2 : i32} : (tensor<1x8x8xf32>, tensor<1x8x8xf32>) -> tensor<1x8x16xf32>",
    )
    assert calls(found) == ["matmul", "matmul"]


def test_concatenation_of_what_lies_side_by_side_is_a_window():
    pair = "(tensor<1x8x8xf32>, tensor<1x8x8xf32>) -> tensor<1x8x16xf32>"
    triple = "(tensor<1x8x8xf32>, tensor<1x8x8xf32>, tensor<1x8x8xf32>) -> tensor<1x8x24xf32>"
    found = layout(
        "%x: tensor<1x8x8xf32>",
        "%4, %5 : tensor<1x8x16xf32>, tensor<1x8x24xf32>",
        ZERO,
        matmul("%0", "%x", "%x"),
        matmul("%1", "%x", "%0"),
        f"%2 = tosa.concat %0, %1 {{axis = 2 : i32}} : {pair}",
        matmul("%3", "%1", "%1"),
        "%4 = tosa.abs %2 : (tensor<1x8x16xf32>) -> tensor<1x8x16xf32>",
        f"%5 = tosa.concat %0, %1, %3 {{axis = 2 : i32}} : {triple}",
    )
    assert calls(found) == ["matmul", "matmul", "matmul", "elementwise"]


def test_result_of_the_program_is_dense():
    found = layout(
        "%x: tensor<4x8xf32>",
        "%1 : tensor<8x4xf32>",
        "%0 = tosa.exp %x : (tensor<4x8xf32>) -> tensor<4x8xf32>",
        "%1 = tosa.transpose %0 {perms = array<i32: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>",
    )
    assert found.outputs[0].window.view.is_contiguous
    assert found.outputs[0].buffer.bytes == 128


def test_elementwise_result_takes_the_place_of_its_operand():
    found = layout(
        "%x: tensor<1x8x8xf32>",
        "%5 : tensor<1x8x8xf32>",
        ZERO,
        matmul("%0", "%x", "%x"),
        "%1 = tosa.exp %0 : (tensor<1x8x8xf32>) -> tensor<1x8x8xf32>",
        matmul("%5", "%1", "%x"),
    )
    product, exponential, _ = (call for work in found.works for call in work.calls)
    assert exponential.places[0].buffer is exponential.places[1].buffer is product.places[-1].buffer


def test_operand_that_is_read_later_is_not_overwritten():
    found = layout(
        "%x: tensor<1x8x8xf32>",
        "%5 : tensor<1x8x8xf32>",
        ZERO,
        matmul("%0", "%x", "%x"),
        "%1 = tosa.exp %0 : (tensor<1x8x8xf32>) -> tensor<1x8x8xf32>",
        matmul("%5", "%1", "%0"),
    )
    _, exponential, _ = (call for work in found.works for call in work.calls)
    assert exponential.places[0].buffer is not exponential.places[1].buffer


def exponentials(minuend: str) -> list[dict]:
    """The attributes of the exponentials of something less the row maxima of %x."""
    found = layout(
        "%x: tensor<6x8xf32>, %y: tensor<6x8xf32>",
        "%2 : tensor<6x8xf32>",
        "%0 = tosa.reduce_max %x {axis = 1 : i32} : (tensor<6x8xf32>) -> tensor<6x1xf32>",
        f"%1 = tosa.sub {minuend}, %0 : (tensor<6x8xf32>, tensor<6x1xf32>) -> tensor<6x8xf32>",
        "%2 = tosa.exp %1 : (tensor<6x8xf32>) -> tensor<6x8xf32>",
    )
    expressions = [call.request.epilogue for work in found.works for call in work.calls]
    return [
        dict(node[2])
        for expression in expressions
        if expression
        for node in expression.nodes
        if node[0] == "exp"
    ]


def test_what_is_less_its_own_maximum_is_never_positive():
    assert exponentials("%x") == [{"never_positive": True}]
    assert exponentials("%y") == [{}]
