"""Random TOSA programs over all element types, for comparison with Arm's reference model.

Every number is whole and small enough to be exact, in floats as well, so that results must agree to the last bit in
any order of summation. New ops like to read what came last: chains grow long enough to be fused, and views of views
come about.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wasm.typed_programs import arithmetic, movement, products
from wasm.typed_programs.program import TypedProgram

_OFTEN: dict[Callable[[TypedProgram], None], int] = {
    arithmetic.arithmetic: 4,
    arithmetic.scaled_product: 1,
    arithmetic.bits: 1,
    arithmetic.left_shift: 1,
    arithmetic.divide: 1,
    arithmetic.unary: 2,
    arithmetic.compare: 1,
    arithmetic.logical: 1,
    arithmetic.select: 2,
    arithmetic.cast: 2,
    arithmetic.rescale: 3,
    arithmetic.table: 1,
    arithmetic.functions: 2,
    products.reduce: 2,
    products.matmul: 2,
    products.convolution: 3,
    products.pool: 1,
    products.resize: 1,
    movement.gather: 1,
    movement.scatter: 1,
    movement.concat: 2,
    movement.move: 5,
}
"""What appends an op, and how often compared with the others."""


def random_program(seed: int, ops: int = 16) -> TypedProgram:
    """A program of about so many ops that gives its last value and some of the others."""
    program = TypedProgram(random.Random(seed))
    for _ in range(program.rng.randint(1, 3)):
        program.input()
    for append in program.rng.choices(list(_OFTEN), list(_OFTEN.values()), k=ops):
        append(program)
    readable = [value for value in program.values if value.element != "i48"]
    others = program.rng.sample(readable, min(program.rng.randint(0, 2), len(readable)))
    program.outputs = list(dict.fromkeys([readable[-1], *others]))
    return program
