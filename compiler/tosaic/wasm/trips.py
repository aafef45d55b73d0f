"""How often a `tosa.while_loop` runs at most, read from how it counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tosaic.wasm.graph import Graph, Node, Value, scalar

_INT32_LIMIT = 1 << 31


def most_trips(test: Graph, body: Graph, starts: Sequence[Value]) -> int | None:
    """A bound on the trips of a loop, None where none can be proved.

    There is one where the loop only goes on while an i32 state that starts at a constant and grows by a constant
    each trip is below a constant (or falls, and is above). The comparison may be one of several in a conjunction.
    `starts` are the first values of the states, which are the first arguments of both regions.
    """
    bounds = [_bound(node, test, body, starts) for node in _conjuncts(test.outputs[0].value)]
    return min((bound for bound in bounds if bound is not None), default=None)


def is_counted(test: Graph) -> bool:
    """True if nothing but one comparison ends the loop, so that a bound is the number of trips."""
    node = _source(test.outputs[0].value).producer
    return node is not None and node.op != "logical_and"


def _conjuncts(value: Value) -> Iterator[Node]:
    """The ops that all must yield true for the value to be true."""
    node = _source(value).producer
    if node is None:
        return
    if node.op == "logical_and":
        for operand in node.inputs:
            yield from _conjuncts(operand)
    else:
        yield node


def _bound(node: Node, test: Graph, body: Graph, starts: Sequence[Value]) -> int | None:
    if node.op not in ("greater", "greater_equal"):
        return None
    large, small = map(_source, node.inputs)
    sign, counter, limit = (1, small, large) if _is_number(large) else (-1, large, small)
    states = [border.value for border in test.inputs[: len(starts)]]
    if not _is_number(limit) or counter not in states:
        return None
    start, step = starts[states.index(counter)], _step(body, states.index(counter))
    if step is None or not _is_number(start):
        return None
    return _trips(sign * _number(start), sign * step, sign * _number(limit) + (node.op == "greater_equal"))


def _trips(start: int, step: int, limit: int) -> int | None:
    """Trips of `while counter < limit: counter += step`; None if the counter would leave i32 before its end."""
    if start >= limit:
        return 0
    if step <= 0:
        return None
    trips = -((start - limit) // step)
    return trips if start + trips * step < _INT32_LIMIT else None


def _step(body: Graph, position: int) -> int | None:
    """What a trip adds to a state, None if that is not a constant."""
    node, state = _source(body.outputs[position].value).producer, body.inputs[position].value
    if node is None or node.op not in ("add", "sub"):
        return None
    first, second = map(_source, node.inputs)
    if first is state and _is_number(second):
        return _number(second) if node.op == "add" else -_number(second)
    if node.op == "add" and second is state and _is_number(first):
        return _number(first)
    return None


def _source(value: Value) -> Value:
    """The value before changes of its shape."""
    while value.producer is not None and value.producer.op in ("identity", "reshape"):
        value = value.producer.inputs[0]
    return value


def _is_number(value: Value) -> bool:
    return value.array is not None and value.size == 1 and value.element == "i32"


def _number(value: Value) -> int:
    assert value.array is not None
    return int(scalar(value.array))
