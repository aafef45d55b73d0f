"""What a user can ask of a compilation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tosaic.errors import TosaicError
from tosaic.policy import Access, Policy


@dataclass(frozen=True)
class CompileOptions:
    """How a model becomes static, and how it is cut.

    `input_shapes` maps an input's name to its shape (None keeps a dimension; the key None is the only input), `dims` a
    symbolic dimension to its size, `batch_size` is the size of the first unknown dimension of each input, and
    `constants` binds inputs to values, which takes them out of the signature. `limit_instructions` is what one
    message may take; by default the network's limit of an update message. `float64_as_float32`
    accepts float64 inputs that the model computes with. `access` says who may call the model: `public`, or a list of
    principals and the word `controllers`, separated by commas.
    """

    input_shapes: Mapping[str | None, Sequence[int | None]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    batch_size: int | None = None
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    limit_instructions: int | None = None
    float64_as_float32: bool = False
    access: str = "public"

    def __post_init__(self) -> None:
        for what, value in (("batch size", self.batch_size), ("limit", self.limit_instructions)):
            if value is not None and value < 1:
                raise TosaicError(f"the {what} is {value}, it must be at least 1")
        Access.parse(self.access)

    @property
    def policy(self) -> Policy:
        """What the canister's owner decides."""
        return Policy(Access.parse(self.access))

    @property
    def binds_inputs(self) -> bool:
        """Whether anything is asked that only an ONNX model can do."""
        return bool(self.input_shapes or self.dims or self.constants or self.batch_size is not None)
