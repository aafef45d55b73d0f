"""Columns of a product that fill no vector: lanes along the taps.

One to three columns in a vector cost as much as four. Where the innermost taps come in fours, the lanes of an
accumulator are partial sums of one column instead: over the taps 0, 4, 8..., 1, 5, 9..., and so on, the first one from
the bias on. They are joined as (0 + 1) + (2 + 3).

That is another order of additions than that of full vectors. So what decides is nothing that a cut of the result
changes: sizes of the reduction, and how many columns are left behind the last full vector (parts of a product begin
at whole vectors, see `tile_windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Operand
from tosaic.wasm.kernels.epilogue import Ends, Epilogue, ends_of
from tosaic.wasm.kernels.fold import fold_for, join_lanes
from tosaic.wasm.kernels.numbers import Numbers
from tosaic.wasm.kernels.streams import LANES
from tosaic.wasm.kernels.tile import F32, Chain

_LEAST_TAPS = 24
"""With fewer the join takes what the lanes save."""


def goes_across(numbers: Numbers, right: Operand, columns: int, taps: int, innermost: int) -> bool:
    """Whether there are columns behind the last full vector that are summed across: in f32 by a constant, with the
    `innermost` of all taps in fours (0: they cannot be adjacent)."""
    constant = numbers.arithmetic is F32 and right.array is not None
    in_fours = taps >= _LEAST_TAPS and innermost % LANES == 0 < innermost
    return constant and in_fours and columns % LANES > 0


def join(f: Function, columns: Sequence[Chain]) -> None:
    """Push a vector with the sums of up to 4 columns, each pushed as its partial sums."""
    sums = []
    for column in columns:
        column()
        sums.append(f.local("v128"))
        f.set(sums[-1])
    join_lanes(f, fold_for("sum", "f32"), sums)
    f.release(*sums)


@lru_cache(maxsize=512)
def joined_ends_of(epilogue: Epilogue, prices: PriceList, columns: int, still: tuple[int, ...]) -> Ends:
    """The ends of up to 4 columns; the inputs that lie `still` are held."""
    f = Function("", prices)
    entry = f.cost
    join(f, [lambda: None] * columns)
    return Ends(f.operators, f.byte_size, f.cost - entry) + ends_of(epilogue, prices, 1, still)
