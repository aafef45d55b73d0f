"""A limit under which a program can be tiled and cut: what a user is told who asks for one that is too small."""

from __future__ import annotations

from tosaic_passes.cost_model import CostModel
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.program import Program
from tosaic_passes.split_execution import SplitExecutionPass
from tosaic_passes.tile_chains import TileChainsPass
from tosaic_passes.tile_operators import TileOperatorsPass

PRECISION = 0.01
"""How far apart the limit that works and the one that does not may be."""
_FASTER = 4


def smallest_limit(program: Program, error: LimitTooSmallError, model: CostModel) -> LimitTooSmallError:
    """The error with a remedy: a limit that works and one hardly smaller that does not. Both have been tried.

    `program` is not tiled yet and stays as it is; `error` says why a limit is too small for it. What a failure says is
    needed is tried next (or a little more, where it says hardly more), until a limit works. One less follows, as that
    limit often is the smallest; then lower ones, ever faster, until one fails, and those between the last two.
    """
    low, high = error, error.needed
    while failure := _failure(program, high, model):
        low, high = failure, max(failure.needed, high + int(PRECISION * high) + 1)
    step = 1
    while high - low.limit > max(1, PRECISION * high):
        tried = max(high - step, (high + low.limit) // 2)
        if failure := _failure(program, tried, model):
            low = failure
        else:
            high, step = tried, max(_FASTER * step, int(PRECISION * high))
    remedy = f"a limit of {high} works, one of {low.limit} does not"
    return LimitTooSmallError(low.what, min(low.needed, high), error.limit, remedy)


def _failure(program: Program, limit: int, model: CostModel) -> LimitTooSmallError | None:
    """Why a limit is too small; None if it works."""
    tried = program.copy()
    try:
        TileChainsPass(limit, model).run(tried)
        TileOperatorsPass(limit, model).run(tried)
        SplitExecutionPass(limit, model).run(tried)
    except LimitTooSmallError as error:
        return error
    return None
