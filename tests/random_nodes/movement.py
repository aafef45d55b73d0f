"""Ops that move, repeat or count elements, and generators."""

from __future__ import annotations

import math

import numpy as np
import onnx

from random_nodes.case import Case, Draw, strategy

ANY = ["float32", "float32", "int32", "int64", "bool", "uint8"]


def int64(values: object) -> np.ndarray:
    return np.asarray(values, np.int64)


@strategy("Transpose")
def transpose(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1, 5), d.pick(ANY))
    return Case({"x": x}, {"perm": d.order(x.ndim)} if d.bool() else {}, opset=d.opset(7))


@strategy("Reshape")
def reshape(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1), d.pick(ANY))
    shape = list(x.shape)
    if d.bool() and x.ndim > 1:
        shape = [*shape[:-2], shape[-2] * shape[-1]]
    if d.bool():
        shape[d.axis(len(shape))] = -1
    elif d.bool() and len(shape) == x.ndim:
        shape[d.axis(len(shape))] = 0
    return Case({"x": x, "shape": int64(shape)}, opset=d.opset(7), constants=["shape"])


@strategy("Flatten")
def flatten(d: Draw, op: str) -> Case:
    x, opset = d.floats(d.shape(1)), d.opset(9)
    return Case({"x": x}, {"axis": d.int(-x.ndim if opset >= 11 else 0, x.ndim)}, opset=opset)


@strategy("Squeeze")
def squeeze(d: Draw, op: str) -> Case:
    shape, opset = d.shape(1), d.opset(7)
    axes = sorted(d.axes(len(shape), negative=False))
    x = d.array([1 if i in axes else max(size, 2) for i, size in enumerate(shape)], d.pick(ANY))
    if d.bool():
        return Case({"x": x}, opset=opset)
    if opset < 13:
        return Case({"x": x}, {"axes": axes}, opset=opset)
    return Case({"x": x, "axes": int64(axes)}, opset=opset, constants=["axes"])


@strategy("Unsqueeze")
def unsqueeze(d: Draw, op: str) -> Case:
    x, opset = d.array(d.shape(0, 3), d.pick(ANY)), d.opset(7)
    new = d.int(1, 2)
    axes = d.order(x.ndim + new)[:new]
    if opset < 13:
        return Case({"x": x}, {"axes": sorted(axes)}, opset=opset)
    axes = [axis - x.ndim - new if d.bool() else axis for axis in axes]
    return Case({"x": x, "axes": int64(axes)}, opset=opset, constants=["axes"])


@strategy("Shape")
def shape(d: Draw, op: str) -> Case:
    x, opset = d.floats(d.shape()), d.opset(7)
    bounds = {name: d.int(-5, 5) for name in ("start", "end") if opset >= 15 and d.bool()}
    return Case({"x": x}, bounds, opset=opset)


@strategy("Size")
def size(d: Draw, op: str) -> Case:
    return Case({"x": d.floats(d.shape())}, opset=d.opset(7))


@strategy("Expand")
def expand(d: Draw, op: str) -> Case:
    wide = d.shape(1)
    x = d.array(d.broadcastable(wide), d.pick(ANY))
    return Case(
        {"x": x, "shape": int64(d.pick([wide, d.broadcastable(wide) or [1]]))},
        opset=d.opset(8),
        constants=["shape"],
    )


@strategy("Tile")
def tile(d: Draw, op: str) -> Case:
    x = d.array(d.shape(1), d.pick(ANY))
    return Case({"x": x, "repeats": int64(d.sizes(x.ndim, 1, 3))}, opset=d.opset(7), constants=["repeats"])


@strategy("Concat")
def concat(d: Draw, op: str) -> Case:
    shape, dtype, opset = d.shape(1), d.pick(ANY), d.opset(7)
    axis = d.axis(len(shape), negative=opset >= 11)
    pieces = {}
    for i in range(d.int(1, 4)):
        shape[axis] = d.int(1, 4)
        pieces[f"x{i}"] = d.array(shape, dtype)
    return Case(pieces, {"axis": axis}, opset=opset)


