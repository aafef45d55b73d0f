"""How the instructions of a kernel divide among the ops that it computes.

A fused elementwise op has what its own operators cost for all vectors of the result, or of the operand that a prologue
computes; the root has the rest, with the loops, loads and stores that would be there without the others. The shares
always add up to the kernel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tosaic.prices import PriceList
from tosaic.wasm.expression import emit
from tosaic.wasm.function import Function
from tosaic.wasm.grouping import Cluster, is_pointwise
from tosaic.wasm.kernel import Expression, KernelRequest
from tosaic.wasm.lanes import max_lanes

_LEAVES = ("input", "result", "constant")


def shares(
    instructions: int, cluster: Cluster, requests: Sequence[KernelRequest], prices: PriceList
) -> list[int]:
    """The share of each node of the cluster, in the cluster's order; `requests` are the calls it makes."""
    if len(cluster.nodes) == 1 or not requests:
        return [instructions] + [0] * (len(cluster.nodes) - 1)
    before = (
        _fused_costs(requests[0].prologue, cluster.root.inputs[0].size, prices) if cluster.prologue else []
    )
    after = _fused_costs(requests[0].epilogue, cluster.result.size, prices)
    if is_pointwise(cluster.root):
        return _in_proportion(instructions, after)
    fused = sum(before) + sum(after)
    rest = instructions - fused
    if rest > 0:
        return [*before, rest, *after]
    return _in_proportion(instructions, [*before, fused, *after])


def _fused_costs(expression: Expression | None, size: int, prices: PriceList) -> list[int]:
    """What the ops of an expression cost for all vectors of `size` elements."""
    if expression is None:
        return []
    vectors = math.ceil(size / max_lanes(expression.elements))
    return [vectors * cost for cost in _node_costs(expression, prices)]


def _in_proportion(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers that add up to the total."""
    whole, done, found = max(sum(weights), 1), 0, []
    for weight in weights:
        found.append(total * (done + weight) // whole - total * done // whole)
        done += weight
    return [*found[:-1], total - sum(found[:-1])]


def _node_costs(expression: Expression, prices: PriceList) -> list[int]:
    """The price of each op of an expression for one vector, operands in locals."""
    return [
        _node_cost(_alone(expression, index), prices)
        for index, (op, _, _) in enumerate(expression.nodes)
        if op not in _LEAVES
    ]


def _alone(expression: Expression, index: int) -> Expression:
    """One op with inputs for its arguments; constants stay."""
    op, arguments, attributes = expression.nodes[index]
    leaves = [
        expression.nodes[argument]
        if expression.nodes[argument][0] == "constant"
        else ("input", (position,), ())
        for position, argument in enumerate(arguments)
    ]
    elements = tuple(expression.elements[argument] for argument in arguments)
    own = (op, tuple(range(len(arguments))), attributes)
    return Expression((*leaves, own), (*elements, expression.elements[index]))


@functools.cache
def _node_cost(expression: Expression, prices: PriceList) -> int:
    function = Function("", prices)
    operand, address = function.local("v128"), function.local("i32")
    emit(
        function,
        expression,
        max_lanes(expression.elements),
        lambda _: function.get(operand),
        table_address=lambda _: function.get(address),
    )
    return function.cost - prices.function_entry
