"""What a user reads when a model is refused: the whole message, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import pytest

from frontend_models import HEADER, model
from tosaic.errors import TosaicError, UnsupportedNodesError
from tosaic.frontend import load

VALID = "g (float[2] x) => (float[2] y) { y = Neg(x) }"
AGAIN = "export or download it again"


def refusal(*arguments, **options) -> str:
    with pytest.raises(TosaicError) as caught:
        load(*arguments, **options)
    return str(caught.value)


def written(folder: Path, content: bytes, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# Files


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert refusal(path) == f"'{path}' does not exist"


def test_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"'{tmp_path}' is a directory; give the .onnx file in it"


def test_empty_file(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    assert refusal(path) == f"'{path}' is empty; export or download the model again"


def test_not_onnx(tmp_path: Path) -> None:
    path = written(tmp_path, b"this is a text and no model")
    assert refusal(path) == f"'{path}' is not an ONNX file, or is truncated; {AGAIN}"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04 and more", "an archive, as PyTorch writes them; export the model to ONNX"),
        (
            b"\x1c\0\0\0TFL3 and more",
            "a TFLite model; make TOSA of it with the package tosa-converter-for-tflite",
        ),
        (b"\x08\0\0\0TOSA and more", "a TOSA flatbuffer; make MLIR of it: tosa-opt --tosa-deserialize"),
        (b"ML\xefR and more", "MLIR bytecode; give it the suffix .mlirbc"),
    ],
)
def test_another_format(content: bytes, what: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    assert refusal(path).startswith(f"'{path}' is not an ONNX file, but {what}")


def test_a_model_whose_producer_looks_like_another_format() -> None:
    proto = model("g (float[3] x) => (float[3] y) { y = Neg(x) }")
    proto.producer_name = "TOSAIC"
    assert proto.SerializeToString()[4:8] == b"TOSA"
    load(proto.SerializeToString())


def test_another_protobuf(tmp_path: Path) -> None:
    path = written(tmp_path, onnx.ModelProto(producer_name="nobody").SerializeToString())
    assert refusal(path) == f"'{path}' is not an ONNX file: it has no graph; {AGAIN}"


def test_truncated_in_the_weights(tmp_path: Path) -> None:
    proto = model("g (float[9999] x) => (float[9999] y) { y = Add(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(9999, np.float32), "w"))
    path = written(tmp_path, proto.SerializeToString()[:-1000])
    assert refusal(path) == f"'{path}' is not an ONNX file, or is truncated; {AGAIN}"


def test_bytes_that_are_not_onnx() -> None:
    assert refusal(b"\xff\xff") == f"the model is not an ONNX file, or is truncated; {AGAIN}"


def test_not_onnx_text(tmp_path: Path) -> None:
    path = written(tmp_path, b"func.func @main()", "m.onnxtxt")
    assert refusal(path) == (
        f"'{path}' is not ONNX text: ParseError at position (line: 1 column: 5): Expected character = not found."
    )


def test_refused_by_the_checker() -> None:
    proto = model(VALID)
    proto.graph.node[0].input[0] = "nowhere"
    assert refusal(proto) == (
        "the model is not valid ONNX: Nodes in a graph must be topologically sorted, however input 'nowhere' "
        "of node: "
    )


def test_an_output_that_no_node_computes() -> None:
    proto = model(VALID)
    proto.graph.output[0].name = "z"
    assert refusal(proto) == (
        "the model is not valid ONNX: Graph output 'z' is not an output of any node in graph."
    )


@pytest.mark.parametrize(("name", "broken"), [(b"\x03Neg", b"\x03N\xffg"), (b"\x01x", b"\x01\xff")])
def test_a_name_that_is_no_text(name: bytes, broken: bytes) -> None:
    content = model(VALID).SerializeToString().replace(name, broken)
    assert refusal(content) == "the model is not valid ONNX: a name in it is not UTF-8"


def test_an_unknown_element_type() -> None:
    proto = model(VALID)
    proto.graph.input[0].type.tensor_type.elem_type = 55
    assert refusal(proto) == "input 'x' has elements of kind 55, which ONNX does not know"


def test_an_unknown_element_type_of_an_output_is_not_looked_at() -> None:
    proto = model(VALID)
    proto.graph.output[0].type.tensor_type.elem_type = 55
    load(proto)


def test_an_attribute_that_is_no_text() -> None:
    proto = model('g (float[2] x) => (float[2, 2] y) { [node] y = Einsum <equation = "i,j->ij"> (x, x) }')
    proto.graph.node[0].attribute[0].s = b"i,j->ij\xff"
    assert "Einsum node 'node': its attribute 'equation' is not UTF-8" in refusal(proto)


def test_a_weight_whose_data_are_missing() -> None:
    proto = model("g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }")
    proto.graph.initializer[0].dims[0] = 3
    assert refusal(proto) == (
        "the data of tensor 'w' do not fit its shape [3]; export or download the model again"
    )


def test_a_constant_without_a_value() -> None:
    proto = model(
        "g (float[2] x) => (float[2] y) { [node] c = Constant <value_float = 1.0> () y = Add(x, c) }"
    )
    del proto.graph.node[0].attribute[:]
    assert "Constant node 'node': it has no value" in refusal(proto)


def test_a_negative_dimension_is_not_known() -> None:
    proto = model("g (float[2] x) => (int64[1, 1] y) { y = NonZero(x) }")
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = -3
    assert "depends on the values of its operands" in refusal(proto)


def test_an_attribute_of_another_kind() -> None:
    proto = model("g (float[2] x) => (float[2] y) { [node] y = com.microsoft.Gelu(x) }")
    kinds = onnx.AttributeProto
    proto.graph.node[0].attribute.add(name="what", type=kinds.TYPE_PROTO, tp=onnx.TypeProto())
    assert "Gelu node 'node': its attribute 'what' is a type proto" in refusal(proto)


# External data


def external(folder: Path, location: str = "m.data", length: int = 8) -> Path:
    """A model whose weight `w` of eight bytes is said to lie at byte 4096 of `location`."""
    proto = model("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    tensor = proto.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2], raw_data=b"")
    onnx.external_data_helper.set_external_data(tensor, location, offset=4096, length=length)
    tensor.ClearField("raw_data")
    return written(folder, proto.SerializeToString())


def test_missing_external_data(tmp_path: Path) -> None:
    assert refusal(external(tmp_path)) == (
        f"external data 'm.data' of tensor 'w' is missing in '{tmp_path}'; put the file next to the model"
    )


def test_truncated_external_data(tmp_path: Path) -> None:
    written(tmp_path, bytes(4100), "m.data")
    assert refusal(external(tmp_path)) == (
        "external data 'm.data' of tensor 'w' has 4100 bytes, 4104 are needed; "
        "export or download the model again"
    )


def test_external_data_outside_the_directory(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    written(tmp_path, bytes(5000), "m.data")
    assert refusal(external(inner, "../m.data")) == (
        "external data '../m.data' of tensor 'w' lies outside the model's directory"
    )


def test_external_data_of_bytes(tmp_path: Path) -> None:
    assert refusal(external(tmp_path).read_bytes()) == (
        "tensor 'w' is stored outside the model, in 'm.data'; pass the path of the model's file"
    )


def test_external_data_of_another_size(tmp_path: Path) -> None:
    written(tmp_path, bytes(5000), "m.data")
    assert refusal(external(tmp_path, length=12)) == (
        "tensor 'w' has 12 bytes of data, its shape [2] needs 8; export or download the model again"
    )


def test_external_data_without_a_location(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path), load_external_data=False)
    del proto.graph.initializer[0].external_data[:]
    assert refusal(proto) == "tensor 'w' has external data without a location"


# Names and dimensions

IMAGE = "g (float[batch, 3, 224, 224] x) => (float[batch, 3, 224, 224] y) { y = Relu(x) }"
TOKENS = "g (int64[batch, seq] x, int64[batch, seq] m) => (int64[batch, seq] y) { y = Add(x, m) }"


def test_unknown_dimension() -> None:
    assert refusal(model(IMAGE)) == (
        "input 'x' has unknown dimension 'batch' (axis 0); "
        "add --dim batch=1, -b 1 or --input-shape x:1,3,224,224"
    )


def test_unknown_dimensions_of_several_inputs() -> None:
    assert refusal(model(TOKENS), dims={"batch": 1}) == (
        "input 'x' has unknown dimension 'seq' (axis 1), input 'm' has unknown dimension 'seq' (axis 1); "
        "add --dim seq=1, -b 1 or --input-shape x:1,1 --input-shape m:1,1"
    )


def test_unnamed_unknown_dimension() -> None:
    graph = "g (float[?, 3] x) => (float[?, 3] y) { y = Relu(x) }"
    assert refusal(model(graph)) == (
        "input 'x' has unknown dimension at axis 0; add -b 1 or --input-shape x:1,3"
    )


INPUTS = "its inputs are 'x', 'm'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"input_shapes": {"z": [1]}},
            f"the input shape names 'z', which is no input of the model; {INPUTS}",
        ),
        ({"input_shapes": {None: [1]}}, f"the input shape names no input, and the model has 2; {INPUTS}"),
        (
            {"constants": {"z": np.ones(1)}},
            f"the constant names 'z', which is no input of the model; {INPUTS}",
        ),
        ({"dims": {"N": 1}}, "the model has no open dimension 'N'; its open dimensions are 'batch', 'seq'"),
        ({"input_shapes": {"x": [1, 2, 3]}}, "input 'x' has 2 dimensions; the shape given has 3"),
        ({"input_shapes": {"x": [1, -2]}}, "input 'x' cannot have dimension -2 (axis 1)"),
        (
            {"constants": {"m": np.zeros((1, 2), np.int32)}},
            "the constant for input 'm' is int32; it must be int64",
        ),
    ],
)
def test_binding_that_does_not_fit(options: dict, message: str) -> None:
    assert refusal(model(TOKENS), **options) == message


def test_an_input_without_a_shape() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert refusal(proto) == "input 'x' has no shape; add --input-shape x:1,..."


def test_a_shape_that_contradicts_the_model() -> None:
    assert refusal(model(IMAGE), input_shapes={"x": [1, 3, 224, 200]}) == (
        "input 'x' has dimension 224 (axis 3); 200 does not fit"
    )


def test_a_batch_size_with_nothing_to_bind() -> None:
    assert refusal(model(VALID), batch_size=4) == (
        "batch size 4 has nothing to bind: every input has a static shape"
    )


# Nodes


def test_unsupported_border() -> None:
    proto = model(
        "g (seq(float[2]) x) => (float[2] y) { i = Constant<value_int = 0>() y = SequenceAt(x, i) }"
    )
    assert refusal(proto) == "input 'x' is a sequence; tosaic takes tensors only"


def test_string_input() -> None:
    proto = model("g (string[2] x) => (string[2] y) { y = Identity(x) }")
    assert refusal(proto) == "input 'x' is a tensor of strings; tosaic takes numbers only"


def test_all_nodes_that_cannot_be_static_are_reported_at_once() -> None:
    graph = """g (float[4] x) => (int64[1, N] y, float[2] z) {
       [first] a = NonZero(x)
       [dependent] y = Neg(a)
       [second] b = Unheard.Of(x)
       [third] z = Unheard.More(b)
    }"""
    with pytest.raises(UnsupportedNodesError) as caught:
        load(model(graph, HEADER.replace("com.microsoft", "Unheard")))
    assert [node.node for node in caught.value.nodes] == ["first", "second", "third"]


def test_nodes_that_will_not_be_lowered_are_reported_with_them() -> None:
    graph = (
        "g (float[4] x) => (int64[1, N] y) { [first] a = Sin(x) [second] b = Cos(a) [third] y = NonZero(b) }"
    )
    with pytest.raises(UnsupportedNodesError) as caught:
        load(model(graph), is_lowered=lambda op, domain, opset: (op, domain, opset) != ("Sin", "", 17))
    assert [node.node for node in caught.value.nodes] == ["first", "third"]


def test_reason_of_a_shape_that_depends_on_data() -> None:
    assert refusal(model("g (float[4] x) => (int64[1, N] y) { [where] y = NonZero(x) }")) == (
        "1 node cannot be lowered to TOSA:\n"
        "  NonZero node 'where': the shape of its result 'y' depends on the values of its operands "
        "(bind 'x' with --constant)"
    )


def test_operands_that_do_not_fit() -> None:
    assert "Incompatible dimensions" in refusal(
        model("g (float[2, 3] x) => (float[2, 2] y) { y = MatMul(x, x) }")
    )


def test_graphs_inside_nodes_that_do_not_fit() -> None:
    graph = """g (bool c, float[2] x) => (float[2] y) { [choice] y = If (c) <
        then_branch = a (float[2] i) => (float[2] t) { t = Neg (i) },
        else_branch = b () => (float[2] e) { e = Neg (x) }> }"""
    assert refusal(model(graph)) == "If node 'choice': its then branch has 1 inputs, and it gets 0"


# Local functions

CALLS = '<domain: "own", opset_import: ["": VERSION, "own": 1]> f (a) => (b) { b = BODY(a) }'


def calling(body: str, version: int = 17) -> onnx.ModelProto:
    header = HEADER.replace('"com.microsoft": 1', '"own": 1')
    function = CALLS.replace("BODY", body).replace("VERSION", str(version))
    return model(f"g (float[2] x) => (float[2] y) {{ y = own.f(x) }} {function}", header)


def test_a_function_that_calls_itself() -> None:
    assert refusal(calling("own.f")) == (
        "the model's local function 'own.f' calls itself; unroll the recursion"
    )


def test_a_function_in_an_opset_that_does_not_exist() -> None:
    assert refusal(calling("Neg", 99)).startswith("the model's local functions cannot be inlined: ")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("AveragePool <kernel_shape = [2, 2], strides = [2, 0]> (x)", "strides"),
        ("MaxPool <kernel_shape = [0, 2]> (x)", "kernel_shape"),
        ("SpaceToDepth <blocksize = 0> (x)", "blocksize"),
        ("GlobalLpPool <p = 0> (x)", "p"),
        ("MaxPool <kernel_shape = [2, 2], dilations = [-1, 1]> (x)", "dilations"),
    ],
)
def test_a_count_that_is_not_positive(call: str, name: str) -> None:
    proto = model(f"g (float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y) {{ y = {call} }}")
    assert f"its attribute '{name}' is not positive" in refusal(proto)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "com.microsoft.FusedConv"])
def test_filters_of_another_rank_than_the_data(op: str) -> None:
    proto = model(
        f"g (float[1, 2, 4, 4] x, float[1, 2, 3, 1, 1] w) => (float[1, 1, 4, 4] y) {{ y = {op} (x, w) }}"
    )
    assert "filters of rank 5 do not fit data of rank 4" in refusal(proto)


def test_an_element_type_that_does_not_exist() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Cast <to = 99> (x) }")
    assert "Cast node" in refusal(proto)
