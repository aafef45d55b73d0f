"""Emits an `Expression` for one vector of lanes, leaving its value on the operand stack.

A node that is used once stays on the stack; one that is used more often is kept in a local by `local.tee`.
Values have the wide form of `lanes.py`. The semantics are those of the TOSA 1.0 specification; where it leaves a
choice (division by zero, casts of NaN) the result is some number, never a trap.
"""

from __future__ import annotations

from collections.abc import Callable

from tosaic.wasm.emission import Emission, Operation
from tosaic.wasm.function import Function
from tosaic.wasm.kernel import Expression
from tosaic.wasm.lanes import Push
from tosaic.wasm.operations.arithmetic import ARITHMETIC
from tosaic.wasm.operations.casts import cast
from tosaic.wasm.operations.integer import INTEGER
from tosaic.wasm.operations.rescale import rescale

_OPERATIONS: dict[str, Operation] = {**ARITHMETIC, **INTEGER, "cast": cast, "rescale": rescale}


def emit(
    f: Function,
    expression: Expression,
    lanes: int,
    load_input: Callable[[int], None],
    load_result: Push | None = None,
    table_address: Callable[[int], None] | None = None,
    *,
    result_bound: int | None = None,
    store_saturates: bool = False,
) -> None:
    """Push the last node of the expression.

    `lanes` is the number of valid lanes: 1 to 4 (at most 2 where 64-bit elements take part). `load_input(k)`
    pushes the lanes of input k, `load_result()` those of the kernel's own value, both in wide form and at most once;
    `table_address(k)` pushes the address of the look-up table that is input k.
    `result_bound` is the largest magnitude that an integer value of the kernel's own can have; with
    `store_saturates` the value may exceed the range of its narrow integer type, since what stores it saturates.
    A node ("local", (index,), ...) is a vector of wide lanes that the kernel keeps in that local.
    """
    if not expression.nodes:
        raise ValueError("an expression has at least one node")
    emission = Emission(
        f,
        expression,
        lanes,
        load_input,
        load_result,
        table_address,
        _OPERATIONS,
        result_bound,
        store_saturates,
    )
    emission.push(len(expression.nodes) - 1)


def operations() -> frozenset[str]:
    """The TOSA ops (without their prefix) that an expression may hold."""
    return frozenset(_OPERATIONS)
