"""Reductions, products, and windows over random values."""

from __future__ import annotations

import math

from wasm.typed_programs.program import EXACT, FLOATS, INTEGERS, SIZES, Tensor, TypedProgram

PRODUCTS = {
    "i8": ("i8", "i32"),
    "i16": ("i8", "i48"),
    "f16": ("f16", "f16"),
    "bf16": ("bf16", "bf16"),
    "f32": ("f32", "f32"),
}
"""Element type of the data -> those of the weights and of the result."""


def _factor(element: str, result: str, x: Tensor, terms: int) -> int:
    """The bound of the other factor with which `terms` products are exact."""
    return min(EXACT[element], 9, EXACT[result] // max(x.bound * terms, 1) - 1)


def reduce(p: TypedProgram) -> None:
    op = p.rng.choice(["sum", "max", "min", "product", "any", "all", "argmax"])
    kinds = {
        "sum": ("i32", *FLOATS),
        "product": FLOATS,
        "any": ("i1",),
        "all": ("i1",),
        "argmax": ("i8", "i16", *FLOATS),
    }
    a = p.any(kinds.get(op, (*INTEGERS, *FLOATS)))
    axis = p.rng.randrange(len(a.shape))
    count = a.shape[axis]
    if op == "product":
        a = p.below(a, 2 if count < 6 else 1)
    bound = {"sum": a.bound * count, "product": a.bound**count, "argmax": count}.get(op, a.bound)
    if op == "argmax" and len(a.shape) > 1:
        p.emit(op, [a], [*a.shape[:axis], *a.shape[axis + 1 :]], "i32", bound, f"axis = {axis} : i32")
    elif op != "argmax":
        shape = [1 if i == axis else size for i, size in enumerate(a.shape)]
        p.emit(f"reduce_{op}", [a], shape, a.element, bound, f"axis = {axis} : i32")


def matmul(p: TypedProgram) -> None:
    a = p.data([e for e in PRODUCTS if e != "i16"], 3)
    result = "f32" if a.element == "bf16" else PRODUCTS[a.element][1]
    bound = _factor(a.element, result, a, a.shape[2])
    if bound < 1:
        return
    shape = [a.shape[0], a.shape[2], p.rng.choice(SIZES)]
    fitting = [
        y for y in p.values if y.element == a.element and len(y.shape) == 3 and list(y.shape[:2]) == shape[:2]
    ]
    b = p.below(p.rng.choice(fitting), bound) if fitting else p.const(p.numbers(shape, bound), a.element)
    zeros = [p.zero(a.element) for _ in range(2)]
    if a.element == "i8" and p.rng.random() < 0.5:
        zeros = [p.zero("i8", p.rng.randint(-9, 9)) for _ in range(2)]
    total = (
        (a.bound + 9) * (b.bound + 9) * a.shape[2] if a.element == "i8" else a.bound * b.bound * a.shape[2]
    )
    p.emit("matmul", [a, b, *zeros], [a.shape[0], a.shape[1], b.shape[2]], result, total)


def convolution(p: TypedProgram) -> None:
    op = p.rng.choice(["conv2d", "conv2d", "depthwise_conv2d", "transpose_conv2d"])
    x = p.data(tuple(PRODUCTS), 4)
    weight, result = PRODUCTS[x.element]
    kernel = [p.rng.choice([1, 1, 2, 3]) for _ in range(2)]
    channels, stride = x.shape[3], [p.rng.choice([1, 1, 2]) for _ in range(2)]
    outputs = p.rng.choice([1, 2, 3] if op.startswith("depth") else [1, 3, 4, 8, 17, 33])
    terms = math.prod(kernel) * (1 if op.startswith("depth") else channels)
    bound = _factor(weight, result, x, terms)
    if bound < 1:
        return
    shape = [*kernel, channels, outputs] if op.startswith("depth") else [outputs, *kernel, channels]
    weights = p.const(p.numbers(shape, bound), weight)
    count = channels * outputs if op.startswith("depth") else outputs
    zero = p.rng.randint(-9, 9) if x.element == "i8" else 0
    bias = p.const(p.numbers([p.rng.choice([1, count])], 5), result)
    operands = [x, weights, bias, p.zero(x.element, zero), p.zero(weight)]
    accumulator = {"i32": "i32", "i48": "i48"}.get(result, "f32")
    total = (x.bound + abs(zero)) * weights.bound * terms + 5
    if op == "transpose_conv2d":
        pads = [p.rng.randint(1 - k, 2) for k in kernel for _ in range(2)]
        place = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], stride, kernel)]
        spatial = [n + pads[2 * i] + pads[2 * i + 1] for i, n in enumerate(place)]
        attributes = f"out_pad = array<i64: {', '.join(map(str, pads))}>, stride = array<i64: {stride[0]}, {stride[1]}>"
    else:
        dilation = [p.rng.choice([1, 1, 2]) for _ in range(2)]
        pads = [p.rng.choice([0, 1]) for _ in range(4)]
        reach = [
            n + pads[2 * i] + pads[2 * i + 1] - (kernel[i] - 1) * dilation[i] - 1
            for i, n in enumerate(x.shape[1:3])
        ]
        for i in range(2):  # TOSA wants windows to end at the padded border
            pads[2 * i + 1] += -reach[i] % stride[i]
            reach[i] += -reach[i] % stride[i]
        if min(reach) < 0:
            return
        spatial = [r // s + 1 for r, s in zip(reach, stride)]
        attributes = (
            f"pad = array<i64: {', '.join(map(str, pads))}>, stride = array<i64: {stride[0]}, {stride[1]}>, "
            f"dilation = array<i64: {dilation[0]}, {dilation[1]}>"
        )
    if min(spatial) > 0:
        p.emit(
            op,
            operands,
            [x.shape[0], *spatial, count],
            result,
            total,
            f"{attributes}, acc_type = {accumulator}",
        )


def pool(p: TypedProgram) -> None:
    x = p.data((*INTEGERS[:2], *FLOATS), 4)
    op = p.rng.choice(["max_pool2d", "avg_pool2d"]) if x.element in ("i8", "i16") else "max_pool2d"
    kernel = [p.rng.choice([1, 2, 3]) for _ in range(2)]
    stride = [p.rng.choice([1, 2]) for _ in range(2)]
    pads = [p.rng.randrange(k) for k in kernel for _ in range(2)]
    reach = [n + pads[2 * i] + pads[2 * i + 1] - kernel[i] for i, n in enumerate(x.shape[1:3])]
    if min(reach) < 0 or any(r % s for r, s in zip(reach, stride)):
        return
    attributes = (
        f"kernel = array<i64: {kernel[0]}, {kernel[1]}>, stride = array<i64: {stride[0]}, {stride[1]}>, "
    )
    attributes += f"pad = array<i64: {', '.join(map(str, pads))}>"
    shape = [x.shape[0], *(r // s + 1 for r, s in zip(reach, stride)), x.shape[3]]
    if op == "avg_pool2d":
        zeros = [p.zero(x.element, p.rng.randint(-9, 9) if x.element == "i8" else 0) for _ in range(2)]
        p.emit(
            op,
            [x, *zeros],
            shape,
            x.element,
            min(x.bound + 20, EXACT[x.element]),
            f"{attributes}, acc_type = i32",
        )
    else:
        p.emit(op, [x], shape, x.element, x.bound, attributes)


def resize(p: TypedProgram) -> None:
    x = p.data(("i8", "i16", *FLOATS), 4)
    numerators, denominators = ([p.rng.randint(1, 4) for _ in range(2)] for _ in range(2))
    offset = [p.rng.randint(0, n - 1) for n in numerators]
    border = [p.rng.randint(-1, n - 1) for n in numerators]
    spans = [(n - 1) * a - o + b for n, a, o, b in zip(x.shape[1:3], numerators, offset, border)]
    if any(span < 0 or span % d for span, d in zip(spans, denominators)):
        return
    bilinear = x.element in ("i8", "i16") and p.rng.random() < 0.6
    result = {"i8": "i32", "i16": "i48"}[x.element] if bilinear else x.element
    scale = [number for pair in zip(numerators, denominators) for number in pair]
    operands = [x, p.sizes(scale), p.sizes(offset), p.sizes(border)]
    bound = x.bound * math.prod(numerators) if bilinear else x.bound
    shape = [x.shape[0], *(span // d + 1 for span, d in zip(spans, denominators)), x.shape[3]]
    p.emit(
        "resize",
        operands,
        shape,
        result,
        bound,
        f"mode = {'BILINEAR' if bilinear else 'NEAREST_NEIGHBOR'}",
    )
