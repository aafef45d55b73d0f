"""Ops made of matrix products: linear algebra, recurrence and transforms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from random_nodes.case import Case, Draw, strategy
from random_nodes.indexing import known
from random_nodes.movement import int64

EQUATIONS = [
    "ij,jk->ik",
    "bij,bjk->bik",
    "ij->ji",
    "ii->i",
    "i,j->ij",
    "bhid,bhjd->bhij",
    "ij,j",
    "abc,bd->adc",
    "ij->",
    "...ij,...jk->...ik",
    "ij,jk,kl->il",
    "iij->j",
    "ij,ij->i",
]


@strategy("MatMul")
def matmul(d: Draw, op: str) -> Case:
    dtype, batch = d.pick(["float32", "float32", "float64", "int32"]), d.shape(0, 2, 3)
    rows, inner, columns = d.sizes(3, 1, 6)
    left = [inner] if d.int(0, 4) == 4 else [*d.broadcastable(batch), rows, inner]
    right = [inner] if d.int(0, 4) == 4 else [*d.broadcastable(batch), inner, columns]
    operands = {"a": d.array(left, dtype), "b": d.array(right, dtype)}
    return Case(operands, opset=d.opset(9), constants=known(d, "b"))


@strategy("Gemm")
def gemm(d: Draw, op: str) -> Case:
    opset, (rows, inner, columns) = d.opset(7), d.sizes(3, 1, 6)
    across, down = d.int(0, 1), d.int(0, 1)
    operands = {
        "a": d.floats([inner, rows] if across else [rows, inner]),
        "b": d.floats([columns, inner] if down else [inner, columns]),
    }
    if opset < 11 or d.bool():
        operands["c"] = d.floats(d.broadcastable([rows, columns]))
    attributes = {"transA": across, "transB": down}
    attributes |= {name: d.float(-2, 2) for name in ("alpha", "beta") if d.bool()}
    return Case(
        operands, attributes, opset=opset, constants=known(d, *(name for name in operands if name != "a"))
    )


@strategy("Einsum")
def einsum(d: Draw, op: str) -> Case:
    equation, sizes = d.pick(EQUATIONS), dict(zip("abcdhijkl", d.sizes(9, 1, 4)))
    more = d.shape(0, 2, 3)
    operands = {}
    for i, term in enumerate(equation.partition("->")[0].split(",")):
        outer = more if term.startswith("...") else []
        operands[f"x{i}"] = d.floats([*outer, *(sizes[letter] for letter in term.strip("."))])
    return Case(operands, {"equation": equation}, opset=d.opset(12))


@strategy("Det")
def determinant(d: Draw, op: str) -> Case:
    size = d.int(1, 4)
    return Case({"x": d.floats([*d.shape(0, 2, 3), size, size])}, opset=d.opset(11), rtol=1e-3, atol=1e-3)


@strategy("DFT")
def fourier(d: Draw, op: str) -> Case:
    opset, parts = d.opset(17), d.int(1, 2)
    x = d.floats([d.int(1, 3), *d.sizes(d.int(1, 2), 2, 8), parts])
    axis, inverse = d.int(1, x.ndim - 2), d.int(0, 1)
    onesided = 1 if parts == 1 and not inverse and d.bool() else 0
    operands = {"x": x}
    if d.bool():
        operands["length"] = int64(d.int(2, 9))
    attributes = {"inverse": inverse, "onesided": onesided}
    if opset < 20:
        attributes["axis"] = axis
    else:
        operands |= {} if "length" in operands else {" ": int64(0)}
        operands["axis"] = int64(axis)
    constants = [name for name in operands if name not in ("x", " ")]
    return Case(operands, attributes, opset=opset, constants=constants, atol=1e-4)


@strategy("STFT")
def short_time_fourier(d: Draw, op: str) -> Case:
    frame, step = d.pick([4, 6, 8, 16]), d.int(1, 6)
    x = d.floats([d.int(1, 2), d.int(frame, 40), 1])
    operands = {"x": x, "step": int64(step), "window": d.floats([frame], 0, 1), "length": int64(frame)}
    return Case(
        operands,
        {"onesided": d.int(0, 1)},
        opset=d.opset(17),
        atol=1e-4,
        constants=["step", "window", "length"],
    )


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@strategy(*GATES)
def recurrent(d: Draw, op: str) -> Case:
    steps, batch, size, hidden = d.sizes(4, 1, 4)
    direction = d.pick(["forward", "reverse", "bidirectional"])
    ways, rows = 1 + (direction == "bidirectional"), GATES[op] * hidden
    optional = {
        "b": d.floats([ways, 2 * rows], -1, 1),
        "lengths": d.ints([batch], 1, steps, "int32"),
        "h": d.floats([ways, batch, hidden], -1, 1),
    }
    if op == "LSTM":
        optional["c"] = d.floats([ways, batch, hidden], -1, 1)
        optional["p"] = d.floats([ways, 3 * hidden], -1, 1)
    operands = {
        "x": d.floats([steps, batch, size], -1, 1),
        "w": d.floats([ways, rows, size], -1, 1),
        "r": d.floats([ways, rows, hidden], -1, 1),
    }
    operands |= {name if d.bool() else " " * i: array for i, (name, array) in enumerate(optional.items(), 1)}
    attributes = {"hidden_size": hidden, "direction": direction}
    attributes |= {"clip": d.float(0.5, 2)} if d.bool() else {}
    attributes |= {"linear_before_reset": d.int(0, 1)} if op == "GRU" else {}
    if d.bool():
        count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op] * ways
        attributes["activations"] = [d.pick(["Sigmoid", "Tanh", "Relu"]) for _ in range(count)]
    constants = ["w", "r", *(name for name in ("b", "p") if name in operands)]
    return Case(operands, attributes, opset=d.opset(7), constants=constants, outputs=3 if op == "LSTM" else 2)


@strategy("AffineGrid")
def affine_grid(d: Draw, op: str) -> Case:
    axes, batch = d.int(2, 3), d.int(1, 3)
    theta = d.floats([batch, axes, axes + 1], -1, 1)
    size = int64([batch, 2, *d.sizes(axes, 2, 5)])
    return Case(
        {"theta": theta, "size": size}, {"align_corners": d.int(0, 1)}, opset=d.opset(20), constants=["size"]
    )


@strategy("RotaryEmbedding")
def rotary(d: Draw, op: str) -> Case:
    batch, heads, steps, half = d.sizes(4, 1, 4)
    operands = {
        "x": d.floats([batch, heads, steps, 2 * half]),
        "cos": d.floats([9, half], -1, 1),
        "sin": d.floats([9, half], -1, 1),
        "positions": d.ints([batch, steps], 0, 8),
    }
    return Case(operands, {"interleaved": d.int(0, 1)}, opset=d.opset(23))


@strategy("Attention")
def attention(d: Draw, op: str) -> Case:
    """With or without a mask, a past and a cap; in opset 24 perhaps with a length for each row instead of a past.

    The scores after masking are not drawn: where ONNX says minus infinity, onnxruntime shows the lowest float. A cap
    beside a mask, and the scores after the first of the two, are left to `test_attention.py`.
    """
    batch, heads, group, queries, keys, width = d.sizes(6, 1, 3)
    before, opset = d.int(0, 2), d.opset(23)
    broadcast = d.pick([[], [1], [heads * group], [batch, 1], [batch, heads * group]])
    mask_shape = [*broadcast, queries, keys + before]
    operands = {
        "q": d.floats([batch, heads * group, queries, width]),
        "k": d.floats([batch, heads, keys, width]),
        "v": d.floats([batch, heads, keys, width]),
        "mask": d.pick([d.bools(mask_shape), d.floats(mask_shape), None]),
        "past_key": d.floats([batch, heads, before, width]) if before else None,
        "past_value": d.floats([batch, heads, before, width]) if before else None,
    }
    if opset > 23 and not before and d.bool():
        operands["lengths"] = d.ints([batch], 1, keys)
    is_causal = d.int(0, 1)
    is_masked = is_causal or "lengths" in operands or operands["mask"] is not None
    attributes = {
        "is_causal": is_causal,
        "softcap": 0.0 if is_masked else d.pick([0.0, 2.0]),
        "qk_matmul_output_mode": d.pick([0, 3]),
    }
    attributes |= {"scale": d.float(0.25, 2)} if d.bool() else {}
    return Case(present(operands), attributes, opset=opset, outputs=4 if before else 1)


def present(operands: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Absent operands get a name of spaces each."""
    return {
        " " * place if array is None else name: np.empty(0) if array is None else array
        for place, (name, array) in enumerate(operands.items())
    }
