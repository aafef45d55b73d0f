"""The end of a kernel's chains: fused arithmetic on a result in a register, and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tosaic.wasm.expression import emit
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Expression, KernelRequest, View
from tosaic.wasm.kernels.streams import OUTPUT
from tosaic.wasm.lanes import load_lanes, max_lanes, round_to, store_lanes


@dataclass(frozen=True)
class Epilogue:
    """What happens to each result: rounded to `result`, then the expression, then stored as `output`.

    `inputs` are the kernel's inputs that the expression reads, `elements` their types: the streams after the output.
    `steps` is how many bytes the output and each of the inputs moves per column.
    """

    result: str
    output: str
    steps: tuple[int, ...]
    expression: Expression | None = None
    inputs: tuple[int, ...] = ()
    elements: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: KernelRequest, output: View) -> Epilogue:
        """The epilogue of a request whose results go to `output` (all of the request's output or part of it)."""
        inputs = _inputs(request.epilogue)
        return cls(
            request.result or output.element,
            output.element,
            (output.strides[-1], *moves(request, output, -1)),
            request.epilogue,
            inputs,
            tuple(request.inputs[k].view.element for k in inputs),
        )

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
            value = partial(emit, f, self.expression, lanes, load_input, rounded, table_address)
        store_lanes(f, self.output, lanes, partial(f.get, OUTPUT), value, at[0])


def moves(request: KernelRequest, output: View, axis: int) -> list[int]:
    """Bytes that each input of the epilogue moves along an axis of the output; look-up tables stand still."""
    views = [request.inputs[k].view for k in _inputs(request.epilogue)]
    rank = len(output.shape)
    return [v.strides[axis] if len(v.shape) == rank and v.shape[axis] > 1 else 0 for v in views]


def _inputs(expression: Expression | None) -> tuple[int, ...]:
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
