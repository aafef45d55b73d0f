"""Every shape becomes static, and what is constant is folded, without making large constants of small ones."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from torch_mlir import ir

from frontend_models import model
from tosaic.frontend import load
from tosaic_passes.program import Program

COUNTED = "g (float[2] x) => (float[2] last, float[N, 2] all) { n = Constant<value_int = 3>() "


def operations(program: Program) -> list[str]:
    return [op.name for op in block(program)][:-1]


def block(program: Program) -> list[ir.Operation]:
    return [op.operation for op in program.module.body.operations[0].body.blocks[0]]


def result_types(program: Program) -> list[str]:
    returned = block(program)[-1]
    return [str(operand.type) for operand in returned.operands]


def only_constant(program: Program) -> np.ndarray:
    (constant,) = [op for op in block(program) if op.name == "onnx.Constant"]
    return program.weights.array(constant.attributes["value"])


def test_a_shape_computation_folds_to_its_constant() -> None:
    graph = """g (float[N, C, H, W] x) => (float[A, B] y) {
       shape = Shape(x)
       zero = Constant<value_int = 0>()
       batch = Gather(shape, zero)
       axes = Constant<value_ints = [0]>()
       row = Unsqueeze(batch, axes)
       rest = Constant<value_ints = [-1]>()
       target = Concat<axis = 0>(row, rest)
       y = Reshape(x, target)
    }"""
    program = load(model(graph), input_shapes={"x": [2, 3, 4, 5]})
    assert operations(program) == ["onnx.Constant", "onnx.Reshape"]
    np.testing.assert_array_equal(only_constant(program), [2, -1])
    assert result_types(program) == ["tensor<2x60xf32>"]


def test_a_constant_input_is_folded_and_leaves_the_signature() -> None:
    graph = (
        "g (float[4] x, int64[1] k) => (float[N] y) { s = Constant<value_ints = [0]>() y = Slice(x, s, k) }"
    )
    program = load(model(graph), constants={"k": np.array([3])})
    assert "func.func @main(%arg0: tensor<4xf32>" in str(program.module)
    assert result_types(program) == ["tensor<3xf32>"]


def test_dims_bind_in_every_input() -> None:
    graph = "g (float[n, 2] x, float[n, 2] z) => (float[n, 2] y) { y = Add(x, z) }"
    assert result_types(load(model(graph), dims={"n": 5})) == ["tensor<5x2xf32>"]


def test_the_only_input_needs_no_name() -> None:
    graph = "g (float[n, m] x) => (float[n, m] y) { y = Neg(x) }"
    program = load(model(graph), input_shapes={None: [None, 7]}, dims={"n": 5})
    assert result_types(program) == ["tensor<5x7xf32>"]


def test_batch_size_binds_the_first_unknown_dimension() -> None:
    graph = "g (float[2, n, 3] x) => (float[2, n, 3] y) { y = Neg(x) }"
    assert result_types(load(model(graph), batch_size=4)) == ["tensor<2x4x3xf32>"]


def test_a_small_constant_does_not_grow_into_a_large_one() -> None:
    graph = "g (float[1024, 1024] x) => (float[1024, 1024] y) <float[1] one = {1}> {"
    large = "s = Constant<value_ints = [1024, 1024]>() m = Expand(one, s) y = Add(x, m) }"
    assert "onnx.Expand" in operations(load(model(graph + large)))


def test_quantised_weights_stay_quantised() -> None:
    graph = "g (float[2] x) => (float[2] y) <int8[2] q = {1, 2}, float s = {0.5}> {"
    program = load(model(graph + " w = DequantizeLinear(q, s) y = Add(x, w) }"))
    assert "onnx.DequantizeLinear" in operations(program)


def test_random_numbers_are_not_folded() -> None:
    graph = "g (float[2] x) => (float[2] y) { r = RandomUniform<shape = [2]>() y = Add(x, r) }"
    assert "onnx.RandomUniform" in operations(load(model(graph)))


def test_a_folded_output_is_returned_as_a_constant() -> None:
    program = load(model("g (float[N, 2] x) => (int64[2] y) { y = Shape(x) }"), batch_size=3)
    np.testing.assert_array_equal(only_constant(program), [3, 2])


def test_several_results_fold() -> None:
    graph = "g (float[2] x) => (float[2] y) <float[4] w = {1, 2, 3, 4}> { a, b = Split(w) y = Mul(a, b) }"
    program = load(model(graph))
    np.testing.assert_array_equal(only_constant(program), [3, 8])


def test_the_models_own_statement_counts_where_a_shape_depends_on_data() -> None:
    program = load(model("g (float[4] x) => (int64[1, 3] y) { y = NonZero(x) }"))
    assert result_types(program) == ["tensor<1x3xi64>"]


def test_inference_knows_the_true_default_of_stft() -> None:
    graph = """g (float[1, 128, 1] x) => (float[1, F, B, 2] y) {
       step = Constant<value_int = 8>()
       length = Constant<value_int = 16>()
       y = STFT(x, step, , length)
    }"""
    assert result_types(load(model(graph))) == ["tensor<1x15x9x2xf32>"]


# Control flow

BRANCHES = (
    """then_branch = t () => (float[2] a) { a = Neg(x) }, else_branch = e () => (float[2] b) { b = Abs(x) }"""
)


@pytest.mark.parametrize(("condition", "taken"), [(1, "onnx.Neg"), (0, "onnx.Abs")])
def test_a_constant_condition_leaves_the_branch_taken(condition: int, taken: str) -> None:
    graph = f"g (float[2] x) => (float[2] y) <bool c = {{{condition}}}> {{ y = If(c) <{BRANCHES}> }}"
    assert operations(load(model(graph))) == [taken]


def test_branches_become_regions_that_yield() -> None:
    text = str(load(model(f"g (float[2] x, bool c) => (float[2] y) {{ y = If(c) <{BRANCHES}> }}")).module)
    then, otherwise = text.split('"onnx.If"')[1].split("}, {")
    assert '"onnx.Neg"(%arg0)' in then
    assert '"onnx.Abs"(%arg0)' in otherwise
    assert text.count('"onnx.Yield"') == 2


def test_branches_of_different_shapes_are_refused() -> None:
    branches = BRANCHES.replace("b = Abs(x)", "b = Concat<axis = 0>(x, x)")
    graph = f"g (float[2] x, bool c) => (float[N] y) {{ [choice] y = If(c) <{branches}> }}"
    with pytest.raises(Exception, match=r"If node 'choice': its branches give float32\[2\] and float32\[4\]"):
        load(model(graph))


def test_a_branch_without_static_shapes_is_refused() -> None:
    branches = BRANCHES.replace("b = Abs(x)", "n = NonZero(x) b = Gather(x, n)")
    graph = f"g (float[2] x, bool c) => (float[N] y) {{ [choice] y = If(c) <{branches}> }}"
    with pytest.raises(Exception, match="If node 'choice': data decides whether its else branch is taken"):
        load(model(graph))


LOOP = """last, all = Loop(n, , x) <body = b (int64 i, bool c, float[2] s) => (bool c, float[2] t, float[2] u) {
    t = Neg(s) u = Identity(t) }> }"""


def test_a_loop_of_known_length_stacks_its_scan_outputs() -> None:
    assert result_types(load(model(COUNTED + LOOP))) == ["tensor<2xf32>", "tensor<3x2xf32>"]


def test_a_loop_whose_length_depends_on_data_is_refused() -> None:
    graph = "g (float[2] x, int64 n) => (float[2] last, float[N, 2] all) {" + LOOP
    with pytest.raises(Exception, match="the shape of its result 'all' depends on the values"):
        load(model(graph))


def test_a_loop_state_that_changes_its_shape_is_refused() -> None:
    growing = LOOP.replace("t = Neg(s)", "t = Concat<axis = 0>(s, s)").replace("float[2] t", "float[N] t")
    with pytest.raises(Exception, match=r"its state 'x' changes from float32\[2\] to float32\[4\]"):
        load(model(COUNTED + growing))


def test_a_scan_stacks_along_its_axes() -> None:
    graph = """g (float[2] s, float[2, 5] x) => (float[2] z, float[2, 5] y) {
       z, y = Scan(s, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],
           body = b (float[2] a, float[2] e) => (float[2] a2, float[2] o) { a2 = Add(a, e) o = Neg(a2) }> }"""
    assert result_types(load(model(graph))) == ["tensor<2xf32>", "tensor<2x5xf32>"]


def test_constants_inside_a_region_stand_before_it() -> None:
    branches = BRANCHES.replace("a = Neg(x)", "k = Constant<value_floats = [1.0, 2.0]>() a = Add(x, k)")
    program = load(model(f"g (float[2] x, bool c) => (float[2] y) {{ y = If(c) <{branches}> }}"))
    assert operations(program) == ["onnx.Constant", "onnx.If"]


# Size


def test_a_graph_of_five_thousand_nodes_is_imported() -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(model("g (float[4] x) => (float[4] y) { y = Neg(x) }"))
    names = ["x", *(f"v{index}" for index in range(4999)), "y"]
    del proto.graph.node[:]
    proto.graph.node.extend(
        onnx.helper.make_node("Neg", [before], [after]) for before, after in itertools.pairwise(names)
    )
    assert len(operations(load(proto))) == 5000


@pytest.mark.parametrize(
    ("indices", "places"), [([1, 5], [1, 5]), ([[0, 1], [1, 2]], [1, 5])], ids=["flat", "by axis"]
)
def test_a_sparse_initializer_becomes_dense(indices: list, places: list[int]) -> None:
    proto = model("g () => (float[2, 3] w) { }")
    sparse = proto.graph.sparse_initializer.add(dims=[2, 3])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([4, 7], np.float32), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array(indices), "at"))
    dense = only_constant(load(proto))
    assert dense.shape == (2, 3)
    assert np.flatnonzero(dense).tolist() == places
    assert dense.reshape(-1)[places].tolist() == [4, 7]
