"""Tensors of rank above 6, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from single_node import check, check_model

SIZES = (2, 3, 2, 1, 2, 3, 2, 2)
X = np.random.default_rng(12).normal(size=(24, 12)).astype(np.float32)


def between(body: str, result: int = 1) -> onnx.ModelProto:
    """x [24, 12] as h of rank 8, then the body, which makes y of it, flattened."""
    sizes = ", ".join(map(str, SIZES))
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        main (float[24, 12] x) => (float[{result}] z) {{
            shape = Constant <value_ints = [{sizes}]> ()
            flat = Constant <value_ints = [{result}]> ()
            h = Reshape (x, shape)
            {body}
            z = Reshape (y, flat)
        }}""")


BODIES = {
    "unary": ("y = Tanh (h)", 288),
    "cast": ("t = Cast <to = 6> (h) y = Cast <to = 1> (t)", 288),
    "transpose": ("y = Transpose <perm = [0, 2, 4, 6, 1, 3, 5, 7]> (h)", 288),
    "window_partition": ("y = Transpose <perm = [0, 1, 4, 5, 2, 3, 6, 7]> (h)", 288),
    "broadcast": ("m = ReduceMean <axes = [2, 4, 5]> (h) y = Sub (h, m)", 288),
    "broadcast_of_low_rank": ("c = Constant <value_floats = [2.0, -3.0]> () y = Mul (h, c)", 288),
    "reduce_all": ("y = ReduceSum (h)", 1),
    "reduce_and_drop": ("y = ReduceMax <axes = [0, 1, 7], keepdims = 0> (h)", 24),
    "concat": ("y = Concat <axis = 5> (h, h)", 576),
    "split": ("a, b = Split <axis = 6> (h) y = Sub (a, b)", 144),
    "pad": (
        "p = Constant <value_ints = [0,1,0,0,0,0,0,0, 0,0,0,0,0,2,0,0]> () y = Pad (h, p)",
        288 // 9 * 4 * 5,
    ),
    "tile": ("n = Constant <value_ints = [1,1,1,4,1,1,1,2]> () y = Tile (h, n)", 288 * 8),
    "reverse": (
        "s = Constant <value_ints = [-1]> () e = Constant <value_ints = [-10]> () "
        "a = Constant <value_ints = [1]> () y = Slice (h, s, e, a, s)",
        288,
    ),
    "constant": ("l = Less (h, h) n = Not (l) c = Cast <to = 1> (n) y = Add (h, c)", 288),
    "gather": ("i = Constant <value_ints = [2, 0]> () y = Gather <axis = 5> (h, i)", 192),
    "argmax": ("i = ArgMax <axis = 2> (h) y = Cast <to = 1> (i)", 144),
    "last_argmin": (
        "n = Cast <to = 6> (h) i = ArgMin <axis = -3, select_last_index = 1> (n) y = Cast <to = 1> (i)",
        96,
    ),
    "softmax": ("y = Softmax <axis = 5> (h)", 288),
}


@pytest.mark.parametrize("name", BODIES)
def test_dimensions_that_go_together_are_merged(name: str) -> None:
    check_model(between(*BODIES[name]), {"x": X})


APART = {
    "back_to_front": ("y = Transpose <perm = [7, 6, 5, 4, 3, 2, 1, 0]> (h)", 288),
    "every_other": ("y = Transpose <perm = [6, 1, 4, 7, 2, 5, 0, 3]> (h)", 288),
    "slice": (
        "s = Constant <value_ints = [0,1,1,0,1,1,0,1]> () e = Constant <value_ints = [1,3,2,1,2,3,1,2]> () "
        "y = Slice (h, s, e)",
        4,
    ),
    "pad": (
        "p = Constant <value_ints = [1,0,1,2,0,1,0,1, 0,1,0,0,1,1,2,0]> () y = Pad (h, p)",
        3 * 4 * 3 * 3 * 3 * 5 * 4 * 3,
    ),
    "tile": ("n = Constant <value_ints = [2,1,3,2,1,2,1,2]> () y = Tile (h, n)", 288 * 48),
    "broadcast": ("m = ReduceMean <axes = [0, 2, 4, 6]> (h) y = Sub (h, m)", 288),
    "both_ways": (
        "a = ReduceMean <axes = [0, 2, 4, 6]> (h) b = ReduceMean <axes = [1, 5, 7]> (h) y = Sub (a, b)",
        288,
    ),
    "reduce": ("y = ReduceMax <axes = [0, 2, 4, 7]> (h)", 18),
    "hardmax": ("y = Hardmax <axis = 5> (h)", 288),
}


@pytest.mark.parametrize("name", APART)
def test_dimensions_that_do_not_go_together_take_several_steps(name: str) -> None:
    check_model(between(*APART[name]), {"x": X})


def test_a_result_of_the_model_may_be_of_any_rank() -> None:
    model = between("y = Tanh (h)", 288)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, SIZES),
    )
    check_model(model, {"x": X})


def test_an_input_of_the_model_may_be_of_any_rank() -> None:
    check("Transpose", {"x": X.reshape(SIZES)}, perm=[0, 2, 4, 6, 1, 3, 5, 7])
