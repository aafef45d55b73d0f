"""What a lowering function sees: the TOSA builder together with the node that is being lowered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic_passes.onnx_to_tosa.builder import TosaBuilder
from tosaic_passes.onnx_to_tosa.tensor import ResultType, Tensor
from tosaic_passes.weights import WeightTable


@dataclass(frozen=True)
class Region:
    """A graph inside the node at hand: a branch, the body of a loop."""

    lower: Callable[[Sequence[Tensor]], list[Tensor | None]]
    """Emits the graph on these arguments at the insertion point and gives its results."""
    constant_results: tuple[np.ndarray | None, ...]
    """The values of those results that are known before the graph is lowered."""


class LoweringContext(TosaBuilder):
    """The builder, the opset, and what ONNX says about the node at hand: types of its results, its regions."""

    def __init__(self, weights: WeightTable, opset: dict[str, int]) -> None:
        super().__init__(weights)
        self.opset = opset
        self.results: tuple[ResultType | None, ...] = ()
        self.regions: tuple[Region, ...] = ()

    @property
    def result(self) -> ResultType:
        """The type of the first result (None in `results` stands for one that nobody asks for)."""
        first = self.results[0]
        if first is None:
            self.fail("its first result is missing")
        return first

    def constant_value(self, operand: Tensor | None) -> np.ndarray | None:
        """The values of an operand in its ONNX dtype, None if it is absent or not known at compile time."""
        return None if operand is None else operand.array

    def required_constant(self, operand: Tensor, name: str) -> np.ndarray:
        """The values of an operand that has to be known at compile time: fails otherwise."""
        if operand.array is None:
            self.fail(
                f"{name} must be a constant; got a value that is computed at run time",
                "bind it with --constant",
            )
        return operand.array

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front: fails where it is outside of the rank."""
        if not -max(rank, 1) <= axis < max(rank, 1):
            self.fail(f"axis {axis} is outside of rank {rank}")
        return axis % rank if rank else 0
