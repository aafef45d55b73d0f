"""The inputs of an ONNX graph: each gets a static shape, or the constant that it is bound to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from tosaic.errors import TosaicError
from tosaic.frontend.static_graph import TensorType, Value, constant, element_dtype, kind_of
from tosaic.open_inputs import Dim, InputShapes, OpenInput, bind_open_inputs


def bind_inputs(
    graph: onnx.GraphProto,
    *,
    input_shapes: InputShapes | None = None,
    dims: Mapping[str, int] | None = None,
    batch_size: int | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> list[Value]:
    """The graph's inputs in order, static; those bound by `constants` carry their array.

    Arguments and errors are those of `bind_open_inputs`.
    """
    inputs, arrays = _declared_inputs(graph), constants or {}
    bind_open_inputs(inputs, input_shapes=input_shapes, dims=dims, batch_size=batch_size, constants=arrays)
    return [_value(declared, arrays.get(declared.name)) for declared in inputs]


def _declared_inputs(graph: onnx.GraphProto) -> list[OpenInput]:
    """Inputs without those that are initializers as well (how IR versions below 4 declare weights)."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [_declared_input(info) for info in graph.input if info.name not in initializers]


def _declared_input(info: onnx.ValueInfoProto) -> OpenInput:
    if info.type.WhichOneof("value") != "tensor_type":
        raise TosaicError(f"input '{info.name}' is {kind_of(info.type)}; tosaic takes tensors only")
    tensor = info.type.tensor_type
    dtype = element_dtype(tensor.elem_type)
    if dtype is None:
        raise TosaicError(
            f"input '{info.name}' has elements of kind {tensor.elem_type}, which ONNX does not know"
        )
    if dtype.kind in "OSU":
        raise TosaicError(f"input '{info.name}' is a tensor of strings; tosaic takes numbers only")
    dims = [_dim(dim) for dim in tensor.shape.dim] if tensor.HasField("shape") else None
    return OpenInput(info.name, dtype, dims)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _value(declared: OpenInput, array: np.ndarray | None) -> Value:
    if array is not None:
        return constant(declared.name, array)
    return Value(declared.name, TensorType(declared.dtype, declared.shape))
