"""What a user can ask of a compilation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any, Self, TypedDict

import numpy as np

from tosaic.errors import TosaicError
from tosaic.policy import Access, Policy, Weights


class Options(TypedDict, total=False):
    """The fields of `CompileOptions` as keyword arguments."""

    input_shapes: Mapping[str | None, Sequence[int | None]]
    dims: Mapping[str, int]
    batch_size: int | None
    constants: Mapping[str, np.ndarray]
    limit_instructions: int | None
    float64_as_float32: bool
    access: str
    weights: str | None
    weights_private: bool


_EXPECTED: dict[str, tuple[type | tuple[type, ...], str]] = {
    "input_shapes": (Mapping, "a mapping of names to shapes"),
    "dims": (Mapping, "a mapping of names to sizes"),
    "batch_size": ((Integral, type(None)), "a whole number"),
    "constants": (Mapping, "a mapping of names to arrays"),
    "limit_instructions": ((Integral, type(None)), "a whole number"),
    "float64_as_float32": (bool, "True or False"),
    "access": (str, "text"),
    "weights": ((str, type(None)), "text"),
    "weights_private": (bool, "True or False"),
}
"""Option -> the types that its value may have, and how a user is told of them."""


@dataclass(frozen=True)
class CompileOptions:
    """How a model becomes static, and how it is cut.

    `input_shapes` maps an input's name to its shape (None keeps a dimension; the key None is the only input), `dims` a
    symbolic dimension to its size, `batch_size` is the size of the first unknown dimension of each input, and
    `constants` binds inputs to values, which takes them out of the signature. `limit_instructions` is what one
    message may take; by default the network's limit of an update message. `float64_as_float32`
    accepts float64 inputs that the model computes with. `access` says who may call the model: `public`, or a list of
    principals and the word `controllers`, separated by commas. `weights` is `module` or `uploaded`, by default `module`
    if they fit; unless `weights_private`, whoever may call the model may read uploaded weights as well.
    """

    input_shapes: Mapping[str | None, Sequence[int | None]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    batch_size: int | None = None
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    limit_instructions: int | None = None
    float64_as_float32: bool = False
    access: str = "public"
    weights: str | None = None
    weights_private: bool = True

    def __post_init__(self) -> None:
        for option, (types, expected) in _EXPECTED.items():
            value = getattr(self, option)
            if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
                raise TosaicError(f"the option {option} is {value!r}", f"give {expected}")
        for name, array in self.constants.items():
            if not isinstance(array, np.ndarray):
                raise TosaicError(
                    f"the constant '{name}' is {array!r}", "give a numpy array, which has a dtype"
                )
        for what, value in (("batch size", self.batch_size), ("limit", self.limit_instructions)):
            if value is not None and value < 1:
                raise TosaicError(f"the {what} is {value}, it must be at least 1")
        Access.parse(self.access)
        if self.weights is not None and self.weights not in list(Weights):
            raise TosaicError(f"the weights are '{self.weights}'", f"give {' or '.join(Weights)}")

    @property
    def policy(self) -> Policy:
        """What the canister's owner decides."""
        where = Weights(self.weights) if self.weights else None
        return Policy(Access.parse(self.access), self.limit_instructions, where, self.weights_private)

    @property
    def binds_inputs(self) -> bool:
        """Whether anything is asked of the inputs."""
        return bool(self.input_shapes or self.dims or self.constants or self.batch_size is not None)

    def record(self) -> dict[str, Any]:
        """All options as JSON, from which `from_record` makes them again; of a constant its dtype, shape and sha256."""
        plain = {option.name: getattr(self, option.name) for option in fields(self)}
        return plain | {
            "input_shapes": [[name, [*map(_size, shape)]] for name, shape in self.input_shapes.items()],
            "dims": {name: int(size) for name, size in self.dims.items()},
            "access": str(self.policy.access),
            "constants": {name: _identity(array) for name, array in self.constants.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], constants: Mapping[str, np.ndarray]) -> Self:
        """The options of a record, given the constants that it names.

        Raises:
            TosaicError: a constant is missing, or has another dtype, shape or content; a recorded option is unknown.
        """
        unknown = sorted(set(record) - {option.name for option in fields(cls)})
        if unknown:
            raise TosaicError(f"this tosaic has no option '{unknown[0]}'", "use the version that compiled it")
        for name, identity in record["constants"].items():
            if name not in constants:
                raise TosaicError(
                    f"it was compiled with the constant '{name}'", f"give --constant {name}=FILE"
                )
            if _identity(constants[name]) != identity:
                raise TosaicError(f"it was compiled with another constant '{name}' than the one given")
        for name in sorted(set(constants) - set(record["constants"])):
            raise TosaicError(f"it was compiled without a constant '{name}'", "leave it out")
        shapes = {name: tuple(shape) for name, shape in record["input_shapes"]}
        return cls(**{**record, "input_shapes": shapes, "constants": constants})


def _size(size: int | None) -> int | None:
    return None if size is None else int(size)


def _identity(array: np.ndarray) -> dict[str, Any]:
    """What tells an array from others; its bytes count as little-endian ones."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": digest}
