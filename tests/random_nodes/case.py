"""What a random node is, how its parts are drawn, and the table of strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

NEWEST_OPSET = 24
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""
ML = "ai.onnx.ml"
HALF = {"rtol": 4e-3, "atol": 4e-3}
"""Tolerances in float16, which has 11 significant bits."""


@dataclass
class Case:
    """A node with operands; operands in `constants` are initializers, the others are fed.

    f32 results may differ from onnxruntime's by 1e-4 of their value plus 1e-5, unless a strategy says
    why more is due; integers must be equal, unless `steps` are allowed. `observed`: the shapes of the
    results are not inferred but those that onnxruntime computes, for ops whose shapes depend on data.
    """

    inputs: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    constants: Sequence[str] = ()
    outputs: int = 1
    observed: bool = False
    rtol: float = 1e-4
    atol: float = 1e-5
    steps: int = 0
    domain: str = ""
    domain_opset: int = 1

    def __post_init__(self) -> None:
        self.inputs = {name: np.asarray(array) for name, array in self.inputs.items()}


class Draw:
    """Draws sizes and choices by hypothesis, which shrinks them, and elements by numpy from a drawn seed."""

    def __init__(self, draw: Callable[[st.SearchStrategy], Any]) -> None:
        self._draw = draw
        self._rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def int(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def float(self, low: float, high: float) -> float:
        return float(np.float32(self._draw(st.floats(low, high, width=32, allow_subnormal=False))))

    def bool(self) -> bool:
        return self._draw(st.booleans())

    def pick(self, options: Sequence[Any]) -> Any:
        return self._draw(st.sampled_from(options))

    def order(self, size: int) -> list[int]:
        return list(self._draw(st.permutations(range(size))))

    def opset(self, first: int, last: int = NEWEST_OPSET) -> int:
        return self.int(first, last)

    def shape(self, least: int = 0, most: int = 4, size: int = 5) -> list[int]:
        """A shape of `least` to `most` axes."""
        return self._draw(st.lists(st.integers(1, size), min_size=least, max_size=most))

    def sizes(self, count: int, low: int, high: int) -> list[int]:
        return [self.int(low, high) for _ in range(count)]

    def axis(self, rank: int, negative: bool = True) -> int:
        return self.int(-rank if negative else 0, rank - 1)

    def axes(self, rank: int, negative: bool = True) -> list[int]:
        """At least one axis, in any order, some counted from the end."""
        chosen = self.order(rank)[: self.int(1, rank)]
        return [axis - rank if negative and self.bool() else axis for axis in chosen]

    def broadcastable(self, shape: Sequence[int]) -> list[int]:
        """A shape that broadcasts to another."""
        kept = shape[self.int(0, len(shape)) :]
        return [size if self.bool() else 1 for size in kept]

    def floats(
        self, shape: Sequence[int], low: float = -4, high: float = 4, dtype: str = "float32"
    ) -> np.ndarray:
        return np.asarray(self._rng.uniform(low, high, shape)).astype(dtype)

    def ints(self, shape: Sequence[int], low: int, high: int, dtype: str = "int64") -> np.ndarray:
        """Integers from `low` up to and with `high`."""
        return np.asarray(self._rng.integers(low, high, shape, endpoint=True)).astype(dtype)

    def bools(self, shape: Sequence[int]) -> np.ndarray:
        return np.asarray(self._rng.random(shape) < 0.5)

    def distinct(self, count: int, below: int) -> np.ndarray:
        return self._rng.permutation(below)[:count]

    def array(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """Elements of any dtype, integers of at most 100."""
        if dtype == "bool":
            return self.bools(shape)
        if dtype.startswith("float"):
            return self.floats(shape, dtype=dtype)
        return self.ints(shape, 0 if dtype.startswith("u") else -100, 100, dtype)


Strategy = Callable[[Draw, str], Case]
STRATEGIES: dict[tuple[str, str], Strategy] = {}
"""(operator, domain) -> how to draw a case of it."""


def strategy(*ops: str, domain: str = "") -> Callable[[Strategy], Strategy]:
    """Registers how to draw a case of some ops."""

    def register(function: Strategy) -> Strategy:
        STRATEGIES.update({(op, domain): function for op in ops})
        return function

    return register


@st.composite
def cases(draw: Callable[[st.SearchStrategy], Any], op: str, domain: str = "") -> Case:
    """Cases of an op."""
    case = STRATEGIES[op, domain](Draw(draw), op)
    case.domain = domain
    return case


def tolerance(dtype: str) -> dict[str, float]:
    """The tolerances of a float dtype, none for another."""
    return HALF if dtype == "float16" else {}
