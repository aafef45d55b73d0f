"""Ops that compute each element of the result from one element of each operand."""

from __future__ import annotations

import numpy as np

from random_nodes.case import Case, Draw, strategy, tolerance

FLOATS = ["float32", "float32", "float64", "float16"]
NUMBERS = ["float32", "float32", "int32", "int64", "float64"]

UNARY = {
    "Acos": (7, -1, 1),
    "Acosh": (9, 1, 100),
    "Asin": (7, -1, 1),
    "Asinh": (9, -50, 50),
    "Atan": (7, -50, 50),
    "Atanh": (9, -0.999, 0.999),
    "Ceil": (7, -9, 9),
    "Cos": (7, -9, 9),
    "Cosh": (9, -8, 8),
    "Erf": (9, -4, 4),
    "Exp": (7, -10, 10),
    "Floor": (7, -9, 9),
    "HardSwish": (14, -6, 6),
    "Log": (7, 1e-3, 100),
    "Mish": (18, -20, 20),
    "Reciprocal": (7, 0.01, 100),
    "Round": (11, -9, 9),
    "Sigmoid": (7, -20, 20),
    "Sin": (7, -9, 9),
    "Sinh": (9, -8, 8),
    "Softplus": (7, -30, 30),
    "Softsign": (7, -30, 30),
    "Sqrt": (7, 0, 100),
    "Tan": (7, -1.5, 1.5),
    "Tanh": (7, -8, 8),
}
"""First opset and domain."""

ATTRIBUTES = {
    "Celu": (12, {"alpha": (0.25, 3)}),
    "Elu": (7, {"alpha": (-2, 3)}),
    "HardSigmoid": (7, {"alpha": (0.125, 2), "beta": (-1, 1)}),
    "LeakyRelu": (7, {"alpha": (-2, 2)}),
    "Selu": (7, {"alpha": (0.25, 3), "gamma": (0.25, 3)}),
    "Shrink": (9, {"bias": (-1, 1), "lambd": (0, 2)}),
    "Swish": (24, {"alpha": (-2, 2)}),
    "ThresholdedRelu": (10, {"alpha": (-2, 2)}),
}
"""First opset and range of each attribute."""


@strategy(*UNARY)
def unary(d: Draw, op: str) -> Case:
    first, low, high = UNARY[op]
    dtype = d.pick(FLOATS)
    x = d.floats(d.shape(), low, high, dtype)
    return Case({"x": x}, opset=d.opset(first), **tolerance(dtype))


@strategy("Abs", "Neg", "Sign", "Relu")
def signed(d: Draw, op: str) -> Case:
    first = {"Sign": 9, "Relu": 14}.get(op, 7)
    dtype = d.pick([*NUMBERS, "int8"])
    return Case({"x": d.array(d.shape(), dtype)}, opset=d.opset(first))


@strategy(*ATTRIBUTES)
def activation(d: Draw, op: str) -> Case:
    first, ranges = ATTRIBUTES[op]
    attributes = {name: d.float(*limits) for name, limits in ranges.items() if d.bool()}
    return Case({"x": d.floats(d.shape())}, attributes, opset=d.opset(first))


@strategy("Gelu")
def gelu(d: Draw, op: str) -> Case:
    return Case({"x": d.floats(d.shape())}, {"approximate": d.pick(["none", "tanh"])}, opset=d.opset(20))


@strategy("Add", "Sub", "Mul")
def arithmetic(d: Draw, op: str) -> Case:
    dtype = d.pick([*NUMBERS, "float16"] if d.bool() else ["int8", "uint8", "int16", "int32"])
    shape = d.shape()
    a, b = (d.array(d.broadcastable(shape), dtype) for _ in range(2))
    opset = d.opset(14 if dtype in ("int8", "uint8", "int16") else 7)
    return Case({"a": a, "b": b}, opset=opset, **tolerance(dtype))


