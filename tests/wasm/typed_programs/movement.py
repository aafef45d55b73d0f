"""Movement of elements: views, copies, look-ups."""

from __future__ import annotations

import math

import numpy as np

from wasm.typed_programs.program import FLOATS, INTEGERS, SIZES, Tensor, TypedProgram


def gather(p: TypedProgram) -> None:
    x = p.any((*INTEGERS, *FLOATS))
    x = p.reshaped(x, p.split(math.prod(x.shape), 3)) if len(x.shape) != 3 else x
    indices = p.const(p.numbers([x.shape[0], p.rng.choice(SIZES)], x.shape[1] - 1, least=0), "i32")
    p.emit("gather", [x, indices], [x.shape[0], indices.shape[1], x.shape[2]], x.element, x.bound)


def scatter(p: TypedProgram) -> None:
    x = p.any((*INTEGERS, *FLOATS))
    x = p.reshaped(x, p.split(math.prod(x.shape), 3)) if len(x.shape) != 3 else x
    count = p.rng.randint(1, x.shape[1])
    indices = p.const(np.array([p.rng.sample(range(x.shape[1]), count) for _ in range(x.shape[0])]), "i32")
    updates = p.const(p.numbers([x.shape[0], count, x.shape[2]], 9), x.element)
    p.emit("scatter", [x, indices, updates], x.shape, x.element, max(x.bound, 9))


def concat(p: TypedProgram) -> None:
    a = p.any()
    axis = p.rng.randrange(len(a.shape))

    def rest(x: Tensor) -> tuple[str, list[int]]:
        return x.element, [size for i, size in enumerate(x.shape) if i != axis] + [len(x.shape)]

    matching = [x for x in p.values if rest(x) == rest(a)]
    parts = [a, *(p.rng.choice(matching) for _ in range(p.rng.randint(1, 3)))]
    p.rng.shuffle(parts)
    shape = [sum(x.shape[i] for x in parts) if i == axis else size for i, size in enumerate(a.shape)]
    p.emit("concat", parts, shape, a.element, max(x.bound for x in parts), f"axis = {axis} : i32")


def move(p: TypedProgram) -> None:
    a = p.any()
    rank = len(a.shape)
    match p.rng.choice(
        ["transpose", "transpose", "slice", "slice", "reverse", "reshape", "reshape", "tile", "pad"]
    ):
        case "transpose":
            perms = p.rng.sample(range(rank), rank)
            text = f"perms = array<i32: {', '.join(map(str, perms))}>"
            p.emit("transpose", [a], [a.shape[i] for i in perms], a.element, a.bound, text)
        case "slice":
            start = [p.rng.randrange(size) for size in a.shape]
            size = [p.rng.randint(1, n - b) for n, b in zip(a.shape, start)]
            p.emit("slice", [a, p.sizes(start), p.sizes(size)], size, a.element, a.bound)
        case "reverse":
            p.emit("reverse", [a], a.shape, a.element, a.bound, f"axis = {p.rng.randrange(rank)} : i32")
        case "reshape":
            p.reshaped(a, p.split(math.prod(a.shape), p.rng.randint(1, 4)))
        case "tile":
            multiples = [p.rng.choice([1, 1, 2, 3]) for _ in a.shape]
            shape = [n * m for n, m in zip(a.shape, multiples)]
            p.emit("tile", [a, p.sizes(multiples)], shape, a.element, a.bound)
        case "pad":
            widths = [p.rng.choice([0, 0, 1, 2]) for _ in range(2 * rank)]
            shape = [n + widths[2 * i] + widths[2 * i + 1] for i, n in enumerate(a.shape)]
            value = p.zero(a.element, p.rng.randint(0, 1))
            p.emit("pad", [a, p.sizes(widths), value], shape, a.element, max(a.bound, 1))
