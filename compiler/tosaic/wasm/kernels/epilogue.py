"""The end of a kernel's chains: fused arithmetic on a result in a register, and the store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

from tosaic.prices import PriceList
from tosaic.wasm.expression import emit
from tosaic.wasm.float_formats import round_to
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import ELEMENT_BYTES, Expression, KernelRequest, View
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.bounds import result_bound
from tosaic.wasm.kernels.requantization import MOST_VECTORS, REQUANTIZE, Packing, push_bytes
from tosaic.wasm.kernels.streams import LANES, OUTPUT, Axis
from tosaic.wasm.lanes import Push, load_lanes, max_lanes, store_lanes, store_raw_pieces, store_saturates

Held = Mapping[tuple[int, int], int]
"""(Input of an epilogue, byte offset) -> the local that holds the lanes there."""

NOTHING: Held = {}


@dataclass(frozen=True)
class Target:
    """Where results go and what is fused into them: the output's view and place, and those of the fused inputs."""

    output: View
    place: Place
    fused: tuple[View, ...]
    fused_places: tuple[Place, ...]

    @classmethod
    def whole(cls, assembly: Assembly) -> Target:
        """The whole output of a request."""
        inputs = fused_inputs(assembly.request.epilogue)
        views = tuple(assembly.view(k) for k in inputs)
        return cls(assembly.output, assembly.output_place, views, tuple(assembly.read(k) for k in inputs))

    def columns(self, first: int, count: int) -> Target:
        """A part of the innermost axis."""
        return self.every([*((0, 1, size) for size in self.output.shape[:-1]), (first, 1, count)])

    def every(self, parts: Sequence[tuple[int, int, int]]) -> Target:
        """The part with (first index, step, size) along each axis."""
        whole = [(self.output, self.place), *zip(self.fused, self.fused_places)]
        output, *fused = [self._part(view, place, parts) for view, place in whole]
        return Target(*output, tuple(view for view, _ in fused), tuple(place for _, place in fused))

    def moves(self, axis: int) -> tuple[int, ...]:
        """Bytes that the output and each fused input move along an axis of the output."""
        return (self.output.strides[axis], *(self._steps(view)[axis] for view in self.fused))

    def _part(self, view: View, place: Place, parts: Sequence[tuple[int, int, int]]) -> tuple[View, Place]:
        steps = self._steps(view)
        if len(view.shape) != len(parts):
            return view, place
        offset = sum(first * step for (first, _, _), step in zip(parts, steps))
        strides = tuple(step * every for (_, every, _), step in zip(parts, steps))
        shape = tuple(size for _, _, size in parts)
        return View(view.element, shape, strides), Place(place.param, place.offset + offset)

    def _steps(self, view: View) -> tuple[int, ...]:
        """A view's strides along the output's axes; look-up tables stand still."""
        rank = len(self.output.shape)
        if len(view.shape) != rank:
            return (0,) * rank
        return tuple(stride if size > 1 else 0 for size, stride in zip(view.shape, view.strides))


