"""Large tensors stay in the file: what protobuf parses is small, and every tensor keeps its values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from frontend_models import model
from tosaic.frontend.model_file import read_model
from tosaic.frontend.wire import LARGE_BYTES, MalformedError, detach_large_tensors

LARGE = np.arange(LARGE_BYTES, dtype=np.float32)


def detached(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(detach_large_tensors(memoryview(proto.SerializeToString())))


def with_initializer(array: np.ndarray) -> onnx.ModelProto:
    proto = model(f"g (float[{LARGE.size}] x) => (float[{LARGE.size}] y) {{ y = Add(x, w) }}")
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    return proto


def test_a_large_tensor_is_replaced_by_its_place_in_the_buffer() -> None:
    proto = with_initializer(LARGE)
    buffer = proto.SerializeToString()
    tensor = onnx.ModelProto.FromString(detach_large_tensors(memoryview(buffer))).graph.initializer[0]
    place = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(place["offset"]), int(place["length"])
    assert buffer[offset : offset + length] == LARGE.tobytes()


def test_the_rest_is_unchanged() -> None:
    proto = with_initializer(LARGE)
    rest = detached(proto)
    del rest.graph.initializer[:]
    del proto.graph.initializer[:]
    assert rest == proto


def test_small_tensors_stay() -> None:
    proto = with_initializer(LARGE[:4])
    assert detached(proto) == proto


def test_a_later_default_data_location_does_not_undo_it() -> None:
    proto = with_initializer(LARGE)
    proto.graph.initializer[0].data_location = onnx.TensorProto.DEFAULT
    assert detached(proto).graph.initializer[0].data_location == onnx.TensorProto.EXTERNAL


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph"])
def test_values_are_those_of_the_file(where: str) -> None:
    tensor = numpy_helper.from_array(LARGE, "w")
    proto = model(f"g (bool c) => (float[{LARGE.size}] y) {{ y = Identity(w) }}")
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    output = [helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, LARGE.shape)]
    if where == "initializer":
        proto.graph.initializer.append(tensor)
    elif where == "attribute":
        proto.graph.node.insert(0, constant)
    else:
        branch = helper.make_graph([constant], "branch", [], output)
        choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        proto.graph.node[0].CopyFrom(choice)
    read, store = read_model(proto.SerializeToString())
    nodes = read.graph.node[0].attribute[0].g.node if where == "subgraph" else read.graph.node
    held = read.graph.initializer[0] if where == "initializer" else nodes[0].attribute[0].t
    np.testing.assert_array_equal(store.array(held), LARGE)


def test_arrays_are_views_of_the_bytes() -> None:
    content = with_initializer(LARGE).SerializeToString()
    read, store = read_model(content)
    array = store.array(read.graph.initializer[0])
    assert np.shares_memory(array, np.frombuffer(content, np.uint8))


@pytest.mark.parametrize("content", [b"\x0f", b"\x0a\x05ab", b"\x80" * 12, b"\x08"])
def test_malformed_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        detach_large_tensors(memoryview(content))
