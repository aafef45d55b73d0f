"""Ops that slide a window over spatial axes, sample between elements, or resize."""

from __future__ import annotations

from typing import Any

import numpy as np

from random_nodes.case import Case, Draw, strategy
from random_nodes.indexing import known
from random_nodes.movement import int64


def window(d: Draw, axes: int, dilated: bool = True) -> dict[str, Any]:
    """Attributes of a window; its pads are smaller than its kernel and, when automatic, not negative."""
    kernel = d.sizes(axes, 1, 3)
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    attributes |= {"strides": d.sizes(axes, 1, 3)} if d.bool() else {}
    attributes |= {"dilations": d.sizes(axes, 1, 2)} if dilated and d.bool() else {}
    pads = d.pick(["pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none"])
    if pads == "pads":
        attributes["pads"] = [d.int(0, size - 1) for size in kernel * 2]
    elif pads != "none":
        attributes["auto_pad"] = pads
        attributes |= {"strides": [d.int(1, size) for size in kernel]} if "strides" in attributes else {}
        attributes.pop("dilations", None)
    return attributes


def spatial(d: Draw, axes: int) -> list[int]:
    return d.sizes(axes, 5, 9 if axes < 3 else 6)


@strategy("Conv")
def convolution(d: Draw, op: str) -> Case:
    axes = d.int(1, 3)
    batch, group, inputs, outputs = d.int(1, 2), *d.sizes(3, 1, 3)
    attributes = window(d, axes) | {"group": group}
    operands = {
        "x": d.floats([batch, group * inputs, *spatial(d, axes)]),
        "w": d.floats([group * outputs, inputs, *attributes["kernel_shape"]]),
    }
    operands |= {"b": d.floats([group * outputs])} if d.bool() else {}
    return Case(
        operands,
        attributes,
        opset=d.opset(7),
        atol=1e-4,
        constants=known(d, *(name for name in operands if name != "x")),
    )


@strategy("ConvTranspose")
def transposed_convolution(d: Draw, op: str) -> Case:
    axes = d.int(1, 3)
    batch, group, inputs, outputs = d.int(1, 2), *d.sizes(3, 1, 3)
    kernel, strides, dilations = (d.sizes(axes, 1, 3) for _ in range(3))
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "group": group,
        "dilations": dilations,
        "pads": d.sizes(2 * axes, 0, 1),
        "output_padding": [d.int(0, stride - 1) for stride in strides],
    }
    operands = {
        "x": d.floats([batch, group * inputs, *d.sizes(axes, 2, 4)]),
        "w": d.floats([group * inputs, outputs, *kernel]),
    }
    operands |= {"b": d.floats([group * outputs])} if d.bool() else {}
    return Case(operands, attributes, opset=d.opset(7), constants=known(d, "w"), atol=1e-4)


@strategy("DeformConv")
def deformable_convolution(d: Draw, op: str) -> Case:
    kernel, strides, dilations = (d.sizes(2, 1, 3), d.sizes(2, 1, 2), d.sizes(2, 1, 2))
    pads, sizes = d.sizes(4, 0, 1), d.sizes(2, 5, 7)
    group, each, outputs, batch = d.int(1, 2), d.int(1, 2), d.int(1, 2), d.int(1, 2)
    offsets = d.pick([1, group])
    places = [
        (sizes[i] + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(2)
    ]
    taps = kernel[0] * kernel[1] * offsets
    operands = {
        "x": d.floats([batch, group * each, *sizes]),
        "w": d.floats([group * outputs, each, *kernel]),
        "offset": d.floats([batch, 2 * taps, *places], -1, 1),
    }
    operands["b" if d.bool() else " "] = d.floats([group * outputs])
    operands |= {"mask": d.floats([batch, taps, *places], 0, 1)} if d.bool() else {}
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": group,
        "offset_group": offsets,
    }
    return Case(operands, attributes, opset=d.opset(19), atol=1e-4)


@strategy("MaxPool", "AveragePool", "LpPool")
def pool(d: Draw, op: str) -> Case:
    opset, axes = d.opset(11), d.int(1, 3)
    attributes = window(d, axes, dilated=opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op])
    x = d.floats([*d.sizes(2, 1, 3), *spatial(d, axes)], 0.25 if op == "LpPool" else -4)
    outputs = d.int(1, 2) if op == "MaxPool" else 1
    attributes |= {"ceil_mode": d.int(0, 1)} if op != "LpPool" and "auto_pad" not in attributes else {}
    attributes |= {"count_include_pad": d.int(0, 1)} if op == "AveragePool" else {}
    attributes |= {"p": d.int(1, 3)} if op == "LpPool" else {}
    attributes |= {"storage_order": d.int(0, 1)} if outputs == 2 else {}
    return Case({"x": x}, attributes, opset=opset, outputs=outputs)


