"""Quantization, and products of quantised operands.

The f32 arithmetic of onnxruntime may meet a rounding tie where the exact product does not: where a
result is rounded, one step is allowed.
"""

from __future__ import annotations

import numpy as np

from random_nodes.case import Case, Draw, strategy
from random_nodes.elementwise import whole_range
from random_nodes.windows import spatial, window

BYTES = ["int8", "uint8"]


def scale(d: Draw, *shape: int) -> np.ndarray:
    return d.floats(shape, 0.01, 0.1)


@strategy("QuantizeLinear", "DequantizeLinear")
def quantization(d: Draw, op: str) -> Case:
    opset, dtype, shape = d.opset(10), d.pick(BYTES), d.shape(1)
    attributes, channels = {}, []
    if opset >= 13 and d.bool():
        attributes["axis"] = d.axis(len(shape))
        channels = [shape[attributes["axis"]]]
    x = d.floats(shape, -9, 9) if op == "QuantizeLinear" else whole_range(d, shape, dtype)
    operands = {"x": x, "scale": scale(d, *channels), "zero": whole_range(d, channels, dtype)}
    return Case(
        operands, attributes, opset=opset, constants=["scale", "zero"], steps=int(op == "QuantizeLinear")
    )


@strategy("DynamicQuantizeLinear")
def dynamic_quantization(d: Draw, op: str) -> Case:
    low = d.float(-9, 1)
    return Case({"x": d.floats(d.shape(), low, low + d.float(1, 9))}, opset=d.opset(11), outputs=3, steps=1)


@strategy("MatMulInteger")
def integer_product(d: Draw, op: str) -> Case:
    left, right, (rows, inner, columns) = "uint8", d.pick(BYTES), d.sizes(3, 1, 6)
    operands = {
        "a": whole_range(d, [*d.shape(0, 1), rows, inner], left),
        "b": whole_range(d, [inner, columns], right),
    }
    if d.bool():
        operands |= {"az": whole_range(d, [], left), "bz": whole_range(d, [], right)}
    constants = [name for name in operands if name != "a" and d.bool()]
    return Case(operands, opset=d.opset(10), constants=constants)


@strategy("QLinearMatMul")
def quantised_product(d: Draw, op: str) -> Case:
    left, right, (rows, inner, columns) = d.pick(BYTES), "int8", d.sizes(3, 1, 6)
    left = "uint8" if left == "uint8" else "int8"
    operands = {
        "a": whole_range(d, [rows, inner], left),
        "as": scale(d),
        "az": whole_range(d, [], left),
        "b": whole_range(d, [inner, columns], right),
        "bs": scale(d),
        "bz": whole_range(d, [], right),
        "ys": scale(d) * 10,
        "yz": whole_range(d, [], left),
    }
    operands = {
        name: np.asarray(array, np.float32 if name.endswith("s") else array.dtype)
        for name, array in operands.items()
    }
    constants = [name for name in operands if len(name) == 2]
    return Case(operands, opset=d.opset(10, 20), constants=constants, steps=1)


@strategy("ConvInteger", "QLinearConv")
def integer_convolution(d: Draw, op: str) -> Case:
    axes, dtype = d.int(1, 2), "uint8"
    batch, group, inputs, outputs = d.int(1, 2), *d.sizes(3, 1, 2)
    attributes = window(d, axes) | {"group": group}
    x = whole_range(d, [batch, group * inputs, *spatial(d, axes)], dtype)
    w = whole_range(d, [group * outputs, inputs, *attributes["kernel_shape"]], d.pick(BYTES))
    zeros = {"xz": whole_range(d, [], dtype), "wz": np.zeros([], w.dtype)}
    if op == "ConvInteger":
        operands = {"x": x, "w": w, **(zeros if d.bool() else {})}
        return Case(
            operands, attributes, opset=d.opset(10), constants=[name for name in operands if name != "x"]
        )
    operands = {
        "x": x,
        "xs": scale(d),
        "xz": zeros["xz"],
        "w": w,
        "ws": scale(d),
        "wz": zeros["wz"],
        "ys": np.asarray(scale(d) * 10, np.float32),
        "yz": whole_range(d, [], dtype),
    }
    operands |= {"b": d.ints([group * outputs], -9999, 9999, "int32")} if d.bool() else {}
    return Case(
        operands, attributes, opset=d.opset(10), steps=1, constants=[name for name in operands if name != "x"]
    )
