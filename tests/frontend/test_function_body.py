"""Operators without a lowering become what their schema says they are made of."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tosaic.frontend import load


def softmax_loss(opset: int) -> onnx.ModelProto:
    node = helper.make_node("SoftmaxCrossEntropyLoss", ["x", "t"], ["y"], name="loss", reduction="sum")
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5]),
            helper.make_tensor_value_info("t", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def is_not(*names: str):
    return lambda op, domain, opset: op not in names


def test_operator_with_lowering_stays() -> None:
    assert "onnx.SoftmaxCrossEntropyLoss" in str(load(softmax_loss(13), is_lowered=is_not()).module)


def test_operator_without_lowering_becomes_its_body() -> None:
    program = load(softmax_loss(13), is_lowered=is_not("SoftmaxCrossEntropyLoss"))
    assert "onnx.SoftmaxCrossEntropyLoss" not in str(program.module)
    assert 'reduction = "sum"' in str(program.module)


def test_bodies_of_bodies_are_taken_apart() -> None:
    missing = is_not("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
    text = str(load(softmax_loss(13), is_lowered=missing).module)
    assert "onnx.NegativeLogLikelihoodLoss" not in text
    assert "onnx.GatherElements" in text


def test_nodes_of_a_body_keep_their_own_opset() -> None:
    text = str(load(softmax_loss(21), is_lowered=is_not("SoftmaxCrossEntropyLoss")).module)
    assert "onnx_opset = 13 : si64" in text


def test_operands_left_out_are_absent_in_the_body() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"], name="clip")
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [onnx.numpy_helper.from_array(np.array(2, np.float32), "high")],
    )
    clip = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    text = str(load(clip, is_lowered=is_not("Clip")).module)
    assert "onnx.Clip" not in text
    assert "onnx.Less" in text
