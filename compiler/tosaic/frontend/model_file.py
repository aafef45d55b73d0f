"""Reads an ONNX model: a path, bytes or a ModelProto becomes a checked ModelProto and its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.parser
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import uses_external_data

from tosaic.errors import TosaicError
from tosaic.files import map_file
from tosaic.frontend.type_rules import is_stray
from tosaic.frontend.wire import SAME_BUFFER, MalformedError, detach_large_tensors

ModelSource = str | Path | bytes | bytearray | memoryview | onnx.ModelProto

CONTRIB = "com.microsoft"

TEXT_SUFFIX = ".onnxtxt"


class TensorStore:
    """Turns TensorProtos into arrays; those outside the proto are views of mapped files, never copies."""

    def __init__(self, model: memoryview, directory: Path | None) -> None:
        self._directory = directory
        self._buffers = {SAME_BUFFER: model}

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The values; not to be written to."""
        if not uses_external_data(tensor):
            return _to_array(tensor)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        buffer = self._buffers[entries["location"]]
        offset = int(entries.get("offset", 0))
        length = int(entries["length"]) if "length" in entries else len(buffer) - offset
        return _decode(tensor, buffer[offset : offset + length])

    def dense(self, sparse: onnx.SparseTensorProto) -> np.ndarray:
        """A sparse tensor with its zeros; its indices count elements, or have a column for each axis."""
        values, indices = self.array(sparse.values), self.array(sparse.indices)
        full = np.zeros(tuple(sparse.dims), values.dtype)
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), full.shape)
        full.reshape(-1)[places] = values
        return full

    def adopt(self, tensor: onnx.TensorProto) -> None:
        """Map the file of an external tensor; its location gets the mark `#` of a known buffer.

        Raises:
            TosaicError: the file is missing, is too short, or lies outside the model's directory.
        """
        entries = {entry.key: entry for entry in tensor.external_data}
        if "location" not in entries:
            raise TosaicError(f"tensor '{tensor.name}' has external data without a location")
        location = entries["location"].value
        if location == SAME_BUFFER:
            return
        key = SAME_BUFFER + location
        if key not in self._buffers:
            self._buffers[key] = map_file(self._external_path(tensor.name, location))
        entries["location"].value = key
        stop = sum(int(entries[name].value) for name in ("offset", "length") if name in entries)
        if stop > len(self._buffers[key]):
            raise TosaicError(
                f"external data '{location}' of tensor '{tensor.name}' has {len(self._buffers[key])} bytes, "
                f"{stop} are needed",
                "export or download the model again",
            )

    def _external_path(self, tensor: str, location: str) -> Path:
        if self._directory is None:
            raise TosaicError(
                f"tensor '{tensor}' is stored outside the model, in '{location}'",
                "pass the path of the model's file",
            )
        path = (self._directory / location).resolve()
        if not path.is_relative_to(self._directory.resolve()):
            raise TosaicError(
                f"external data '{location}' of tensor '{tensor}' lies outside the model's directory"
            )
        if not path.is_file():
            raise TosaicError(
                f"external data '{location}' of tensor '{tensor}' is missing in '{self._directory}'",
                "put the file next to the model",
            )
        return path


def read_model(
    model: str | Path | bytes | bytearray | memoryview | onnx.ModelProto,
) -> tuple[onnx.ModelProto, TensorStore]:
    """The model, checked, its local functions inlined, and the store that knows its tensors' values.

    Raises:
        TosaicError: no such file, not an ONNX model, refused by onnx.checker, external data missing.
    """
    buffer, directory = _serialized(model)
    shown = f"'{model}'" if isinstance(model, (str, Path)) else "the model"
    if len(buffer) == 0:
        raise TosaicError(f"{shown} is empty", "export or download the model again")
    proto = _parse(buffer, shown)
    store = TensorStore(buffer, directory)
    for tensor in _tensors(proto):
        if uses_external_data(tensor):
            store.adopt(tensor)
    _check_names(proto, shown)
    _check_recursion(proto)
    _collect_strays(proto)
    _check(proto, shown)
    return _inline_functions(proto), store


def opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Domain -> version; the default domain is spelled ''."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}


def _serialized(
    model: str | Path | bytes | bytearray | memoryview | onnx.ModelProto,
) -> tuple[memoryview, Path | None]:
    if isinstance(model, onnx.ModelProto):
        try:
            return memoryview(model.SerializeToString()), None
        except EncodeError as error:
            raise TosaicError(
                "the ModelProto exceeds 2 GB", "save it with external data, pass its path"
            ) from error
    if isinstance(model, (bytes, bytearray, memoryview)):
        return memoryview(model).cast("B"), None
    path = Path(model)
    if path.is_dir():
        raise TosaicError(f"'{path}' is a directory", "give the .onnx file in it")
    if not path.is_file():
        raise TosaicError(f"'{path}' does not exist")
    try:
        if path.suffix == TEXT_SUFFIX:
            return memoryview(_parse_text(path).SerializeToString()), path.parent
        return map_file(path), path.parent
    except OSError as error:
        raise TosaicError(f"'{path}' cannot be read: {error.strerror}") from error


