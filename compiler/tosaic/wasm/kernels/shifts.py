"""Constant shifts that differ by channel, as factors: SIMD shifts all lanes alike, but multiplies each by its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tosaic.wasm.kernel import Expression, KernelRequest, Operand, View
from tosaic.wasm.operations.rescale import SHIFT_RANGE, takes_factors


def with_factors(request: KernelRequest) -> tuple[KernelRequest, dict[int, np.ndarray]]:
    """The request with every constant vector of shifts as factors, and what the memory holds for these inputs."""
    packed: dict[int, np.ndarray] = {}
    inputs, epilogue = list(request.inputs), request.epilogue
    for node, k in _shift_vectors(request):
        shifts = _once(inputs[k])
        smallest, largest = int(shifts.min()), int(shifts.max())
        if not takes_factors(smallest, largest):
            continue
        packed[k] = np.left_shift(1, largest - shifts.astype(np.int32), dtype=np.int32)
        inputs[k] = Operand(_view(inputs[k].view, packed[k].shape))
        epilogue = _with_range(epilogue, node, (smallest, largest))  # type: ignore[arg-type]
    return replace(request, inputs=tuple(inputs), epilogue=epilogue), packed


def _shift_vectors(request: KernelRequest) -> list[tuple[int, int]]:
    """(rescale node, input) pairs of shifts that are constants, of no other use, and rounded once."""
    nodes = request.epilogue.nodes if request.epilogue else ()
    uses = [argument for op, arguments, _ in nodes if op not in ("input", "local") for argument in arguments]
    reads = [arguments[0] for op, arguments, _ in nodes if op == "input"]
    found = []
    for index, (op, arguments, attributes) in enumerate(nodes):
        if op != "rescale" or dict(attributes).get("rounding_mode") == "DOUBLE_ROUND":
            continue
        kind, source, _ = nodes[arguments[2]]
        elements = request.epilogue.elements  # type: ignore[union-attr]
        wide = elements[arguments[0]] in ("i48", "i64")
        if kind != "input" or wide or uses.count(arguments[2]) != 1 or reads.count(source[0]) != 1:
            continue
        if request.inputs[source[0]].array is not None:
            found.append((index, source[0]))
    return found


def _once(operand: Operand) -> np.ndarray:
    """The array without repetitions along broadcast dimensions."""
    index = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in operand.view.strides)
    return np.ascontiguousarray(operand.array[index])  # type: ignore[index]


def _view(view: View, shape: tuple[int, ...]) -> View:
    dense = View.contiguous("i32", shape)
    strides = tuple(s if n > 1 else 0 for n, s in zip(shape, dense.strides))
    return View("i32", view.shape, strides)


def _with_range(epilogue: Expression, node: int, shifts: tuple[int, int]) -> Expression:
    nodes, elements = list(epilogue.nodes), list(epilogue.elements)
    op, arguments, attributes = nodes[node]
    nodes[node] = (op, arguments, (*attributes, (SHIFT_RANGE, shifts)))
    elements[arguments[2]] = "i32"
    return Expression(tuple(nodes), tuple(elements))
