"""Random TOSA programs of arithmetic, products and data movement, with the results that numpy gives.

All values are small whole numbers in f32, so sums are exact in any order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

_BINARY = {"add": np.add, "sub": np.subtract, "maximum": np.maximum, "minimum": np.minimum}


@dataclass
class RandomProgram:
    """A function @main over f32 tensors, op by op in MLIR text and in numpy."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    values: list[tuple[str, np.ndarray]] = field(default_factory=list)
    inputs: list[tuple[str, np.ndarray]] = field(default_factory=list)
    outputs: list[tuple[str, np.ndarray]] = field(default_factory=list)

    @classmethod
    def make(cls, seed: int, ops: int = 12) -> RandomProgram:
        rng = random.Random(seed)
        program = cls(rng)
        for _ in range(rng.randint(1, 4)):
            program._input()
        steps = [
            program._binary,
            program._binary,
            program._unary,
            program._move,
            program._move,
            program._concat,
        ]
        for _ in range(ops):
            rng.choice(
                [*steps, program._pad, program._constant, program._reduce, program._conv, program._matmul]
            )()
        program.outputs = rng.sample(program.values, min(len(program.values), rng.randint(1, 4)))
        return program

    def text(self) -> str:
        """The MLIR module."""
        arguments = ", ".join(f"{name}: {_type(array)}" for name, array in self.inputs)
        types = ", ".join(_type(array) for _, array in self.outputs)
        names = ", ".join(name for name, _ in self.outputs)
        body = "\n".join(f"  {line}" for line in self.lines)
        return f"func.func @main({arguments}) -> ({types}) {{\n{body}\n  return {names} : {types}\n}}\n"

    def _input(self) -> None:
        name = f"%arg{len(self.inputs)}"
        array = self._random([self.rng.choice([1, 2, 3, 5, 8]) for _ in range(self.rng.randint(1, 4))])
        self.inputs.append((name, array))
        self.values.append((name, array))

    def _random(self, shape) -> np.ndarray:
        generator = np.random.default_rng(self.rng.randrange(1 << 30))
        return generator.integers(-9, 9, shape).astype(np.float32)

    def _emit(
        self, op: str, operands: list[tuple[str, np.ndarray]], result: np.ndarray, attributes: str = ""
    ) -> None:
        name = f"%{len(self.lines)}"
        names = ", ".join(operand for operand, _ in operands)
        types = ", ".join(_shape_type(a) if n.startswith("%s") else _type(a) for n, a in operands)
        braces = f" {{{attributes}}}" if attributes else ""
        self.lines.append(f"{name} = tosa.{op} {names}{braces} : ({types}) -> {_type(result)}")
        self.values.append((name, np.ascontiguousarray(result)))

    def _shape(self, numbers) -> tuple[str, np.ndarray]:
        array = np.array(numbers)
        name = f"%s{len(self.lines)}"
        values = f"dense<[{', '.join(map(str, numbers))}]> : tensor<{len(numbers)}xindex>"
        self.lines.append(f"{name} = tosa.const_shape {{values = {values}}} : () -> {_shape_type(array)}")
        return name, array

    def _dense(self, array: np.ndarray) -> tuple[str, np.ndarray]:
        name = f"%c{len(self.lines)}"
        text = str(array.tolist())
        self.lines.append(
            f'{name} = "tosa.const"() {{values = dense<{text}> : {_type(array)}}} : () -> {_type(array)}'
        )
        return name, array

    def _constant(self) -> None:
        self.values.append(self._dense(self._random(self.rng.choice(self.values)[1].shape)))

    def _binary(self) -> None:
        op = self.rng.choice(list(_BINARY))
        a = self.rng.choice(self.values)
        b = self.rng.choice([v for v in self.values if _broadcastable(v[1], a[1])])
        self._emit(op, [a, b], _BINARY[op](a[1], b[1]))

    def _unary(self) -> None:
        a = self.rng.choice(self.values)
        if self.rng.random() < 0.5:
            self._emit("abs", [a], np.abs(a[1]))
        else:
            self._clamp(a)

    def _reduce(self) -> None:
        a = self.rng.choice(self.values)
        axis = self.rng.randrange(a[1].ndim)
        self._emit("reduce_max", [a], a[1].max(axis, keepdims=True), f"axis = {axis} : i32")

    def _small(self) -> tuple[str, np.ndarray]:
        """A value that is small enough for products of it to be exact."""
        self._clamp(self.rng.choice(self.values))
        return self.values[-1]

    def _clamp(self, a: tuple[str, np.ndarray]) -> None:
        self._emit("clamp", [a], np.clip(a[1], -50, 60), "min_val = -50.0 : f32, max_val = 60.0 : f32")

    def _conv(self) -> None:
        """A 1x1 convolution of any value, as pixels of its last dimension."""
        a = self._small()
        pixels = a[1].reshape(1, 1, -1, a[1].shape[-1])
        self._emit("reshape", [a, self._shape(pixels.shape)], pixels)
        a = self.values[-1]
        weights = self._dense(self._random([self.rng.choice([1, 3, 4, 9]), 1, 1, pixels.shape[-1]]))
        bias, zero = self._dense(self._random([len(weights[1])])), self._dense(np.zeros(1, np.float32))
        geometry = "pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>, dilation = array<i64: 1, 1>"
        result = pixels @ weights[1].reshape(len(weights[1]), -1).T + bias[1]
        self._emit("conv2d", [a, weights, bias, zero, zero], result, f"{geometry}, acc_type = f32")

    def _matmul(self) -> None:
        a = self._small()
        a_rows = a[1].reshape(1, -1, a[1].shape[-1])
        self._emit("reshape", [a, self._shape(a_rows.shape)], a_rows)
        a = self.values[-1]
        fitting = [v for v in self.values if v[1].ndim == 3 and v[1].shape[:2] == (1, a_rows.shape[2])]
        b = self.rng.choice([*fitting, self._dense(self._random([1, a_rows.shape[2], 5]))])
        self._clamp(b)
        b, zero = self.values[-1], self._dense(np.zeros(1, np.float32))
        self._emit("matmul", [a, b, zero, zero], a_rows @ b[1])

    def _concat(self) -> None:
        a = self.rng.choice(self.values)
        axis = self.rng.randrange(a[1].ndim)
        matching = [v for v in self.values if _matches_but(v[1], a[1], axis)]
        parts = [self.rng.choice(matching) for _ in range(self.rng.randint(1, 3))]
        result = np.concatenate([array for _, array in parts], axis)
        if result.size < 3000:
            self._emit("concat", parts, result, f"axis = {axis} : i32")

    def _pad(self) -> None:
        a = self.rng.choice(self.values)
        widths = [self.rng.choice([0, 0, 1, 2]) for _ in range(2 * a[1].ndim)]
        value = self._dense(self._random([1]))
        result = np.pad(a[1], list(zip(widths[::2], widths[1::2])), constant_values=value[1][0])
        if result.size < 3000:
            self._emit("pad", [a, self._shape(widths), value], result)

    def _move(self) -> None:
        a = self.rng.choice(self.values)
        shape = a[1].shape
        match self.rng.choice(["transpose", "slice", "reverse", "reshape", "reshape", "tile", "identity"]):
            case "transpose":
                perms = self.rng.sample(range(len(shape)), len(shape))
                text = ", ".join(map(str, perms))
                self._emit("transpose", [a], a[1].transpose(perms), f"perms = array<i32: {text}>")
            case "slice":
                start = [self.rng.randrange(n) for n in shape]
                size = [self.rng.randint(1, n - b) for n, b in zip(shape, start)]
                part = a[1][tuple(slice(b, b + n) for b, n in zip(start, size))]
                self._emit("slice", [a, self._shape(start), self._shape(size)], part)
            case "reverse":
                axis = self.rng.randrange(len(shape))
                self._emit("reverse", [a], np.flip(a[1], axis), f"axis = {axis} : i32")
            case "reshape":
                target = self._factors(a[1].size)
                self._emit("reshape", [a, self._shape(target)], a[1].reshape(target))
            case "tile":
                multiples = [self.rng.choice([1, 1, 2, 3]) for _ in shape]
                if a[1].size * np.prod(multiples) < 3000:
                    self._emit("tile", [a, self._shape(multiples)], np.tile(a[1], multiples))
            case "identity":
                self._emit("identity", [a], a[1])

    def _factors(self, size: int) -> list[int]:
        """A random shape of so many elements."""
        shape = []
        while size > 1 and len(shape) < 3:
            shape.append(self.rng.choice([n for n in range(2, size + 1) if size % n == 0]))
            size //= shape[-1]
        shape.append(size)
        self.rng.shuffle(shape)
        return shape


def _broadcastable(b: np.ndarray, a: np.ndarray) -> bool:
    return b.ndim == a.ndim and all(m in (1, n) for m, n in zip(b.shape, a.shape))


def _matches_but(b: np.ndarray, a: np.ndarray, axis: int) -> bool:
    return b.ndim == a.ndim and all(m == n for i, (m, n) in enumerate(zip(b.shape, a.shape)) if i != axis)


def _type(array: np.ndarray) -> str:
    return f"tensor<{''.join(f'{n}x' for n in array.shape)}f32>"


def _shape_type(array: np.ndarray) -> str:
    return f"!tosa.shape<{len(array)}>"
