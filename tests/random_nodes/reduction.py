"""Reductions, and normalisations by what they reduce to."""

from __future__ import annotations

import numpy as np

from random_nodes.case import Case, Draw, strategy
from random_nodes.movement import int64

REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


@strategy(*(f"Reduce{name}" for name in REDUCTIONS))
def reduce(d: Draw, op: str) -> Case:
    opset = d.opset(8)
    dtype = d.pick(["float32", "float32", "int32", "float64"])
    x = d.floats(d.shape(1), 0.25, 2) if dtype == "float32" else d.array(d.shape(1), dtype)
    if "Log" in op:
        x = d.floats(x.shape, 0.25, 4)
    elif op == "ReduceProd" and dtype == "int32":
        x = np.asarray(np.clip(x, -2, 2), np.int32)
    axes, attributes = d.axes(x.ndim, negative=opset >= 11), {"keepdims": d.int(0, 1)}
    if d.bool():
        return Case({"x": x}, attributes, opset=opset)
    if opset < (13 if op == "ReduceSum" else 18):
        return Case({"x": x}, attributes | {"axes": axes}, opset=opset)
    attributes["noop_with_empty_axes"] = d.int(0, 1)
    return Case({"x": x, "axes": int64(axes)}, attributes, opset=opset, constants=["axes"])


@strategy("ArgMax", "ArgMin")
def extreme(d: Draw, op: str) -> Case:
    opset = d.opset(11)
    x = d.array(d.shape(1), d.pick(["float32", "int32", "int8", "uint8"] if opset >= 13 else ["float32"]))
    x = np.asarray(np.round(x), x.dtype)  # ties
    attributes = {"axis": d.axis(x.ndim), "keepdims": d.int(0, 1)}
    attributes |= {"select_last_index": d.int(0, 1)} if opset >= 12 else {}
    return Case({"x": x}, attributes, opset=opset)


@strategy("CumSum", "CumProd")
def running(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1, 3, 9), d.pick(["float32", "int32", "int64"]))
    attributes = {"exclusive": d.int(0, 1), "reverse": d.int(0, 1)}
    x = x if x.dtype == np.float32 else np.asarray(np.clip(x, -2, 2), x.dtype)
    axis = int64(d.axis(x.ndim))
    return Case(
        {"x": x, "axis": axis}, attributes, opset=26 if op == "CumProd" else d.opset(11), constants=["axis"]
    )


@strategy("Softmax", "LogSoftmax", "Hardmax")
def softmax(d: Draw, op: str) -> Case:
    opset, x = d.opset(7), d.floats(d.shape(1), -9, 9)
    axis = {"axis": d.axis(x.ndim, negative=opset >= 11)} if d.bool() or x.ndim == 1 else {}
    return Case({"x": x}, axis, opset=opset)


@strategy("LpNormalization")
def lp_normalization(d: Draw, op: str) -> Case:
    x = d.floats(d.shape(1))
    return Case({"x": x}, {"axis": d.axis(x.ndim), "p": d.int(1, 2)}, opset=d.opset(11))


@strategy("MeanVarianceNormalization")
def mean_variance(d: Draw, op: str) -> Case:
    x = d.floats(d.sizes(4, 2, 5))
    axes = {"axes": sorted(d.axes(4, negative=False))} if d.bool() else {}
    return Case({"x": x}, axes, opset=d.opset(9), observed=True, rtol=1e-3, atol=1e-4)


@strategy("BatchNormalization")
def batch_normalization(d: Draw, op: str) -> Case:
    x, opset = d.floats([*d.sizes(2, 1, 4), *d.shape(0, 3)]), d.opset(9)
    channels = [x.shape[1]]
    named = {name: d.floats(channels) for name in ("scale", "bias", "mean")} | {
        "variance": d.floats(channels, 0.25, 4)
    }
    attributes = {"epsilon": d.pick([1e-5, 1e-2])}
    constants = list(named) if d.bool() else []
    training = opset >= 14 and d.bool() and x.size > 2 * x.shape[1]
    attributes |= {"training_mode": 1, "momentum": d.float(0.125, 0.875)} if training else {}
    return Case(
        {"x": x, **named},
        attributes,
        opset=opset,
        constants=constants,
        outputs=3 if training else 1,
        atol=1e-4,
    )


@strategy("InstanceNormalization")
def instance_normalization(d: Draw, op: str) -> Case:
    x = d.floats([*d.sizes(2, 1, 4), d.int(2, 5), *d.shape(0, 2)])
    named = {name: d.floats([x.shape[1]]) for name in ("scale", "bias")}
    return Case({"x": x, **named}, {"epsilon": d.pick([1e-5, 1e-2])}, opset=d.opset(7), atol=1e-3)


@strategy("GroupNormalization")
def group_normalization(d: Draw, op: str) -> Case:
    opset, groups, each = d.opset(21), d.int(1, 3), d.int(1, 3)
    x = d.floats([d.int(1, 3), groups * each, d.int(2, 4), *d.shape(0, 2)])
    named = {name: d.floats([groups * each]) for name in ("scale", "bias")}
    attributes = {"epsilon": 1e-3, "num_groups": groups}
    return Case({"x": x, **named}, attributes, opset=opset, atol=1e-3, observed=True)


@strategy("LayerNormalization", "RMSNormalization")
def layer_normalization(d: Draw, op: str) -> Case:
    x = d.floats([*d.shape(0, 3), d.int(2, 6)])
    axis = d.axis(x.ndim)
    named = {"scale": d.floats(x.shape[axis:])}
    named |= {"bias": d.floats(x.shape[axis:])} if op == "LayerNormalization" and d.bool() else {}
    opset = d.opset(17 if op == "LayerNormalization" else 23)
    attributes = {"axis": axis, "epsilon": d.pick([1e-5, 1e-2])}
    return Case({"x": x, **named}, attributes, opset=opset, rtol=1e-3, atol=1e-3)


@strategy("LRN")
def local_response(d: Draw, op: str) -> Case:
    x = d.floats([d.int(1, 2), d.int(1, 8), *d.sizes(2, 1, 4)])
    attributes = {"size": d.pick([1, 3, 5, 7])}
    attributes |= {name: d.float(0.125, 2) for name in ("alpha", "beta", "bias") if d.bool()}
    return Case({"x": x}, attributes, opset=d.opset(7))


@strategy("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(d: Draw, op: str) -> Case:
    batch, classes, spatial = d.int(1, 4), d.int(2, 5), d.shape(0, 2, 3)
    operands = {
        "x": d.floats([batch, classes, *spatial]),
        "target": d.ints([batch, *spatial], 0, classes - 1),
    }
    operands |= {"weight": d.floats([classes], 0.25, 2)} if d.bool() else {}
    return Case(operands, {"reduction": d.pick(["none", "sum", "mean"])}, opset=d.opset(13))
