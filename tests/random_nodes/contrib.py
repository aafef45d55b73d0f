"""onnxruntime's own operators, which its optimizer and its quantizer write into models.

A result that is rounded may be one step off where the f32 arithmetic of onnxruntime meets a tie.
"""

from __future__ import annotations

import numpy as np

from random_nodes.case import CONTRIB, Case, Draw, strategy
from random_nodes.elementwise import whole_range
from random_nodes.products import present
from random_nodes.quantized import BYTES, scale
from random_nodes.windows import spatial, window


@strategy("Gelu", "QuickGelu", domain=CONTRIB)
def gelu(d: Draw, op: str) -> Case:
    return Case({"x": d.floats(d.shape(1))}, {"alpha": d.float(0.5, 2)} if op == "QuickGelu" else {})


@strategy("BiasGelu", "FastGelu", domain=CONTRIB)
def biased_gelu(d: Draw, op: str) -> Case:
    shape = d.shape(1)
    bias = {"bias": d.floats(shape[-1:])} if op == "BiasGelu" or d.bool() else {}
    return Case({"x": d.floats(shape), **bias}, atol=1e-4)


@strategy("FusedMatMul", "TransposeMatMul", domain=CONTRIB)
def product_of_transposes(d: Draw, op: str) -> Case:
    batch, (rows, inner, columns) = d.shape(0, 2, 3), d.sizes(3, 1, 5)
    flags = {"transA": d.int(0, 1), "transB": d.int(0, 1)}
    a = [*batch, *((inner, rows) if flags["transA"] else (rows, inner))]
    b = [*d.broadcastable(batch), *((columns, inner) if flags["transB"] else (inner, columns))]
    return Case({"a": d.floats(a), "b": d.floats(b)}, flags | {"alpha": d.float(0.5, 2)})


@strategy("FusedGemm", domain=CONTRIB)
def gemm_with_activation(d: Draw, op: str) -> Case:
    rows, inner, columns = d.sizes(3, 1, 5)
    flags = {"transA": d.int(0, 1), "transB": d.int(0, 1), "alpha": d.float(0.5, 2), "beta": d.float(0.5, 2)}
    a, b = ((inner, rows) if flags["transA"] else (rows, inner)), (inner, columns)
    operands = {"a": d.floats(a), "b": d.floats(b[::-1] if flags["transB"] else b)}
    if d.bool():
        operands["c"] = d.floats(d.broadcastable([rows, columns]))
    activation = d.pick([{"activation": name} for name in ("Relu", "Tanh", "Sigmoid")])
    return Case(operands, flags | activation)


@strategy("FusedConv", domain=CONTRIB)
def convolution_with_activation(d: Draw, op: str) -> Case:
    batch, inputs, outputs = d.sizes(3, 1, 3)
    attributes = window(d, 2)
    x = d.floats([batch, inputs, *spatial(d, 2)])
    operands = {"x": x, "w": d.floats([outputs, inputs, *attributes["kernel_shape"]])}
    if d.bool():
        operands["b"] = d.floats([outputs])
    activation = d.pick([("Relu", []), ("Tanh", []), ("LeakyRelu", [0.25]), ("Clip", [-1.0, 1.0])])
    parameters = {"activation_params": activation[1]} if activation[1] else {}
    return Case(operands, attributes | {"activation": activation[0]} | parameters, atol=1e-4)


