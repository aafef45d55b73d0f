"""Ops that read, write, choose or order elements by positions."""

from __future__ import annotations

import numpy as np

from random_nodes.case import Case, Draw, strategy
from random_nodes.movement import ANY, int64


def known(d: Draw, *names: str) -> list[str]:
    """Which operands are constant."""
    return [name for name in names if d.bool()]


@strategy("Gather")
def gather(d: Draw, op: str) -> Case:
    x, opset = d.array(d.shape(1), d.pick(ANY)), d.opset(11)
    axis = d.axis(x.ndim)
    size = x.shape[axis]
    indices = d.ints(d.shape(0, 2), -size, size - 1, d.pick(["int32", "int64"]))
    return Case({"x": x, "i": indices}, {"axis": axis}, opset=opset, constants=known(d, "i"))


@strategy("GatherElements")
def gather_elements(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1), d.pick(ANY))
    axis = d.axis(x.ndim)
    shape = [d.int(1, size) for size in x.shape]
    shape[axis] = d.int(1, 6)
    indices = d.ints(shape, -x.shape[axis], x.shape[axis] - 1)
    return Case({"x": x, "i": indices}, {"axis": axis}, opset=d.opset(11), constants=known(d, "i"))


def tuples(d: Draw, count: list[int], sizes: tuple[int, ...]) -> np.ndarray:
    """Index tuples into axes of some sizes, some counted from the end."""
    return np.stack([d.ints(count, -size, size - 1) for size in sizes], -1)


@strategy("GatherND")
def gather_nd(d: Draw, op: str) -> Case:
    x, opset = d.array(d.shape(1), d.pick(ANY)), d.opset(12)
    batch = d.int(0, min(2, x.ndim - 1))
    depth = d.int(1, x.ndim - batch)
    count = [*x.shape[:batch], *d.shape(0, 2, 3)]
    indices = tuples(d, count, x.shape[batch : batch + depth])
    attributes = {"batch_dims": batch}
    return Case({"x": x, "i": indices}, attributes, opset=opset, constants=known(d, "i"), observed=True)