def _parse_text(path: Path) -> onnx.ModelProto:
    try:
        return onnx.parser.parse_model(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise TosaicError(f"'{path}' is not ONNX text: {error.reason}") from error
    except onnx.parser.ParseError as error:
        position, *_, reason = error.args[0].decode().splitlines()
        raise TosaicError(f"'{path}' is not ONNX text: {position.strip('[]')}: {reason}") from error


_OTHER_FORMATS = (
    (
        4,
        b"TOSA",
        "a TOSA flatbuffer",
        "make MLIR of it: tosa-opt --tosa-deserialize of the package tosa-tools",
    ),
    (4, b"TFL3", "a TFLite model", "make TOSA of it with the package tosa-converter-for-tflite"),
    (0, b"ML\xefR", "MLIR bytecode", "give it the suffix .mlirbc"),
    (0, b"PK\3\4", "an archive, as PyTorch writes them", "export the model to ONNX"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes them", "export the model to ONNX"),
)
"""Where the mark of a format stands, the mark, what it means, and what to do."""


def _refuse_other_formats(buffer: memoryview, shown: str) -> None:
    for start, mark, name, remedy in _OTHER_FORMATS:
        if bytes(buffer[start : start + len(mark)]) == mark:
            raise TosaicError(f"{shown} is not an ONNX file, but {name}", remedy)


def _parse(buffer: memoryview, shown: str) -> onnx.ModelProto:
    try:
        proto = onnx.ModelProto.FromString(detach_large_tensors(buffer))
    except (MalformedError, DecodeError) as error:
        _refuse_other_formats(buffer, shown)
        raise TosaicError(
            f"{shown} is not an ONNX file, or is truncated", "export or download it again"
        ) from error
    if not proto.HasField("graph"):
        _refuse_other_formats(buffer, shown)
        raise TosaicError(f"{shown} is not an ONNX file: it has no graph", "export or download it again")
    return proto


def _collect_strays(proto: onnx.ModelProto) -> None:
    """Puts onnxruntime's own operators into its domain where they stand in ONNX's, which knows nothing of them."""
    strays = [node for node in _all_nodes(proto.graph.node) if not node.domain and is_stray(node.op_type)]
    for node in strays:
        node.domain = CONTRIB
    if strays and all(opset.domain != CONTRIB for opset in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))


def _check(proto: onnx.ModelProto, shown: str) -> None:
    """By onnx's checker, which wants types of outputs and shapes of inputs and outputs; onnxruntime does not."""
    untyped = [info for info in proto.graph.output if info.type.WhichOneof("value") is None]
    for info in untyped:
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    border = [info.type for info in (*proto.graph.input, *proto.graph.output)]
    tensors = [type.tensor_type for type in border if type.WhichOneof("value") == "tensor_type"]
    unranked = [tensor for tensor in tensors if not tensor.HasField("shape")]
    for tensor in unranked:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise TosaicError(f"{shown} is not valid ONNX: {_first_line(error)}") from error
    for tensor in unranked:
        tensor.ClearField("shape")
    for info in untyped:
        info.ClearField("type")


def _check_names(proto: onnx.ModelProto, shown: str) -> None:
    """Refuses names that are no text, which protobuf hands out as bytes and onnx's own tools stumble over."""
    names = chain(_names(proto.graph), *(_node_names(function.node) for function in proto.functions))
    if any(isinstance(name, bytes) for name in names):
        raise TosaicError(f"{shown} is not valid ONNX: a name in it is not UTF-8")


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (info.name for info in (*graph.input, *graph.output, *graph.value_info))
    yield from (tensor.name for tensor in graph.initializer)
    yield from _node_names(graph.node)


def _node_names(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPH_KINDS else ():
                yield from _names(graph)


def _check_recursion(proto: onnx.ModelProto) -> None:
    """Refuses functions that call themselves, which onnx's checker and inliner would follow without end."""
    calls = {(f.domain, f.name): {(n.domain, n.op_type) for n in _all_nodes(f.node)} for f in proto.functions}
    while leaves := [key for key, called in calls.items() if called.isdisjoint(calls)]:
        for key in leaves:
            del calls[key]
    if calls:
        domain, name = next(iter(calls))
        raise TosaicError(
            f"the model's local function '{domain}.{name}' calls itself", "unroll the recursion"
        )


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those in the graphs inside of them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPH_KINDS else ():
                yield from _all_nodes(graph.node)


def _inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    if not proto.functions:
        return proto
    try:
        return onnx.inliner.inline_local_functions(proto, convert_version=True)
    except Exception as error:  # whatever the native inliner and its version converter raise
        raise TosaicError(f"the model's local functions cannot be inlined: {_first_line(error)}") from error


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from chain.from_iterable((sparse.values, sparse.indices) for sparse in graph.sparse_initializer)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPH_KINDS else ():
                yield from _graph_tensors(graph)


_GRAPH_KINDS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _decode(tensor: onnx.TensorProto, raw: memoryview) -> np.ndarray:
    """The array that raw little-endian bytes stand for (onnx.proto, TensorProto.raw_data)."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    if tensor.data_type in _PACKED:
        unpacked = onnx.TensorProto(data_type=tensor.data_type, dims=shape, raw_data=bytes(raw))
        return _to_array(unpacked)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(raw) != needed:
        raise TosaicError(
            f"tensor '{tensor.name}' has {len(raw)} bytes of data, its shape {list(shape)} needs {needed}",
            "export or download the model again",
        )
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


_PACKED = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1")
    if hasattr(onnx.TensorProto, name)
)
"""Kinds whose raw data holds several elements a byte."""


def _to_array(tensor: onnx.TensorProto) -> np.ndarray:
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"the data of tensor '{tensor.name}' do not fit its shape {list(tensor.dims)}"
        raise TosaicError(reason, "export or download the model again") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
