"""The walk over an expression: which values stay on the operand stack, which go to locals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tosaic.errors import TosaicError
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Expression
from tosaic.wasm.lanes import BOOL, FLOAT, INT64, KINDS, Push
from tosaic.wasm.math import splat_f32, splat_i32, splat_i64

_LEAVES = frozenset({"input", "result", "constant", "local"})


@dataclass(frozen=True)
class Operands:
    """A node as its operation sees it: its number, those of its arguments, its attributes."""

    index: int
    arguments: tuple[int, ...]
    attributes: Mapping[str, Any]


@dataclass
class Emission:
    f: Function
    expression: Expression
    lanes: int
    load_input: Callable[[int], None]
    load_result: Push | None
    table_address: Callable[[int], None] | None
    operations: Mapping[str, Operation]
    result_bound: int | None = None
    store_saturates: bool = False
    _uses: Counter = field(default_factory=Counter)
    _locals: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        last = len(self.expression.nodes) - 1
        reached = {last}
        for index in range(last, -1, -1):
            op, arguments, _ = self.expression.nodes[index]
            if index in reached and op not in _LEAVES:
                self._uses.update(arguments)
                reached.update(arguments)

    def push(self, index: int) -> None:
        """Push the value of a node, computing it on its first use."""
        if (local := self._locals.get(index)) is not None:
            self.f.get(local)
            self._uses[index] -= 1
            if self._uses[index] == 0:
                self.f.release(self._locals.pop(index))
            return
        op, _, attributes = self.expression.nodes[index]
        if op == "constant":
            self._push_constant(dict(attributes)["value"], self.element(index))
            return
        self._compute(index)
        if self._uses[index] > 1:
            self._locals[index] = self.f.local("v128")
            self.f.tee(self._locals[index])
            self._uses[index] -= 1

    def expect(self, index: int, pushes: int) -> None:
        """Say that an argument will be pushed so many times and not once."""
        self._uses[index] += pushes - 1

    def push_local(self, index: int) -> int:
        """The value of a node in a local of the caller's."""
        local = self.f.local("v128")
        self.push(index)
        self.f.set(local)
        return local

    def element(self, index: int) -> str:
        return self.expression.elements[index]

    def kind(self, index: int) -> str:
        return KINDS[self.element(index)]

    def is_saturated_later(self, index: int) -> bool:
        """True for the last node if the store saturates it."""
        return self.store_saturates and index == len(self.expression.nodes) - 1

    def bound(self, index: int) -> int | None:
        """The largest magnitude that an integer node can have, as far as it is known."""
        op, arguments, _ = self.expression.nodes[index]
        if op == "result":
            return self.result_bound
        if op == "constant":
            return abs(int(self.constant(index) or 0))
        if op in ("add", "sub"):
            bounds = [self.bound(argument) for argument in arguments]
            return None if None in bounds else sum(bounds)  # type: ignore[arg-type]
        if op == "cast" and self.kind(arguments[0]) == BOOL:
            return 1
        return {"i8": 128, "i16": 32768}.get(self.element(index))

    def constant(self, index: int) -> Any | None:
        """The number of a constant node, None for any other node."""
        op, _, attributes = self.expression.nodes[index]
        return dict(attributes)["value"] if op == "constant" else None

    def _compute(self, index: int) -> None:
        op, arguments, attributes = self.expression.nodes[index]
        if op == "input":
            self.load_input(arguments[0])
        elif op == "local":
            self.f.get(arguments[0])
        elif op == "result":
            if self.load_result is None:
                raise ValueError("this kernel has no value of its own")
            self.load_result()
        elif (operation := self.operations.get(op)) is not None:
            operation(self, Operands(index, arguments, dict(attributes)))
        else:
            raise TosaicError(f"tosa.{op} cannot be computed element by element")

    def _push_constant(self, value: Any, element: str) -> None:
        kind = KINDS[element]
        if kind == FLOAT:
            splat_f32(self.f, value)
        elif kind == BOOL:
            splat_i32(self.f, -1 if value else 0)
        elif kind == INT64:
            splat_i64(self.f, int(value))
        else:
            splat_i32(self.f, int(value))


Operation = Callable[[Emission, Operands], None]
"""Pushes the value of a node."""


def unsupported(e: Emission, node: Operands) -> TosaicError:
    op = e.expression.nodes[node.index][0]
    elements = ", ".join(e.element(argument) for argument in node.arguments)
    return TosaicError(f"tosa.{op} on {elements} has no kernel")