@strategy("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=CONTRIB)
def skip_normalization(d: Draw, op: str) -> Case:
    shape = d.sizes(3, 1, 4) if d.bool() else d.sizes(2, 1, 4)
    shape[-1] += 3
    operands = {"x": d.floats(shape), "skip": d.floats(shape), "gamma": d.floats(shape[-1:])}
    if op == "SkipLayerNormalization":
        operands["beta"] = d.floats(shape[-1:])
    if d.bool():
        operands["bias"] = d.floats(shape[-1:])
    return Case(operands, {"epsilon": d.pick([1e-5, 1e-2])}, rtol=1e-3, atol=1e-3)


@strategy("GroupQueryAttention", domain=CONTRIB)
def grouped_queries(d: Draw, op: str) -> Case:
    """A prompt, or tokens after a past: one token of sequences of different lengths, several of a full one."""
    batch, group, keys, half = d.int(1, 3), d.int(1, 3), d.int(1, 2), d.int(1, 2)
    is_prompt, size, packed = d.bool(), 16 * half, d.bool()
    length = d.int(1, 4) if is_prompt or batch == 1 else 1
    past = 0 if is_prompt else d.int(1, 4)
    total = past + length
    widths = [group * keys * size, keys * size, keys * size]
    ends = np.full(batch, total - 1) if length > 1 else d.ints([batch], length - 1, total - 1)
    cache = [batch, keys, past, size]
    operands = [
        ("query", d.floats([batch, length, sum(widths) if packed else widths[0]])),
        ("key", None if packed else d.floats([batch, length, widths[1]])),
        ("value", None if packed else d.floats([batch, length, widths[2]])),
        ("past_key", d.floats(cache) if past else None),
        ("past_value", d.floats(cache) if past else None),
        ("ends", ends.astype(np.int32)),
        ("total", np.array([total], np.int32)),
    ]
    attributes = {"num_heads": group * keys, "kv_num_heads": keys, "do_rotary": d.int(0, 1)}
    if attributes["do_rotary"]:
        operands += [(name, d.floats([9, size // 2], -1, 1)) for name in ("cos", "sin")]
        attributes["rotary_interleaved"] = d.int(0, 1)
    attributes |= {"softcap": d.pick([0.0, 2.0]), "local_window_size": d.pick([-1, 2])}
    return Case(present(dict(operands)), attributes, constants=["total"], outputs=3)


@strategy("EmbedLayerNormalization", domain=CONTRIB)
def embedding(d: Draw, op: str) -> Case:
    (batch, length), words, width = d.sizes(2, 1, 4), d.int(1, 6), d.int(2, 6)
    operands = {
        "ids": d.ints([batch, length], 0, words - 1, "int32"),
        "segments": d.ints([batch, length], 0, 1, "int32"),
        "words": d.floats([words, width]),
        "positions": d.floats([length + d.int(0, 2), width]),
        "kinds": d.floats([2, width]),
        "gamma": d.floats([width]),
        "beta": d.floats([width]),
    }
    if d.bool():
        operands["mask"] = d.ints([batch, length], 0, 1, "int32")
    return Case(operands, {"epsilon": d.pick([1e-5, 1e-2])}, outputs=2, rtol=1e-3, atol=1e-3)


@strategy("Attention", domain=CONTRIB)
def packed_attention(d: Draw, op: str) -> Case:
    (batch, length), heads, size, width = d.sizes(2, 1, 4), d.int(1, 3), d.int(1, 4), d.int(1, 5)
    hidden = heads * size
    operands = {
        "x": d.floats([batch, length, width]),
        "w": d.floats([width, 3 * hidden], -1, 1),
        "b": d.floats([3 * hidden]),
    }
    mask = d.pick(["none", "lengths", "flags"])
    if mask == "lengths":
        operands["mask"] = d.ints([batch], 1, length, "int32")
    if mask == "flags":
        operands["mask"] = d.ints([batch, length], 0, 1, "int32")
    return Case(operands, {"num_heads": heads, "unidirectional": d.int(0, 1)}, atol=1e-4)


@strategy("MultiHeadAttention", domain=CONTRIB)
def projected_attention(d: Draw, op: str) -> Case:
    batch, length, total, heads, size, values = d.sizes(6, 1, 4)
    operands = {
        "q": d.floats([batch, length, heads * size]),
        "k": d.floats([batch, total, heads * size]),
        "v": d.floats([batch, total, heads * values]),
    }
    if d.bool():
        operands["b"] = d.floats([heads * (2 * size + values)])
    return Case(operands, {"num_heads": heads}, atol=1e-4)


@strategy("RotaryEmbedding", domain=CONTRIB)
def rotation(d: Draw, op: str) -> Case:
    batch, length, heads, half = d.sizes(4, 1, 3)
    rows = length + d.int(0, 2)
    first = np.asarray([d.int(0, rows - length)])
    operands = {
        "x": d.floats([batch, length, heads * 2 * half]),
        "at": first if d.bool() else d.ints([batch, length], 0, rows - 1),
        "cos": d.floats([rows, half]),
        "sin": d.floats([rows, half]),
    }
    return Case(operands, {"interleaved": d.int(0, 1)})


@strategy("QuantizeLinear", "DequantizeLinear", domain=CONTRIB)
def wide_quantization(d: Draw, op: str) -> Case:
    dtype, shape = d.pick([*BYTES, "int16", "uint16"]), d.shape(1)
    x = d.floats(shape, -9, 9) if op == "QuantizeLinear" else whole_range(d, shape, dtype)
    operands = {"x": x, "scale": scale(d), "zero": whole_range(d, [], dtype)}
    return Case(operands, constants=["scale", "zero"], steps=int(op == "QuantizeLinear"))


def parameters(d: Draw, name: str, dtype: str, factor: float = 1) -> dict[str, np.ndarray]:
    """Scale and zero point of a tensor, named after it."""
    return {
        f"{name}_scale": np.asarray(scale(d) * np.float32(factor)),
        f"{name}_zero": whole_range(d, [], dtype),
    }


def known_parameters(operands: dict[str, np.ndarray], d: Draw) -> list[str]:
    """All scales and zero points as constants, or none."""
    return [name for name in operands if "_" in name] if d.bool() else []


@strategy("QLinearAdd", "QLinearMul", domain=CONTRIB)
def quantised_arithmetic(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(BYTES), d.shape(1)
    operands = {"a": whole_range(d, d.broadcastable(shape), dtype), **parameters(d, "a", dtype)}
    operands |= {"b": whole_range(d, d.broadcastable(shape), dtype), **parameters(d, "b", dtype)}
    operands |= parameters(d, "y", dtype)
    return Case(operands, constants=known_parameters(operands, d), steps=1)


@strategy("QLinearSigmoid", "QLinearLeakyRelu", domain=CONTRIB)
def quantised_function(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(BYTES), d.shape(1)
    operands = {"x": whole_range(d, shape, dtype), **parameters(d, "x", dtype), **parameters(d, "y", dtype)}
    attributes = {"alpha": d.float(0.125, 1)} if op == "QLinearLeakyRelu" else {}
    return Case(operands, attributes, constants=[name for name in operands if name != "x"], steps=1)


@strategy("QLinearConcat", domain=CONTRIB)
def quantised_concatenation(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(BYTES), d.shape(1, 3)
    axis = d.axis(len(shape))
    operands = parameters(d, "y", dtype)
    for index in range(d.int(1, 3)):
        shape[axis] = d.int(1, 4)
        name = f"x{index}"
        operands |= {name: whole_range(d, shape, dtype), **parameters(d, name, dtype)}
    constants = [name for name in operands if "_" in name]
    return Case(operands, {"axis": axis}, constants=constants, steps=1)


@strategy("QLinearGlobalAveragePool", "QLinearAveragePool", domain=CONTRIB)
def quantised_mean(d: Draw, op: str) -> Case:
    dtype = d.pick(BYTES)
    operands = {"x": whole_range(d, [*d.sizes(2, 1, 3), *spatial(d, 2)], dtype)}
    operands |= parameters(d, "x", dtype) | parameters(d, "y", dtype)
    attributes = {"channels_last": 0}
    if op == "QLinearAveragePool":
        drawn = window(d, 2)
        attributes |= {name: drawn[name] for name in ("kernel_shape", "strides") if name in drawn}
        attributes["count_include_pad"] = d.int(0, 1)
    return Case(operands, attributes, constants=[name for name in operands if name != "x"], steps=1)


@strategy("QGemm", domain=CONTRIB)
def quantised_gemm(d: Draw, op: str) -> Case:
    dtype, (rows, inner, columns) = "uint8", d.sizes(3, 1, 5)
    flags = {"transA": d.int(0, 1), "transB": d.int(0, 1), "alpha": 1.0}
    a, b = ((inner, rows) if flags["transA"] else (rows, inner)), (inner, columns)
    weights = d.pick(BYTES)
    operands = {"a": whole_range(d, a, dtype), **parameters(d, "a", dtype)}
    operands |= {
        "b": whole_range(d, b[::-1] if flags["transB"] else b, weights),
        **parameters(d, "b", weights),
    }
    operands |= {"c": d.ints([columns], -9999, 9999, "int32"), **parameters(d, "y", dtype, 10)}
    return Case(operands, flags, constants=[name for name in operands if name != "a"], steps=1)


@strategy("MatMulIntegerToFloat", domain=CONTRIB)
def integer_product_in_floats(d: Draw, op: str) -> Case:
    left, right, (rows, inner, columns) = "uint8", d.pick(BYTES), d.sizes(3, 1, 5)
    channels = [columns] if d.bool() else []
    operands = {
        "a": whole_range(d, [rows, inner], left),
        "b": whole_range(d, [inner, columns], right),
        "a_scale": scale(d),
        "b_scale": scale(d, *channels),
    }
    if d.bool():
        operands |= {"a_zero": whole_range(d, [], left), "b_zero": whole_range(d, channels, right)}
    return Case(operands, constants=[name for name in operands if name != "a"], rtol=1e-4, atol=1e-3)


@strategy("DynamicQuantizeMatMul", domain=CONTRIB)
def dynamic_product(d: Draw, op: str) -> Case:
    dtype, (rows, inner, columns) = d.pick(BYTES), d.sizes(3, 1, 5)
    operands = {
        "a": d.floats([rows, inner]),
        "b": whole_range(d, [inner, columns], dtype),
        "b_scale": scale(d),
        "b_zero": whole_range(d, [], dtype),
    }
    if d.bool():
        operands["bias"] = d.floats([columns])
    step = 8 / 255 * 255 * 0.1  # one step of a, times the greatest weight
    return Case(operands, constants=[name for name in operands if name != "a"], rtol=1e-3, atol=step)


@strategy("MatMulNBits", domain=CONTRIB)
def product_with_packed_weights(d: Draw, op: str) -> Case:
    rows, columns, blocks, block = d.int(1, 3), d.int(1, 5), d.int(1, 3), d.pick([16, 32])
    inner = blocks * block
    operands = {
        "a": d.floats([rows, inner], -1, 1),
        "b": d.ints([columns, blocks, block // 2], 0, 255, "uint8"),
        "scales": scale(d, columns * blocks),
    }
    attributes = {"K": inner, "N": columns, "bits": 4, "block_size": block}
    return Case(operands, attributes, constants=["b", "scales"], rtol=1e-3, atol=1e-3)


@strategy("DynamicQuantizeLSTM", domain=CONTRIB)
def dynamic_lstm(d: Draw, op: str) -> Case:
    """One step a gate; a difference of one step goes through all that follow."""
    length, batch, size, hidden = d.int(1, 3), 1, d.int(1, 4), d.int(1, 4)
    direction = d.pick(["forward", "reverse", "bidirectional"])
    directions, dtype = 1 + (direction == "bidirectional"), d.pick(BYTES)
    operands = {
        "x": d.floats([length, batch, size]),
        "w": whole_range(d, [directions, size, 4 * hidden], dtype),
        "r": whole_range(d, [directions, hidden, 4 * hidden], dtype),
        "b": d.floats([directions, 8 * hidden]),
        " ": np.zeros(0),
        "  ": np.zeros(0),
        "   ": np.zeros(0),
        "    ": np.zeros(0),
        "w_scale": scale(d, directions) * np.float32(0.1),
        "w_zero": np.full(directions, 128 if dtype == "uint8" else 0, dtype),
        "r_scale": scale(d, directions) * np.float32(0.1),
        "r_zero": np.full(directions, 128 if dtype == "uint8" else 0, dtype),
    }
    attributes = {"hidden_size": hidden, "direction": direction}
    constants = [name for name in operands if name.strip() and name != "x"]
    return Case(operands, attributes, constants=constants, outputs=3, atol=2e-2)