@strategy("Split")
def split(d: Draw, op: str) -> Case:
    shape, opset = d.shape(1), d.opset(7)
    axis, sizes = d.axis(len(shape), negative=opset >= 11), d.sizes(d.int(1, 4), 1, 3)
    equal = d.bool()
    sizes = [sizes[0]] * len(sizes) if equal else sizes
    shape[axis] = sum(sizes)
    case = Case({"x": d.floats(shape)}, {"axis": axis}, opset=opset, outputs=len(sizes))
    if equal:
        case.attributes |= {"num_outputs": len(sizes)} if opset >= 18 else {}
    elif opset < 13:
        case.attributes["split"] = sizes
    else:
        case.inputs["split"], case.constants = int64(sizes), ["split"]
    return case


@strategy("Slice")
def cut(d: Draw, op: str) -> Case:
    x, opset = d.array(d.shape(1, size=7), d.pick(["float32", "int32", "int64", "bool"])), d.opset(7)
    axes = d.axes(x.ndim, negative=opset >= 10)
    starts, ends, steps = [], [], []
    for axis in axes:
        size = x.shape[axis]
        first, last = d.int(0, size - 1), d.int(0, size - 1)
        forward = opset < 10 or first <= last
        first, last = (min(first, last), max(first, last)) if forward else (first, last)
        steps.append(d.int(1, 3) * (1 if forward else -1))
        starts.append(first - size if d.bool() else first)
        ends.append(d.pick([last + 1, 2**31 - 1]) if forward else last - 1 - size if last else -size - 1)
    if opset < 10:
        attributes = {"axes": axes, "starts": starts, "ends": ends}
        return Case({"x": x}, attributes, opset=opset, observed=True)
    operands = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    dtype = d.pick(["int32", "int64"])
    constants = {name: np.asarray(values, dtype) for name, values in operands.items()}
    return Case({"x": x, **constants}, opset=opset, constants=list(constants))


