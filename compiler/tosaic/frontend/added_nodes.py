"""Nodes that the frontend puts in place of others."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx

from tosaic.frontend.static_graph import StaticNode, Value

if TYPE_CHECKING:
    from tosaic.frontend.resolution import Resolver, Scope


class AddedNodes:
    """What stands for the node `name`, as far as it is made."""

    def __init__(self, resolver: Resolver, name: str) -> None:
        self.nodes: list[StaticNode] = []
        self.name = name
        self._resolver = resolver

    def apply(self, op_type: str, operands: Sequence[Value], **attributes: Any) -> Value:
        """The result of one more node of the default domain, folded where its operands are constant."""
        names = [f"operand_{index}" for index in range(len(operands))]
        name = f"{self.name}/{op_type}_{len(self.nodes)}"
        scope: Scope = ChainMap(dict(zip(names, operands)))
        node = onnx.helper.make_node(op_type, names, [name], **attributes)
        self.nodes += self._resolver.node(node, name, scope)
        return scope[name]