@dataclass(frozen=True)
class Epilogue:
    """What happens to each result: rounded to `result`, then the expression, then stored as `output`.

    `inputs` are the kernel's inputs that the expression reads, `elements` their types: the streams after the output.
    `steps` is how many bytes the output and each of the inputs moves per column, `bound` the largest magnitude of
    integer results, if it is known.
    """

    result: str
    output: str
    steps: tuple[int, ...]
    expression: Expression | None = None
    inputs: tuple[int, ...] = ()
    elements: tuple[str, ...] = ()
    bound: int | None = None

    @classmethod
    def of(cls, request: KernelRequest, target: Target) -> Epilogue:
        """The epilogue of a request whose results go to `target`."""
        inputs = fused_inputs(request.epilogue)
        elements = tuple(request.inputs[k].view.element for k in inputs)
        output = target.output.element
        moves, bound = target.moves(-1), result_bound(request)
        return cls(request.result or output, output, moves, request.epilogue, inputs, elements, bound)

    @property
    def group(self) -> int:
        """How many vectors side by side are finished at once: those whose bytes fill one vector."""
        return 1 if self._packing is None else MOST_VECTORS

    def store(
        self, f: Function, offsets: Sequence[int], lanes: int, results: Sequence[Push], held: Held = NOTHING
    ) -> None:
        """Finish the vectors side by side that `results` push, with `lanes` columns of the output in all.

        `offsets` are those of the output and of the inputs at the first column. Vectors that are not full or hold
        64-bit values are finished in pieces. Every element is written after all that is fused into it was read.
        """
        if self._packing is not None:
            self._store_bytes(f, offsets, lanes, results, held)
            return
        for first, result in zip(range(0, lanes, LANES), results, strict=True):
            self._store_vector(f, self._moved(offsets, first), min(LANES, lanes - first), result, held)

    def hold(self, f: Function, offsets: Sequence[int], lanes: int, inputs: Sequence[int]) -> Held:
        """Locals with what `store` wants of these inputs (counted from 0) for so many columns."""
        held: dict[tuple[int, int], int] = {}
        for index in inputs:
            width = self._columns_loaded(index)
            for first in range(0, lanes, width):
                at = self._moved(offsets, first)[1 + index]
                if (index, at) in held:
                    continue
                self._load_input(f, index, at, min(width, lanes - first))
                held[index, at] = f.local("v128")
                f.set(held[index, at])
        return held

    def held_locals(self, lanes: int, index: int) -> int:
        """How many locals `hold` takes for an input."""
        return -(-lanes // self._columns_loaded(index))

    def still_inputs(self, axes: Sequence[Axis]) -> tuple[int, ...]:
        """The inputs (counted from 0) that these axes do not move and that can be held: none where vectors are finished
        in pieces or look-up tables are read."""
        fused = self.expression.elements if self.expression else ()
        whole = max_lanes((self.result, *fused)) == LANES
        tables = self.expression is not None and any(op == "table" for op, _, _ in self.expression.nodes)
        if tables or not whole or math.prod(axis.size for axis in axes) == 1:
            return ()
        return tuple(
            index
            for index in range(len(self.inputs))
            if not any(axis.steps[OUTPUT + 1 + index] for axis in axes)
        )

    def _moved(self, offsets: Sequence[int], columns: int) -> list[int]:
        return [offset + columns * step for offset, step in zip(offsets, self.steps)]

    # Vector by vector

    def _store_vector(
        self, f: Function, offsets: Sequence[int], lanes: int, result: Push, held: Held
    ) -> None:
        fused = self.expression.elements if self.expression else ()
        pieces = list(_pieces(lanes, max_lanes((self.result, *fused))))
        if len(pieces) == 1:
            self._store_piece(f, offsets, lanes, result, held)
            return
        vector = f.local("v128")
        result()
        f.set(vector)
        for first, width in pieces:
            self._store_piece(
                f, self._moved(offsets, first), width, partial(_from_lane, f, vector, first), NOTHING
            )
        f.release(vector)

    def _store_piece(self, f: Function, offsets: Sequence[int], lanes: int, result: Push, held: Held) -> None:
        saturates = store_saturates(self.output, lanes)
        value = partial(self._push_value, f, self.expression, offsets, lanes, result, held, saturates)
        store_lanes(f, self.output, lanes, partial(f.get, OUTPUT), value, offsets[0])

    def _push_value(
        self,
        f: Function,
        expression: Expression | None,
        offsets: Sequence[int],
        lanes: int,
        result: Push,
        held: Held,
        saturates: bool = False,
    ) -> None:
        """Push the value of an expression of the result, in wide form."""

        def rounded() -> None:
            result()
            round_to(f, self.result)

        def load_input(k: int) -> None:
            index = self.inputs.index(k)
            self._push_input(f, index, offsets[1 + index], lanes, held)

        def table_address(k: int) -> None:
            f.get(OUTPUT + 1 + self.inputs.index(k))

        if expression is None:
            rounded()
            return
        emit(
            f, expression, lanes, load_input, rounded, table_address,
            result_bound=self.bound, store_saturates=saturates,
        )  # fmt: skip

    def _push_input(self, f: Function, index: int, offset: int, lanes: int, held: Held) -> None:
        if (index, offset) in held:
            f.get(held[index, offset])
        else:
            self._load_input(f, index, offset, lanes)

    def _load_input(self, f: Function, index: int, offset: int, lanes: int) -> None:
        address = partial(f.get, OUTPUT + 1 + index)
        if index in self._scales:
            address()
            f.memory("v128.load", offset)
        else:
            load_lanes(f, self.elements[index], lanes, address, offset, self.steps[1 + index])

    # Several vectors at once

    @cached_property
    def _packing(self) -> Packing | None:
        """How the results are packed, if the expression ends in a requantisation."""
        op, _, attributes = self.expression.nodes[-1] if self.expression else ("", (), ())
        return dict(attributes)["packing"] if op == REQUANTIZE else None

    @cached_property
    def _sums(self) -> Expression:
        """What a requantisation scales."""
        assert self.expression is not None
        last = self.expression.nodes[-1][1][0] + 1
        return Expression(self.expression.nodes[:last], self.expression.elements[:last])

    @cached_property
    def _scales(self) -> Mapping[int, int]:
        """The inputs that are scales of a requantisation, with the columns that one vector of them holds."""
        if self._packing is None:
            return {}
        assert self.expression is not None
        _, (_, *scales), _ = self.expression.nodes[-1]
        nodes = [(self.expression.nodes[node], columns) for node, columns in zip(scales, (LANES, 2 * LANES))]
        return {
            self.inputs.index(arguments[0]): columns for (op, arguments, _), columns in nodes if op == "input"
        }

    def _columns_loaded(self, index: int) -> int:
        return self._scales.get(index, LANES)

    def _store_bytes(
        self, f: Function, offsets: Sequence[int], lanes: int, results: Sequence[Push], held: Held
    ) -> None:
        assert self._packing is not None
        assert self.expression is not None
        _, (_, multiplier, factor), _ = self.expression.nodes[-1]
        at = [self._moved(offsets, first) for first in range(0, lanes, LANES)]
        sums = [
            partial(self._push_value, f, self._sums, here, min(LANES, lanes - number * LANES), result, held)
            for number, (here, result) in enumerate(zip(at, results, strict=True))
        ]
        multipliers = [partial(self._push_scale, f, multiplier, here, held) for here in at]
        factors = [partial(self._push_scale, f, factor, here, held) for here in at[::2]]
        push = partial(push_bytes, f, self._packing, sums, multipliers, factors)
        store_raw_pieces(f, 1, lanes, partial(f.get, OUTPUT), push, offsets[0])

    def _push_scale(self, f: Function, node: int, offsets: Sequence[int], held: Held) -> None:
        assert self.expression is not None
        op, arguments, attributes = self.expression.nodes[node]
        if op == "constant":
            size = ELEMENT_BYTES[self.expression.elements[node]]
            f.v128(dict(attributes)["value"].to_bytes(size, "little", signed=True) * (16 // size))
        else:
            index = self.inputs.index(arguments[0])
            self._push_input(f, index, offsets[1 + index], LANES, held)


@dataclass(frozen=True)
class Ends:
    """What the ends of vectors side by side take: operators, bytes of code, instructions."""

    operators: int
    bytes: int
    cost: int

    def __add__(self, other: Ends) -> Ends:
        return Ends(self.operators + other.operators, self.bytes + other.bytes, self.cost + other.cost)


@lru_cache(maxsize=2048)
def ends_of(epilogue: Epilogue, prices: PriceList, vectors: int, still: tuple[int, ...]) -> Ends:
    """The ends of so many full vectors; the inputs that lie `still` are held."""
    if vectors > epilogue.group:
        first = ends_of(epilogue, prices, epilogue.group, still)
        return first + ends_of(epilogue, prices, vectors - epilogue.group, still)
    f = Function("", prices, ("i32",) * (OUTPUT + len(epilogue.steps)))
    offsets = [0] * len(epilogue.steps)
    held = epilogue.hold(f, offsets, LANES * vectors, still)
    before = Ends(f.operators, f.byte_size, f.cost)
    epilogue.store(f, offsets, LANES * vectors, [lambda: None] * vectors, held)
    return Ends(f.operators - before.operators, f.byte_size - before.bytes, f.cost - before.cost)


def fused_inputs(expression: Expression | None) -> tuple[int, ...]:
    """The inputs of the kernel that the expression reads."""
    nodes = expression.nodes if expression else ()
    read = {arguments[0] for op, arguments, _ in nodes if op == "input"}
    read |= {dict(attributes)["input"] for op, _, attributes in nodes if op == "table"}
    return tuple(sorted(read))


def _from_lane(f: Function, vector: int, first: int) -> None:
    """Push the vector in a local with lane `first` moved to the front."""
    f.get(vector)
    if first:
        f.get(vector)
        f.shuffle([(4 * first + byte) % 16 for byte in range(16)])


def _pieces(lanes: int, widest: int) -> Iterator[tuple[int, int]]:
    """(first lane, lanes) of the pieces of 4, 2 or 1 lanes, at most `widest`."""
    first = 0
    while first < lanes:
        width = next(w for w in (4, 2, 1) if w <= min(widest, lanes - first))
        yield first, width
        first += width
