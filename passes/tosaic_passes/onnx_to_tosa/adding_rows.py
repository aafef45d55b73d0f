"""Adding rows up at places that are known at compile time."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.tensor import Tensor


def add_rows(ctx: LoweringContext, rows: Tensor, targets: np.ndarray, count: int) -> Tensor:
    """[N, K, C] -> [N, count, C]: row k is added to row targets[k] of the result; below 0 it is left out.

    A sum of `tosa.gather`s with constant indices, as many as rows meet at most.
    """
    rows = ctx.pad(rows, [0, 0, 0], [0, 1, 0])
    total = None
    for sources in _sources(targets, count):
        part = ctx.gather(rows, ctx.constant(np.broadcast_to(sources, (rows.shape[0], count))))
        total = part if total is None else ctx.add(total, part)
    assert total is not None
    return total


def _sources(targets: np.ndarray, count: int) -> np.ndarray:
    """[most, count]: the rows that go to each target in their order, filled up with the number of all rows."""
    used = np.flatnonzero(targets >= 0)
    used = used[np.argsort(targets[used], kind="stable")]
    sorted_targets = targets[used]
    earlier = np.arange(len(used)) - np.searchsorted(sorted_targets, sorted_targets)
    sources = np.full((int(earlier.max(initial=0)) + 1, count), len(targets), np.int32)
    sources[earlier, sorted_targets] = used
    return sources
