"""Expressions without what cancels: copies, and bits that are flipped back."""

from __future__ import annotations

from typing import Any

from tosaic.wasm.kernel import Expression

_Node = tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...]]


def simplified(expression: Expression) -> Expression:
    """An expression of the same value. Nodes that are no longer used are left out."""
    return _used(_Simplifier(expression).run())


class _Simplifier:
    """Rebuilds the nodes in order; `new[i]` is the node that now stands for node i."""

    def __init__(self, expression: Expression) -> None:
        self.old = expression
        self.nodes: list[_Node] = []
        self.elements: list[str] = []
        self.new: list[int] = []

    def run(self) -> Expression:
        for (op, arguments, attributes), element in zip(self.old.nodes, self.old.elements):
            if op in ("input", "local"):
                self.new.append(self._add((op, arguments, attributes), element))
                continue
            arguments = tuple(self.new[argument] for argument in arguments)
            self.new.append(self._simpler(op, arguments, attributes, element))
        last = self.new[-1]
        if last != len(self.nodes) - 1:
            self._add(self.nodes[last], self.elements[last])
        return Expression(tuple(self.nodes), tuple(self.elements))

    def _simpler(self, op: str, arguments: tuple[int, ...], attributes: tuple, element: str) -> int:
        if op == "identity" or (op == "cast" and self.elements[arguments[0]] == element):
            return arguments[0]
        if op == "bitwise_xor" and (flip := self._constant(arguments[1])) is not None:
            return self._flipped(arguments[0], flip, element)
        return self._add((op, arguments, attributes), element)

    def _flipped(self, value: int, flip: int, element: str) -> int:
        """value ^ flip; flips of flips become one, or none."""
        op, arguments, _ = self.nodes[value]
        if op == "bitwise_xor" and (before := self._constant(arguments[1])) is not None:
            value, flip = arguments[0], flip ^ before
        if flip == 0:
            return value
        constant = self._add(("constant", (), (("element", element), ("value", flip))), element)
        return self._add(("bitwise_xor", (value, constant), ()), element)

    def _constant(self, index: int) -> int | None:
        op, _, attributes = self.nodes[index]
        return int(dict(attributes)["value"]) if op == "constant" else None

    def _add(self, node: _Node, element: str) -> int:
        self.nodes.append(node)
        self.elements.append(element)
        return len(self.nodes) - 1


def _used(expression: Expression) -> Expression:
    """Without the nodes that the last one does not need."""
    keep = {len(expression.nodes) - 1}
    for index in range(len(expression.nodes) - 1, -1, -1):
        op, arguments, _ = expression.nodes[index]
        if index in keep and op not in ("input", "local"):
            keep.update(arguments)
    order = sorted(keep)
    number = {old: new for new, old in enumerate(order)}
    nodes = []
    for index in order:
        op, arguments, attributes = expression.nodes[index]
        inner = arguments if op in ("input", "local") else tuple(number[argument] for argument in arguments)
        nodes.append((op, inner, attributes))
    return Expression(tuple(nodes), tuple(expression.elements[index] for index in order))
