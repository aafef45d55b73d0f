"""Gives every open dimension of a model's inputs a size, as the options of a compilation say.

Where the inputs are declared (in an ONNX graph, in an MLIR function) is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic.errors import TosaicError

InputShapes = Mapping[str | None, Sequence[int | None]]
Dim = int | str | None
"""A known size, a symbolic name, or neither."""


@dataclass
class OpenInput:
    """An input as the model declares it: numpy dtype, and sizes of which some may be open. None: no rank is known."""

    name: str
    dtype: np.dtype
    dims: list[Dim] | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, once all are bound."""
        return tuple(dim for dim in self.dims or () if isinstance(dim, int))


def bind_open_inputs(
    inputs: Iterable[OpenInput],
    *,
    input_shapes: InputShapes | None = None,
    dims: Mapping[str, int] | None = None,
    batch_size: int | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Bind every dimension of the inputs, in place.

    `input_shapes` maps an input's name (None: the only input) to its shape (None: keep that dimension),
    `dims` a symbolic dimension to its size; `batch_size` fills the first unknown dimension of each input;
    `constants` are the arrays of the inputs that they name.

    Raises:
        TosaicError: a name is not in the model, a size contradicts it, or a dimension stays unknown.
    """
    named = {declared.name: declared for declared in inputs}
    arrays = dict(constants or {})
    for name, array in arrays.items():
        _bind_constant(_lookup(named, name, "constant"), array)
    for key, shape in (input_shapes or {}).items():
        _bind_shape(_lookup(named, key, "input shape"), shape)
    _bind_dims(named, dims or {})
    if batch_size is not None:
        _bind_batch(named, batch_size)
    _require_static([declared for name, declared in named.items() if name not in arrays])


def _lookup(inputs: Mapping[str, OpenInput], name: str | None, what: str) -> OpenInput:
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


def _bind_constant(declared: OpenInput, array: np.ndarray) -> None:
    if array.dtype != declared.dtype:
        raise TosaicError(
            f"the constant for input '{declared.name}' is {array.dtype}; it must be {declared.dtype}"
        )
    _bind_shape(declared, array.shape)


def _bind_shape(declared: OpenInput, shape: Sequence[int | None]) -> None:
    if declared.dims is None:
        declared.dims = [None] * len(shape)
    if len(shape) != len(declared.dims):
        raise TosaicError(
            f"input '{declared.name}' has {len(declared.dims)} dimensions; the shape given has {len(shape)}"
        )
    for axis, size in enumerate(shape):
        _bind_dim(declared, axis, size)


def _bind_dim(declared: OpenInput, axis: int, size: int | None) -> None:
    assert declared.dims is not None
    known = declared.dims[axis]
    if size is None:
        return
    if not 0 <= size < 1 << 63:
        raise TosaicError(f"input '{declared.name}' cannot have dimension {size} (axis {axis})")
    if isinstance(known, int) and known != size:
        raise TosaicError(f"input '{declared.name}' has dimension {known} (axis {axis}); {size} does not fit")
    declared.dims[axis] = int(size)


def _bind_dims(inputs: Mapping[str, OpenInput], sizes: Mapping[str, int]) -> None:
    symbols = _symbols(inputs)
    for symbol, size in sizes.items():
        if symbol not in symbols:
            raise TosaicError(
                f"the model has no open dimension '{symbol}'", _valid("open dimensions", symbols)
            )
        for declared, axis in symbols[symbol]:
            _bind_dim(declared, axis, size)


def _symbols(inputs: Mapping[str, OpenInput]) -> dict[str, list[tuple[OpenInput, int]]]:
    """Every named dimension that has no size yet, with its places."""
    places: dict[str, list[tuple[OpenInput, int]]] = {}
    for declared in inputs.values():
        for axis, dim in enumerate(declared.dims or ()):
            if isinstance(dim, str):
                places.setdefault(dim, []).append((declared, axis))
    return places


def _bind_batch(inputs: Mapping[str, OpenInput], size: int) -> None:
    open_inputs = [(declared, axes) for declared in inputs.values() if (axes := _unknown_axes(declared))]
    if not open_inputs and any(declared.dims[:1] != [size] for declared in inputs.values() if declared.dims):
        raise TosaicError(f"batch size {size} has nothing to bind: every input has a static shape")
    for declared, axes in open_inputs:
        _bind_dim(declared, axes[0], size)


def _unknown_axes(declared: OpenInput) -> list[int]:
    return [axis for axis, dim in enumerate(declared.dims or ()) if not isinstance(dim, int)]


def _require_static(inputs: Sequence[OpenInput]) -> None:
    unranked = [declared.name for declared in inputs if declared.dims is None]
    if unranked:
        raise TosaicError(f"input '{unranked[0]}' has no shape", f"add --input-shape {unranked[0]}:1,...")
    still_open = [declared for declared in inputs if _unknown_axes(declared)]
    if still_open:
        raise TosaicError(", ".join(map(_describe_unknown, still_open)), _binding_remedy(still_open))


def _describe_unknown(declared: OpenInput) -> str:
    assert declared.dims is not None
    axes = _unknown_axes(declared)
    names = [f"'{dim}' (axis {a})" if (dim := declared.dims[a]) else f"at axis {a}" for a in axes]
    plural = "" if len(axes) == 1 else "s"
    return f"input '{declared.name}' has unknown dimension{plural} {', '.join(names)}"


def _binding_remedy(inputs: Sequence[OpenInput]) -> str:
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


def _example_shape(declared: OpenInput) -> str:
    return ",".join(str(dim) if isinstance(dim, int) else "1" for dim in declared.dims or ())