@strategy("Pad")
def pad(d: Draw, op: str) -> Case:
    dtype = d.pick(["float32", "int32", "int64", "uint8"])
    opset = d.opset(7 if dtype == "float32" else 13)
    mode = d.pick(["constant", "edge", "reflect", *(["wrap"] if opset >= 19 else [])])
    x = d.array(d.shape(1), dtype)
    least = -1 if mode == "constant" else 0
    pads = [
        d.int(max(least, -((size - 1) // 2)), 3 if mode in ("constant", "edge") else min(3, size - 1))
        for size in x.shape * 2
    ]
    if opset < 11:
        return Case({"x": x}, {"mode": mode, "pads": pads, "value": d.float(-2, 2)}, opset=opset)
    operands = {"x": x, "pads": int64(pads)}
    if mode == "constant" and d.bool():
        operands["value"] = d.array([], dtype)
    if opset >= 18 and d.bool():
        axes = d.axes(x.ndim)
        operands["pads"] = int64([pads[axis % x.ndim + half] for half in (0, x.ndim) for axis in axes])
        operands |= {} if "value" in operands else {" ": int64(0)}
        operands["axes"] = int64(axes)
    return Case(
        operands, {"mode": mode}, opset=opset, constants=[name for name in operands if name not in ("x", " ")]
    )


@strategy("DepthToSpace", "SpaceToDepth")
def blocks(d: Draw, op: str) -> Case:
    block, (n, c, h, w), opset = d.int(1, 3), d.sizes(4, 1, 3), d.opset(7)
    if op == "SpaceToDepth":
        return Case({"x": d.floats([n, c, h * block, w * block])}, {"blocksize": block}, opset=opset)
    mode = {"mode": d.pick(["DCR", "CRD"])} if opset >= 11 else {}
    return Case({"x": d.floats([n, c * block**2, h, w])}, {"blocksize": block, **mode}, opset=opset)


@strategy("ReverseSequence")
def reverse(d: Draw, op: str) -> Case:
    x, time = d.floats([*d.sizes(2, 1, 5), *d.shape(0, 2)]), d.int(0, 1)
    lengths = d.ints([x.shape[1 - time]], 1, x.shape[time])
    constants = ["lengths"] if d.bool() else []
    return Case(
        {"x": x, "lengths": lengths},
        {"time_axis": time, "batch_axis": 1 - time},
        opset=d.opset(10),
        constants=constants,
    )


@strategy("Trilu")
def triangle(d: Draw, op: str) -> Case:
    operands = {"x": d.array(d.shape(2), d.pick(["float32", "float64", "int64"]))}
    operands |= {"k": int64(d.int(-6, 6))} if d.bool() else {}
    constants = ["k"] if "k" in operands else []
    return Case(operands, {"upper": d.int(0, 1)}, opset=d.opset(14), constants=constants)


@strategy("CenterCropPad")
def centre(d: Draw, op: str) -> Case:
    x = d.floats(d.shape(1))
    axes = d.axes(x.ndim)
    return Case(
        {"x": x, "shape": int64(d.sizes(len(axes), 1, 6))},
        {"axes": axes},
        opset=d.opset(18),
        constants=["shape"],
    )


@strategy("Range")
def progression(d: Draw, op: str) -> Case:
    dtype, step = d.pick(["int32", "int64", "float32"]), d.pick([-3, -1, 1, 2])
    start = d.int(-9, 9)
    values = {"start": start, "limit": start + step * d.int(1, 9), "delta": step}
    operands = {name: np.asarray(value, dtype) for name, value in values.items()}
    return Case(operands, opset=d.opset(11), constants=list(operands))


@strategy("ConstantOfShape")
def constant_of_shape(d: Draw, op: str) -> Case:
    value = onnx.numpy_helper.from_array(d.array([1], d.pick(ANY)))
    return Case(
        {"shape": int64(d.shape(1))},
        {"value": value} if d.bool() else {},
        opset=d.opset(9),
        constants=["shape"],
    )


@strategy("EyeLike")
def eye(d: Draw, op: str) -> Case:
    attributes = {"k": d.int(-3, 3)} | ({"dtype": d.pick([1, 6, 7])} if d.bool() else {})
    return Case({"x": d.array(d.sizes(2, 1, 5), d.pick(["float32", "int32"]))}, attributes, opset=d.opset(9))


@strategy("HannWindow", "HammingWindow", "BlackmanWindow")
def window(d: Draw, op: str) -> Case:
    return Case(
        {"size": int64(d.int(2, 20))}, {"periodic": d.int(0, 1)}, opset=d.opset(17), constants=["size"]
    )


@strategy("BitCast")
def bit_cast(d: Draw, op: str) -> Case:
    x = d.array(d.shape(), d.pick(["float32", "int32", "uint32"]))
    target = d.pick([onnx.TensorProto.INT32, onnx.TensorProto.UINT32, onnx.TensorProto.FLOAT])
    return Case({"x": x}, {"to": target}, opset=26)


@strategy("Col2Im")
def col2im(d: Draw, op: str) -> Case:
    kernel, strides, dilations = (d.sizes(2, 1, 3) for _ in range(3))
    pads, image = d.sizes(4, 0, 1), d.sizes(2, 7, 9)
    places = [
        (image[i] + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(2)
    ]
    batch, channels = d.sizes(2, 1, 2)
    x = d.floats([batch, channels * math.prod(kernel), math.prod(places)])
    operands = {"x": x, "image": int64(image), "block": int64(kernel)}
    attributes = {"strides": strides, "dilations": dilations, "pads": pads}
    return Case(operands, attributes, opset=d.opset(18), constants=["image", "block"])
