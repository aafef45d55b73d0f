"""Non-maximum suppression."""

from __future__ import annotations

import numpy as np

from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import BOOL, INT8, INT32
from tosaic_passes.onnx_to_tosa.indexing import take
from tosaic_passes.onnx_to_tosa.regions import while_loop
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.selection import true_positions
from tosaic_passes.onnx_to_tosa.tensor import Tensor

UNROLLED_ROUNDS = 32
"""More rounds than this become a `tosa.while_loop`."""


@lowering("NonMaxSuppression", since=10)
def non_max_suppression(
    ctx: LoweringContext,
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Tensor | None = None,
    iou_threshold: Tensor | None = None,
    score_threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """One round for each box kept: the best one left is taken, and boxes that it overlaps are dropped.

    As many results as the model declares; the number of boxes for each class must be constant.
    """
    count = ctx.result.shape[0]
    asked = 0 if max_output_boxes_per_class is None else _number(ctx, max_output_boxes_per_class)
    batch, classes, size = scores.shape
    rounds = min(asked, size)
    if not count or not rounds:
        return ctx.constant(np.zeros(ctx.result.shape, np.int64))
    rows = batch * classes
    corners = _corners(ctx, boxes, classes, bool(center_point_box))
    alive = ctx.constant(np.ones((rows, size), BOOL))
    flat_scores = ctx.reshape(scores, (rows, size))
    if score_threshold is not None:
        alive = ctx.greater(flat_scores, ctx.reshape(score_threshold, ()))
    threshold = 0.0 if iou_threshold is None else ctx.reshape(iou_threshold, ())
    chosen, valid = _rounds(ctx, flat_scores, corners, alive, threshold, rounds)
    batch_and_class = np.indices((batch, classes, rounds), np.int32)[:2].reshape(2, rows * rounds).T
    found = ctx.concat([ctx.constant(batch_and_class), ctx.reshape(chosen, (rows * rounds, 1))], 1)
    return take(ctx, found, true_positions(ctx, ctx.reshape(valid, (rows * rounds,)), count), 0)


def _number(ctx: LoweringContext, operand: Tensor) -> int:
    return int(ctx.required_constant(operand, "max_output_boxes_per_class").reshape(()))


def _corners(ctx: LoweringContext, boxes: Tensor, classes: int, centred: bool) -> list[Tensor]:
    """Least and greatest y and x of all boxes, each [batch * classes, boxes]."""
    batch, size, _ = boxes.shape
    columns = [ctx.slice_axis(boxes, 2, i, 1) for i in range(4)]
    if centred:
        x, y, width, height = columns
        x_reach, y_reach = ctx.mul(width, 0.5), ctx.mul(height, 0.5)
        pairs = [(ctx.sub(c, reach), ctx.add(c, reach)) for c, reach in ((y, y_reach), (x, x_reach))]
    else:
        pairs = [(columns[0], columns[2]), (columns[1], columns[3])]
    ordered = [end for a, b in pairs for end in (ctx.minimum(a, b), ctx.maximum(a, b))]
    shape = (batch, classes, size)
    return [
        ctx.reshape(ctx.broadcast_to(ctx.reshape(end, (batch, 1, size)), shape), (batch * classes, size))
        for end in ordered
    ]


def _rounds(
    ctx: LoweringContext,
    scores: Tensor,
    corners: list[Tensor],
    alive: Tensor,
    threshold: Tensor | float,
    rounds: int,
) -> tuple[Tensor, Tensor]:
    """The box chosen in each round and whether there was one, both [rows, rounds]."""
    if rounds <= UNROLLED_ROUNDS:
        steps = []
        for _ in range(rounds):
            chosen, valid, alive = _round(ctx, scores, corners, alive, threshold)
            steps.append((chosen, valid))
        return ctx.concat([step[0] for step in steps], 1), ctx.concat([step[1] for step in steps], 1)
    return _looped(ctx, scores, corners, alive, threshold, rounds)


def _looped(
    ctx: LoweringContext,
    scores: Tensor,
    corners: list[Tensor],
    alive: Tensor,
    threshold: Tensor | float,
    rounds: int,
) -> tuple[Tensor, Tensor]:
    rows = scores.shape[0]
    start = [
        ctx.constant(np.array(0, np.int32)),
        alive,
        ctx.constant(np.zeros((1, rounds, rows), np.int32)),
        ctx.constant(np.zeros((1, rounds, rows), np.int8)),
    ]

    def step(values: list[Tensor]) -> list[Tensor]:
        index, alive, *kept = values
        chosen, valid, alive = _round(ctx, scores, corners, alive, threshold)
        row = ctx.reshape(index, (1, 1))
        new = [ctx.reshape(x, (1, 1, rows)) for x in (chosen, ctx.cast(valid, INT8))]
        written = [ctx.emit("scatter", [old, row, x], old.shape, old.dtype) for old, x in zip(kept, new)]
        return [ctx.add(index, 1), alive, *written]

    _, _, chosen, valid = while_loop(ctx, start, lambda values: ctx.greater(rounds, values[0]), step)
    by_row = [ctx.transpose(ctx.reshape(x, (rounds, rows)), [1, 0]) for x in (chosen, valid)]
    return by_row[0], ctx.cast(by_row[1], BOOL)


def _round(
    ctx: LoweringContext, scores: Tensor, corners: list[Tensor], alive: Tensor, threshold: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """The best box alive and whether there is one, both [rows, 1], and what stays alive without it."""
    rows, size = scores.shape
    lowest = np.array(-np.inf, scores.dtype)
    best = ctx.emit("argmax", [ctx.select(alive, scores, lowest)], (rows,), INT32, axis=1)
    best = ctx.reshape(best, (rows, 1))
    valid = ctx.reduce("reduce_any", alive, [1])
    places = ctx.constant(np.arange(size, dtype=np.int32).reshape(1, size))
    own = [ctx.reshape(ctx.gather(ctx.reshape(x, (rows, size, 1)), best), (rows, 1)) for x in corners]
    dropped = ctx.logical_or(ctx.equal(places, best), _overlaps(ctx, own, corners, threshold))
    return best, valid, ctx.logical_and(alive, ctx.logical_not(dropped))


def _overlaps(
    ctx: LoweringContext, one: list[Tensor], many: list[Tensor], threshold: Tensor | float
) -> Tensor:
    """Whether intersection / union is above the threshold; never for a box without area."""
    sides = []
    for low in (0, 2):
        reach = ctx.sub(ctx.minimum(one[low + 1], many[low + 1]), ctx.maximum(one[low], many[low]))
        sides.append(ctx.maximum(reach, 0))
    common = ctx.mul(*sides)
    areas = [ctx.mul(ctx.sub(b[1], b[0]), ctx.sub(b[3], b[2])) for b in (one, many)]
    union = ctx.sub(ctx.add(*areas), common)
    has_area = ctx.logical_and(ctx.greater(areas[0], 0), ctx.greater(areas[1], 0))
    return ctx.logical_and(has_area, ctx.greater(common, ctx.mul(union, threshold)))