@strategy("Scatter", "ScatterElements")
def scatter_elements(d: Draw, op: str) -> Case:
    opset = 10 if op == "Scatter" else d.opset(11)
    reductions = ["none"] + ["add", "mul"] * (opset >= 16) + ["max", "min"] * (opset >= 18)
    reduction = d.pick(reductions)
    dtype = d.pick(["float32", "int32"] if reduction != "none" else ANY)
    x = d.array(d.shape(1, 3), dtype)
    axis = d.axis(x.ndim)
    shape = [d.int(1, size) for size in x.shape]
    # Without a reduction ONNX leaves repeated indices undefined.
    rows = [d.distinct(shape[axis], x.shape[axis]) for _ in range(int(np.prod(shape)) // shape[axis])]
    lines = np.asarray(rows, np.int64).reshape([*np.delete(shape, axis), shape[axis]])
    indices = np.moveaxis(lines, -1, axis)
    if reduction != "none":
        indices = d.ints(shape, -x.shape[axis], x.shape[axis] - 1)
    attributes = {"axis": axis} | ({"reduction": reduction} if opset >= 16 else {})
    operands = {"x": x, "i": np.ascontiguousarray(indices), "u": d.array(shape, dtype)}
    return Case(operands, attributes, opset=opset, constants=known(d, "i"))


@strategy("ScatterND")
def scatter_nd(d: Draw, op: str) -> Case:
    opset = d.opset(11)
    reductions = ["none"] + ["add", "mul"] * (opset >= 16) + ["max", "min"] * (opset >= 18)
    reduction = d.pick(reductions)
    x = d.array(d.shape(1, 3), "float32" if reduction != "none" else d.pick(ANY))
    depth = d.int(1, x.ndim)
    sizes = x.shape[:depth]
    count = d.int(1, int(np.prod(sizes)))
    places = d.distinct(count, int(np.prod(sizes)))
    indices = np.stack(np.unravel_index(places, sizes), -1).astype(np.int64)
    if reduction != "none":
        indices = tuples(d, [count], sizes)
    operands = {"x": x, "i": indices, "u": d.array([count, *x.shape[depth:]], x.dtype.name)}
    attributes = {"reduction": reduction} if opset >= 16 else {}
    return Case(operands, attributes, opset=opset, constants=known(d, "i"))


@strategy("TensorScatter")
def tensor_scatter(d: Draw, op: str) -> Case:
    batch, heads, size, width = d.sizes(4, 1, 5)
    count, mode = d.int(1, size), d.pick(["linear", "circular"])
    starts = d.ints([batch], 0, size - 1 if mode == "circular" else size - count)
    operands = {"x": d.floats([batch, heads, size, width]), "u": d.floats([batch, heads, count, width])}
    return Case({**operands, "starts": starts}, {"mode": mode, "axis": -2}, opset=24)


@strategy("OneHot")
def one_hot(d: Draw, op: str) -> Case:
    indices, depth = d.ints(d.shape(1, 3), -9, 9), d.int(1, 6)
    operands = {"i": indices, "depth": int64(depth), "values": d.floats([2])}
    axis = d.int(-indices.ndim - 1, indices.ndim)
    return Case(operands, {"axis": axis}, opset=d.opset(11), constants=["depth"])


@strategy("TopK")
def top_k(d: Draw, op: str) -> Case:
    opset = d.opset(7)
    x = d.array(d.shape(1, 3, 9), d.pick(["float32", "int32", "int64"] if opset >= 11 else ["float32"]))
    axis = d.axis(x.ndim, negative=opset >= 11)
    k = d.int(1, x.shape[axis])
    if opset < 10:
        return Case({"x": x}, {"axis": axis, "k": k}, opset=opset, outputs=2)
    largest = {"largest": d.int(0, 1)} if opset >= 11 else {}
    return Case({"x": x, "k": int64([k])}, {"axis": axis, **largest}, opset=opset, outputs=2, constants=["k"])


@strategy("NonZero")
def non_zero(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1), d.pick(["float32", "int32", "int64", "bool"]))
    x = np.where(d.bools(x.shape), x, np.zeros_like(x))
    x.flat[0] = 1
    return Case({"x": x}, opset=d.opset(9), observed=True)


@strategy("Compress")
def compress(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1), d.pick(["float32", "int32", "bool"]))
    attributes = {"axis": d.axis(x.ndim)} if d.bool() else {}
    size = x.shape[attributes["axis"]] if attributes else x.size
    condition = d.bools([d.int(1, size)])
    condition[0] = True
    return Case({"x": x, "c": condition}, attributes, opset=d.opset(11), observed=True)


@strategy("Unique")
def unique(d: Draw, op: str) -> Case:
    x = np.round(d.floats(d.shape(1, 3, 4)))
    x = (x + 0.0).astype(d.pick(["float32", "int64"]))
    attributes = {"sorted": d.int(0, 1)} | ({"axis": d.axis(x.ndim)} if d.bool() else {})
    return Case({"x": x}, attributes, opset=d.opset(11), outputs=d.int(1, 4), observed=True)


@strategy("NonMaxSuppression")
def suppression(d: Draw, op: str) -> Case:
    batches, boxes, classes, centred = d.int(1, 2), d.int(1, 7), d.int(1, 3), d.int(0, 1)
    first, sides = d.floats([batches, boxes, 2], 0, 2), d.floats([batches, boxes, 2], 0.25, 2)
    corners = np.concatenate([first, sides if centred else first + sides], -1)
    operands = {
        "boxes": corners,
        "scores": d.floats([batches, classes, boxes], 0, 1),
        "most": int64([d.int(1, boxes)]),
        "overlap": np.asarray([d.float(0.125, 0.875)], np.float32),
    }
    return Case(
        operands,
        {"center_point_box": centred},
        opset=d.opset(10),
        observed=True,
        constants=["most", "overlap"],
    )


@strategy("TfIdfVectorizer")
def n_grams(d: Draw, op: str) -> Case:
    pool = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]  # four of one element, three of two
    attributes = {
        "mode": d.pick(["TF", "IDF", "TFIDF"]),
        "min_gram_length": d.int(1, 2),
        "max_gram_length": 2,
        "max_skip_count": d.int(0, 4),
        "ngram_counts": [0, 4],
        "ngram_indexes": d.order(7),
        "pool_int64s": pool,
        "weights": [float(weight) for weight in d.floats([7], 0.5, 2)],
    }
    x = d.ints([*d.shape(0, 1), d.int(2, 12)], 1, 9, d.pick(["int32", "int64"]))
    return Case({"x": x}, attributes, opset=d.opset(9))
