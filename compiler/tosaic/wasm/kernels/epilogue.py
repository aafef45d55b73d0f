"""The end of a kernel's chains: fused arithmetic on a result in a register, and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from tosaic.prices import PriceList
from tosaic.wasm.expression import emit
from tosaic.wasm.float_formats import round_to
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Expression, KernelRequest, View
from tosaic.wasm.kernels.assembly import Assembly, Place
from tosaic.wasm.kernels.bounds import result_bound
from tosaic.wasm.kernels.streams import LANES, OUTPUT
from tosaic.wasm.lanes import load_lanes, max_lanes, store_lanes, store_saturates


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

    def store(self, f: Function, offsets: Sequence[int], lanes: int, result: Callable[[], None]) -> None:
        """Finish the vector that `result` pushes, of which `lanes` are columns of the output.

        `offsets` are those of the output and of the inputs. Vectors that are not full or hold 64-bit values
        are finished in pieces. Every element is written after all that is fused into it was read.
        """
        fused = self.expression.elements if self.expression else ()
        widest = max_lanes((self.result, *fused))
        pieces = list(_pieces(lanes, widest))
        if len(pieces) == 1:
            self._store_piece(f, offsets, 0, lanes, result)
            return
        vector = f.local("v128")
        result()
        f.set(vector)
        for first, width in pieces:
            self._store_piece(f, offsets, first, width, partial(_from_lane, f, vector, first))
        f.release(vector)

    def _store_piece(
        self, f: Function, offsets: Sequence[int], first: int, lanes: int, result: Callable[[], None]
    ) -> None:
        at = [offset + first * step for offset, step in zip(offsets, self.steps)]

        def load_input(k: int) -> None:
            index = self.inputs.index(k)
            address = partial(f.get, OUTPUT + 1 + index)
            load_lanes(f, self.elements[index], lanes, address, at[1 + index], self.steps[1 + index])

        def table_address(k: int) -> None:
            f.get(OUTPUT + 1 + self.inputs.index(k))

        def rounded() -> None:
            result()
            round_to(f, self.result)

        value = rounded
        if self.expression is not None:
            value = partial(
                emit, f, self.expression, lanes, load_input, rounded, table_address,
                result_bound=self.bound, store_saturates=store_saturates(self.output, lanes),
            )  # fmt: skip
        store_lanes(f, self.output, lanes, partial(f.get, OUTPUT), value, at[0])


@lru_cache(maxsize=512)
def epilogue_operators(epilogue: Epilogue, prices: PriceList) -> int:
    """How many operators the end of one full vector takes."""
    f = Function("", prices, ("i32",) * (OUTPUT + len(epilogue.steps)))
    epilogue.store(f, [0] * len(epilogue.steps), LANES, lambda: f.v128(bytes(16)))
    return f.operators


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
