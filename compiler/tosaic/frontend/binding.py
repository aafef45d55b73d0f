"""Gives every graph input a static shape, and binds inputs to constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from tosaic.errors import TosaicError
from tosaic.frontend.static_graph import TensorType, Value, constant, element_dtype, kind_of

InputShapes = Mapping[str | None, Sequence[int | None]]
Dim = int | str | None
"""A known size, a symbolic name, or neither."""


@dataclass
class _Input:
    name: str
    dtype: np.dtype
    dims: list[Dim] | None


def bind_inputs(
    graph: onnx.GraphProto,
    *,
    input_shapes: InputShapes | None = None,
    dims: Mapping[str, int] | None = None,
    batch_size: int | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> list[Value]:
    """The graph's inputs in order, static; those bound by `constants` carry their array.

    `input_shapes` maps an input's name (None: the only input) to its shape (None: keep that dimension),
    `dims` a symbolic dimension to its size; `batch_size` fills the first unknown dimension of each input.

    Raises:
        TosaicError: a name is not in the model, a size contradicts it, or a dimension stays unknown.
    """
    inputs = {declared.name: declared for declared in _declared_inputs(graph)}
    arrays = dict(constants or {})
    for name, array in arrays.items():
        _bind_constant(_lookup(inputs, name, "constant"), array)
    for key, shape in (input_shapes or {}).items():
        _bind_shape(_lookup(inputs, key, "input shape"), shape)
    _bind_dims(inputs, dims or {})
    if batch_size is not None:
        _bind_batch(inputs, batch_size)
    _require_static([declared for name, declared in inputs.items() if name not in arrays])
    return [_value(declared, arrays.get(name)) for name, declared in inputs.items()]


def _declared_inputs(graph: onnx.GraphProto) -> list[_Input]:
    """Inputs without those that are initializers as well (how IR versions below 4 declare weights)."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [_declared_input(info) for info in graph.input if info.name not in initializers]


def _declared_input(info: onnx.ValueInfoProto) -> _Input:
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
    return _Input(info.name, dtype, dims)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _lookup(inputs: Mapping[str, _Input], name: str | None, what: str) -> _Input:
    if name is None and len(inputs) == 1:
        return next(iter(inputs.values()))
    if name is None:
        raise TosaicError(
            f"the {what} names no input, and the model has {len(inputs)}", _valid("inputs", inputs)
        )
    if name not in inputs:
        raise TosaicError(
            f"the {what} names '{name}', which is no input of the model", _valid("inputs", inputs)
        )
    return inputs[name]


def _valid(what: str, names) -> str:
    return f"its {what} are {', '.join(repr(name) for name in names)}" if names else f"it has no {what}"


def _bind_constant(declared: _Input, array: np.ndarray) -> None:
    if array.dtype != declared.dtype:
        raise TosaicError(
            f"the constant for input '{declared.name}' is {array.dtype}; it must be {declared.dtype}"
        )
    _bind_shape(declared, array.shape)


def _bind_shape(declared: _Input, shape: Sequence[int | None]) -> None:
    if declared.dims is None:
        declared.dims = [None] * len(shape)
    if len(shape) != len(declared.dims):
        raise TosaicError(
            f"input '{declared.name}' has {len(declared.dims)} dimensions; the shape given has {len(shape)}"
        )
    for axis, size in enumerate(shape):
        _bind_dim(declared, axis, size)


def _bind_dim(declared: _Input, axis: int, size: int | None) -> None:
    assert declared.dims is not None
    known = declared.dims[axis]
    if size is None:
        return
    if size < 0:
        raise TosaicError(f"input '{declared.name}' cannot have dimension {size} (axis {axis})")
    if isinstance(known, int) and known != size:
        raise TosaicError(f"input '{declared.name}' has dimension {known} (axis {axis}); {size} does not fit")
    declared.dims[axis] = int(size)


def _bind_dims(inputs: Mapping[str, _Input], sizes: Mapping[str, int]) -> None:
    symbols = _symbols(inputs)
    for symbol, size in sizes.items():
        if symbol not in symbols:
            raise TosaicError(
                f"the model has no open dimension '{symbol}'", _valid("open dimensions", symbols)
            )
        for declared, axis in symbols[symbol]:
            _bind_dim(declared, axis, size)


def _symbols(inputs: Mapping[str, _Input]) -> dict[str, list[tuple[_Input, int]]]:
    """Every named dimension that has no size yet, with its places."""
    places: dict[str, list[tuple[_Input, int]]] = {}
    for declared in inputs.values():
        for axis, dim in enumerate(declared.dims or ()):
            if isinstance(dim, str):
                places.setdefault(dim, []).append((declared, axis))
    return places


def _bind_batch(inputs: Mapping[str, _Input], size: int) -> None:
    open_inputs = [(declared, axes) for declared in inputs.values() if (axes := _unknown_axes(declared))]
    if not open_inputs and any(declared.dims[:1] != [size] for declared in inputs.values() if declared.dims):
        raise TosaicError(f"batch size {size} has nothing to bind: every input has a static shape")
    for declared, axes in open_inputs:
        _bind_dim(declared, axes[0], size)


def _unknown_axes(declared: _Input) -> list[int]:
    return [axis for axis, dim in enumerate(declared.dims or ()) if not isinstance(dim, int)]


def _require_static(inputs: Sequence[_Input]) -> None:
    unranked = [declared.name for declared in inputs if declared.dims is None]
    if unranked:
        raise TosaicError(f"input '{unranked[0]}' has no shape", f"add --input-shape {unranked[0]}:1,...")
    still_open = [declared for declared in inputs if _unknown_axes(declared)]
    if still_open:
        raise TosaicError(", ".join(map(_describe_unknown, still_open)), _binding_remedy(still_open))


def _describe_unknown(declared: _Input) -> str:
    assert declared.dims is not None
    axes = _unknown_axes(declared)
    names = [f"'{dim}' (axis {a})" if (dim := declared.dims[a]) else f"at axis {a}" for a in axes]
    plural = "" if len(axes) == 1 else "s"
    return f"input '{declared.name}' has unknown dimension{plural} {', '.join(names)}"


def _binding_remedy(inputs: Sequence[_Input]) -> str:
    """The options that would bind everything, with 1 for each size."""
    dims = [dim for declared in inputs for dim in declared.dims or () if not isinstance(dim, int)]
    ways = []
    if all(dims):
        ways.append(" ".join(f"--dim {dim}=1" for dim in dict.fromkeys(dims)))
    if all(len(_unknown_axes(declared)) == 1 for declared in inputs):
        ways.append("-b 1")
    ways.append(" ".join(f"--input-shape {declared.name}:{_example_shape(declared)}" for declared in inputs))
    *others, last = ways
    return f"add {', '.join(others)} or {last}" if others else f"add {last}"


def _example_shape(declared: _Input) -> str:
    return ",".join(str(dim) if isinstance(dim, int) else "1" for dim in declared.dims or ())


def _value(declared: _Input, array: np.ndarray | None) -> Value:
    if array is not None:
        return constant(declared.name, array)
    sizes = [dim for dim in declared.dims or () if isinstance(dim, int)]
    return Value(declared.name, TensorType(declared.dtype, tuple(sizes)))
