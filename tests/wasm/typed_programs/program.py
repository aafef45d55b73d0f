"""TOSA programs as text under construction: typed values with bounds, constants, ops that are appended."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

EXACT = {"i1": 1, "i8": 127, "i16": 2**15 - 1, "i32": 2**31 - 1, "i48": 2**47 - 1,
         "f16": 2**11, "bf16": 2**8, "f32": 2**24}  # fmt: skip
"""The largest magnitude up to which every whole number exists."""
FLOATS = ("f16", "bf16", "f32")
INTEGERS = ("i8", "i16", "i32")
DTYPES = {"i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32,
          "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}  # fmt: skip
ONNX_DTYPES = {
    "i1": "bool",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
}
CASTS = {
    "i1": INTEGERS,
    "i8": ("i1", "i16", "i32", *FLOATS),
    "i16": ("i1", "i8", "i32", *FLOATS),
    "i32": ("i1", "i8", "i16", *FLOATS),
    "f16": (*INTEGERS, "f32"),
    "bf16": (*INTEGERS, "f32"),
    "f32": (*INTEGERS, "f16", "bf16"),
}
SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)
MOST = 4000


@dataclass(frozen=True)
class Tensor:
    """A value of the program; no element is larger in magnitude than `bound`."""

    name: str
    shape: tuple[int, ...]
    element: str
    bound: int

    @property
    def type(self) -> str:
        return f"tensor<{''.join(f'{size}x' for size in self.shape)}{self.element}>"


@dataclass
class TypedProgram:
    """A function @main as MLIR text, its arguments, and what is needed to append to it."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    arrays: list[np.ndarray] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def text(self) -> str:
        arguments = ", ".join(f"{x.name}: {x.type}" for x in self.inputs)
        results = ", ".join(f'{x.type} {{ic.dtype = "{ONNX_DTYPES[x.element]}"}}' for x in self.outputs)
        names, types = (", ".join(words) for words in zip(*((x.name, x.type) for x in self.outputs)))
        body = "\n".join(f"  {line}" for line in self.lines)
        return f"func.func @main({arguments}) -> ({results}) {{\n{body}\n  return {names} : {types}\n}}\n"

    def input(self) -> None:
        element = self.rng.choice(["i1", *INTEGERS, *FLOATS, "f32", "i8"])
        shape = self.shape(self.rng.randint(1, 4))
        tensor = Tensor(f"%x{len(self.inputs)}", shape, element, min(EXACT[element], 100))
        self.inputs.append(tensor)
        self.values.append(tensor)
        self.arrays.append(self.numbers(shape, tensor.bound).astype(DTYPES[element]))

    def shape(self, rank: int) -> tuple[int, ...]:
        shape = tuple(self.rng.choice(SIZES) for _ in range(rank))
        return shape if math.prod(shape) <= MOST else self.shape(rank)

    def numbers(self, shape: Sequence[int], bound: int, least: int | None = None) -> np.ndarray:
        generator = np.random.default_rng(self.rng.randrange(1 << 30))
        return generator.integers(-bound if least is None else least, bound, shape, endpoint=True)

    def any(self, elements: Sequence[str] = tuple(DTYPES)) -> Tensor:
        """A value, rather a late one; if there is none of such a type, one that is cast to it."""
        fitting = [x for x in self.values if x.element in elements]
        if not fitting:
            return self.converted(elements)
        return fitting[-1 - int(len(fitting) * self.rng.random() ** 3)]

    def converted(self, elements: Sequence[str]) -> Tensor:
        """The last value that can be cast to one of these types, cast; else a constant."""
        for x in reversed(self.values):
            for target in CASTS.get(x.element, ()):
                if target in elements:
                    small = self.below(x, EXACT[target]) if x.element in INTEGERS and target in FLOATS else x
                    bound = min(max(small.bound, 1), EXACT[target])
                    found = self.emit(
                        "cast", [small], x.shape, target, EXACT[target] if target in INTEGERS else bound
                    )
                    assert found is not None
                    return found
        return self.const(self.numbers(self.shape(2), 1, least=0), self.rng.choice(elements))

    def const(self, array: np.ndarray, element: str) -> Tensor:
        bound = int(np.abs(array).max())
        tensor = Tensor(f"%c{len(self.lines)}", tuple(array.shape), element, bound)
        numbers = str(
            (array.astype(bool) if element == "i1" else array * (1.0 if element in FLOATS else 1)).tolist()
        ).lower()
        self.lines.append(
            f'{tensor.name} = "tosa.const"() <{{values = dense<{numbers}> : {tensor.type}}}> : () -> {tensor.type}'
        )
        if 1 < array.size <= MOST and self.rng.random() < 0.25:
            self.values.append(tensor)
        return tensor

    def zero(self, element: str, value: int = 0) -> Tensor:
        return self.const(np.array([value]), element)

    def sizes(self, numbers: Sequence[int]) -> str:
        name = f"%s{len(self.lines)}"
        kind = f"!tosa.shape<{len(numbers)}>"
        text = f"dense<{list(numbers)}> : tensor<{len(numbers)}xindex>"
        self.lines.append(f"{name} = tosa.const_shape {{values = {text}}} : () -> {kind}")
        return name

    def emit(
        self,
        op: str,
        operands: Sequence[Tensor | str],
        shape: Sequence[int],
        element: str,
        bound: int,
        attributes: str = "",
    ) -> Tensor | None:
        """Appends the op; a result that may be inexact or large is not wanted."""
        if bound > EXACT[element] or math.prod(shape) > MOST or len(shape) > 5:
            return None
        tensor = Tensor(f"%{len(self.lines)}", tuple(int(size) for size in shape), element, int(bound))
        names = ", ".join(x if isinstance(x, str) else x.name for x in operands)
        types = ", ".join(self.shape_type(x) if isinstance(x, str) else x.type for x in operands)
        self.lines.append(f"{tensor.name} = tosa.{op} {names} {{{attributes}}} : ({types}) -> {tensor.type}")
        self.values.append(tensor)
        return tensor

    def unread(
        self, op: str, operands: Sequence[Tensor], shape: Sequence[int], element: str, bound: int
    ) -> Tensor:
        """Appends an op whose result only the caller reads, as it may be inexact."""
        found = self.emit(op, operands, shape, element, bound)
        assert found is not None
        self.values.pop()
        return found

    def shape_type(self, name: str) -> str:
        return next(line.rpartition("-> ")[2] for line in self.lines if line.startswith(f"{name} = "))

    def below(self, x: Tensor, bound: int) -> Tensor:
        """The value with its elements between -bound and bound."""
        if x.bound <= bound:
            return x
        if x.element == "i32":
            for op, limit in (("minimum", bound), ("maximum", -bound)):
                constant = self.zero("i32", limit)
                ones = self.sizes([1] * len(x.shape))
                limits = (
                    self.emit("reshape", [constant, ones], [1] * len(x.shape), "i32", bound)
                    if x.shape
                    else None
                )
                assert limits is not None
                self.values.pop()
                x = self.emit(op, [x, limits], x.shape, "i32", x.bound if op == "minimum" else bound) or x
            return x
        kind = "f32" if x.element in FLOATS else x.element
        low, high = (
            f"{'-' if n < 0 else ''}{abs(n)}{'.0' if kind == 'f32' else ''} : {x.element}"
            for n in (-bound, bound)
        )
        found = self.emit("clamp", [x], x.shape, x.element, bound, f"min_val = {low}, max_val = {high}")
        assert found is not None
        return found

    def partner(self, x: Tensor, bound: int | None = None) -> Tensor:
        """A value that broadcasts with x, or a constant."""
        fitting = [
            y
            for y in self.values
            if y.element == x.element
            and len(y.shape) == len(x.shape)
            and all(m == n or 1 in (m, n) for m, n in zip(x.shape, y.shape))
        ]
        if bound is None and self.rng.random() < 0.7:
            return self.rng.choice([x, *fitting])
        shape = [self.rng.choice([1, size]) for size in x.shape]
        return self.const(
            self.numbers(shape, min(EXACT[x.element], 9 if bound is None else bound)), x.element
        )

    def reshaped(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        if tuple(shape) == x.shape:
            return x
        found = self.emit("reshape", [x, self.sizes(shape)], shape, x.element, x.bound)
        assert found is not None
        return found

    def split(self, size: int, parts: int) -> list[int]:
        """Numbers whose product is `size`."""
        found = []
        for _ in range(parts - 1):
            found.append(self.rng.choice([n for n in range(1, size + 1) if size % n == 0]))
            size //= found[-1]
        return self.rng.sample([*found, size], parts)

    def data(self, elements: Sequence[str], rank: int) -> Tensor:
        """A value in a shape of this rank, its numbers small."""
        x = self.any(elements)
        x = self.below(x, 9 if x.element in ("f16", "bf16") else 60)
        return self.reshaped(x, self.split(math.prod(x.shape), rank)) if len(x.shape) != rank else x