@strategy("Div")
def division(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(["float32", "float64", "int32", "int64", "uint8", "int8"]), d.shape()
    a, b = (d.array(d.broadcastable(shape), dtype) for _ in range(2))
    b = np.where(np.abs(b.astype(float)) < 0.1, np.asarray(3, b.dtype), b)
    return Case({"a": a, "b": b}, opset=d.opset(14 if b.dtype.itemsize == 1 else 7))


@strategy("Mod")
def modulo(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(["float32", "int32", "int64", "int8", "uint8", "uint32"]), d.shape()
    a, b = (d.array(d.broadcastable(shape), dtype) for _ in range(2))
    if dtype == "float32":  # eighths: a quotient near an integer would decide about a whole divisor
        a, b = np.round(a * 8) / 8, np.round(b * 8) / 8
    b = np.where(b == 0, np.asarray(3, b.dtype), b)
    fmod = 1 if dtype == "float32" else d.int(0, 1)
    return Case({"a": a, "b": b}, {"fmod": fmod}, opset=d.opset(10))


@strategy("Pow")
def power(d: Draw, op: str) -> Case:
    shape, exponents = d.shape(), d.pick(["float32", "int32", "int64", "constant"])
    x = d.floats(d.broadcastable(shape), 0.1, 4)
    if exponents == "constant":
        y = np.asarray(d.pick([-2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 2.7]), np.float32)
        return Case({"x": x, "y": y}, opset=d.opset(7), constants=["y"])
    y = d.array(d.broadcastable(shape), exponents)
    y = np.asarray(np.clip(y, -4, 4), y.dtype)
    return Case({"x": x, "y": y}, opset=d.opset(7 if exponents == "float32" else 12))


@strategy("Max", "Min", "Sum", "Mean")
def variadic(d: Draw, op: str) -> Case:
    integers = ["int32", "int64", "int8", "uint8", "uint32"] if op in ("Max", "Min") else []
    dtype, shape = d.pick(["float32", *integers]), d.shape()
    operands = {f"x{i}": d.array(d.broadcastable(shape), dtype) for i in range(d.int(1, 4))}
    return Case(operands, opset=d.opset(8 if dtype == "float32" else 12))


@strategy("PRelu")
def prelu(d: Draw, op: str) -> Case:
    x = d.floats(d.shape(1))
    return Case({"x": x, "slope": d.floats(d.broadcastable(x.shape))}, opset=d.opset(7))


@strategy("Clip")
def clip(d: Draw, op: str) -> Case:
    dtype = d.pick(["float32", "int32", "int64", "int8", "uint8"])
    x, opset = d.array(d.shape(), dtype), d.opset(7 if dtype == "float32" else 12)
    bounds = {"min": d.int(0, 2), "max": d.int(3, 40)}
    kept = [name for name in bounds if d.bool()]
    if opset < 11:
        return Case({"x": x}, {name: float(bounds[name]) for name in kept}, opset=opset)
    operands = {
        name if name in kept else f"{' ' * i}": np.asarray(bounds[name], dtype)
        for i, name in enumerate(bounds, 1)
    }
    return Case({"x": x, **operands}, opset=opset, constants=[name for name in kept if d.bool()])


@strategy("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def comparison(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(["float32", "int32", "int64", "uint8", "uint32"]), d.shape()
    a, b = (np.round(d.array(d.broadcastable(shape), dtype) / 8).astype(dtype) for _ in range(2))
    return Case({"a": a, "b": b}, opset=d.opset({"float32": 12}.get(dtype, 16)))


@strategy("And", "Or", "Xor")
def logic(d: Draw, op: str) -> Case:
    shape = d.shape()
    a, b = (d.bools(d.broadcastable(shape)) for _ in range(2))
    return Case({"a": a, "b": b}, opset=d.opset(7))


@strategy("Not")
def negation(d: Draw, op: str) -> Case:
    return Case({"x": d.bools(d.shape())}, opset=d.opset(7))


INTEGERS = ["int8", "int16", "int32", "uint8", "uint16", "uint32"]


def whole_range(d: Draw, shape: list[int], dtype: str) -> np.ndarray:
    return d.ints(shape, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max), dtype)


@strategy("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(INTEGERS), d.shape()
    a, b = (whole_range(d, d.broadcastable(shape), dtype) for _ in range(2))
    return Case({"a": a, "b": b}, opset=d.opset(18))


@strategy("BitwiseNot")
def complement(d: Draw, op: str) -> Case:
    return Case({"x": whole_range(d, d.shape(), d.pick(INTEGERS))}, opset=d.opset(18))


@strategy("BitShift")
def shift(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(["uint8", "uint32"]), d.shape()
    a = whole_range(d, d.broadcastable(shape), dtype)
    b = d.ints(d.broadcastable(shape), 0, a.dtype.itemsize * 8 - 1, dtype)
    return Case({"a": a, "b": b}, {"direction": d.pick(["LEFT", "RIGHT"])}, opset=d.opset(11))


@strategy("IsInf", "IsNaN")
def not_finite(d: Draw, op: str) -> Case:
    x = d.floats(d.shape())
    odd = np.asarray([np.inf, -np.inf, np.nan, 0, 1], np.float32)[d.ints(x.shape, 0, 4)]
    x = np.where(d.bools(x.shape), x, odd).astype(np.float32)
    names = ["detect_negative", "detect_positive"] if op == "IsInf" else []
    return Case({"x": x}, {name: d.int(0, 1) for name in names}, opset=d.opset(10))


@strategy("Where")
def where(d: Draw, op: str) -> Case:
    dtype, shape = d.pick(["float32", "int32", "int64", "uint8"]), d.shape()
    a, b = (d.array(d.broadcastable(shape), dtype) for _ in range(2))
    return Case({"c": d.bools(d.broadcastable(shape)), "a": a, "b": b}, opset=d.opset(9))


CASTS = [
    "float32",
    "float64",
    "float16",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "bool",
]


def castable(d: Draw, target: np.dtype) -> np.ndarray:
    """Elements that a dtype holds, since ONNX leaves open what becomes of others."""
    x = d.array(d.shape(), d.pick(CASTS))
    if target.kind == "u" or (target.kind == "i" and x.dtype.kind == "u"):
        x = np.asarray(np.abs(x)) if x.dtype != np.bool_ else x
    return np.asarray(x)


def onnx_dtype(dtype: np.dtype) -> int:
    import onnx

    return onnx.helper.np_dtype_to_tensor_dtype(dtype)


@strategy("Cast")
def cast(d: Draw, op: str) -> Case:
    target = np.dtype(d.pick(CASTS))
    return Case({"x": castable(d, target)}, {"to": onnx_dtype(target)}, opset=d.opset(9), rtol=1e-3)


@strategy("CastLike")
def cast_like(d: Draw, op: str) -> Case:
    target = np.dtype(d.pick(CASTS))
    return Case({"x": castable(d, target), "y": d.array([2], target.name)}, opset=d.opset(15), rtol=1e-3)


@strategy("Identity")
def identity(d: Draw, op: str) -> Case:
    return Case({"x": d.array(d.shape(), d.pick(CASTS))}, opset=d.opset(7))


@strategy("Dropout")
def dropout(d: Draw, op: str) -> Case:
    """No mask before opset 12, where onnxruntime gives zeros and onnx's reference ones."""
    opset = d.opset(7)
    if opset < 12:
        return Case({"x": d.floats(d.shape(1))}, {"ratio": 0.25}, opset=opset)
    ratio = {"ratio": np.asarray(0.25, np.float32)} if d.bool() else {}
    return Case(
        {"x": d.floats(d.shape(1)), **ratio},
        opset=opset,
        outputs=d.int(1, 2),
        constants=list(ratio),
        observed=True,
    )