@strategy("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(d: Draw, op: str) -> Case:
    x = d.floats([*d.sizes(3, 1, 4), *d.shape(0, 2)])
    return Case({"x": x}, {"p": d.int(1, 3)} if op == "GlobalLpPool" else {}, opset=d.opset(7))


@strategy("MaxUnpool")
def unpool(d: Draw, op: str) -> Case:
    kernel, shape = d.sizes(2, 1, 3), [*d.sizes(2, 1, 2), *d.sizes(2, 1, 3)]
    wide = [size * step for size, step in zip(shape[2:], kernel)]
    channels = shape[0] * shape[1]
    count = shape[2] * shape[3]
    # Positions within windows of an image, as MaxPool gives them.
    grid = np.arange(channels * wide[0] * wide[1]).reshape(channels, *wide)
    indices = grid[:, :: kernel[0], :: kernel[1]].reshape(channels, count).reshape(shape)
    return Case(
        {"x": d.floats(shape), "i": int64(indices)},
        {"kernel_shape": kernel, "strides": kernel},
        opset=d.opset(9),
    )


@strategy("Resize")
def resize(d: Draw, op: str) -> Case:
    opset = d.opset(10)
    x, mode = d.floats([1, d.int(1, 2), *d.sizes(2, 1, 7)]), d.pick(["nearest", "linear"])
    if opset == 10:
        scales = np.asarray([1, 1, *d.sizes(2, 1, 3)], np.float32)
        return Case({"x": x, "scales": scales}, {"mode": mode}, opset=opset, constants=["scales"])
    coordinates = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    attributes = {"mode": d.pick([mode, "cubic"]), "coordinate_transformation_mode": d.pick(coordinates)}
    if attributes["mode"] == "nearest":
        attributes["nearest_mode"] = d.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    sizes = int64([1, x.shape[1], *d.sizes(2, 1, 12)])
    operands = {"x": x, " ": sizes, "  ": sizes, "sizes": sizes}
    if opset < 13:
        operands = {"x": x, "roi": np.zeros(0, np.float32), "scales": np.zeros(0, np.float32), "sizes": sizes}
    return Case(
        operands,
        attributes,
        opset=opset,
        atol=1e-4,
        constants=[name for name in operands if name.strip() and name != "x"],
    )


@strategy("Upsample")
def upsample(d: Draw, op: str) -> Case:
    opset, mode = d.opset(7, 9), d.pick(["nearest", "linear"])
    x, scales = d.floats([1, d.int(1, 2), *d.sizes(2, 1, 5)]), [1.0, 1.0, *map(float, d.sizes(2, 1, 3))]
    if opset < 9:
        return Case({"x": x}, {"mode": mode, "scales": scales}, opset=opset)
    return Case(
        {"x": x, "scales": np.asarray(scales, np.float32)}, {"mode": mode}, opset=opset, constants=["scales"]
    )


@strategy("GridSample")
def grid_sample(d: Draw, op: str) -> Case:
    opset = d.opset(16)
    axes = d.int(2, 3 if opset >= 20 else 2)
    linear, cubic = ("linear", "cubic") if opset >= 20 else ("bilinear", "bicubic")
    attributes = {
        "mode": d.pick(["nearest", linear, *([cubic] if axes == 2 else [])]),
        "padding_mode": d.pick(["zeros", "border", "reflection"]),
        "align_corners": d.int(0, 1),
    }
    batch = d.int(1, 2)
    x = d.floats([batch, d.int(1, 2), *d.sizes(axes, 2, 5)])
    points = d.floats([batch, *d.sizes(axes, 1, 4), axes], -1.5, 1.5)
    return Case({"x": x, "grid": points}, attributes, opset=opset, rtol=1e-3, atol=1e-3)


@strategy("RoiAlign")
def roi_align(d: Draw, op: str) -> Case:
    opset, batch, rois = d.opset(10, 21), d.int(1, 2), d.int(1, 3)
    corners, sides = d.floats([rois, 2], 0, 8), d.floats([rois, 2], 1, 8)
    operands = {
        "x": d.floats([batch, d.int(1, 2), *d.sizes(2, 4, 8)]),
        "rois": np.concatenate([corners, corners + sides], -1),
        "batch": d.ints([rois], 0, batch - 1),
    }
    attributes = {
        "mode": d.pick(["avg", "max"]),
        "output_height": d.int(1, 3),
        "output_width": d.int(1, 3),
        "sampling_ratio": d.int(1, 3),
        "spatial_scale": d.pick([0.25, 0.5, 1.0]),
    }
    if opset >= 16:
        attributes["coordinate_transformation_mode"] = d.pick(["half_pixel", "output_half_pixel"])
    return Case(operands, attributes, opset=opset, atol=1e-3)
