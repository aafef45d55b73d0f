"""What each operator of a module costs, and what the meter has to do where it finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tosaic.prices import PriceList
from tosaic.wasm import opcodes
from tosaic.wasm.decode import unsigned_at
from tosaic.wasm.opcodes import ACCESS_BYTES, OPERATORS, Operator

_CUTS = frozenset(
    "loop if else end br br_if br_table return unreachable return_call return_call_indirect".split()
)
PLAIN, LOCAL_GET, LOCAL_CHANGE, BULK, ACCESS = range(5)
"""What an operator is to the meter: numbers, since they are compared for every operator of a program."""
BULK_WRITES = ("memory.fill", "memory.copy", "memory.init")


@dataclass(frozen=True)
class Charges:
    """What is paid for what: the static price of each operator, and the operators that also pay for their length.

    An operation whose length is more than `slice` fails: a slice of execution cannot hold it. `complexity` is what an
    operator adds to its function's complexity (1 if it is not there). Modules with `refused` operators are invalid.
    """

    operators: Mapping[str, int]
    function_entry: int
    by_length: frozenset[str]
    slice: int = 1 << 32
    complexity: Mapping[str, int] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()

    @classmethod
    def of(cls, prices: PriceList, operators: Mapping[str, Operator] = OPERATORS) -> Charges:
        rules = prices.document["rules"]
        default = rules["unlisted_operator_default"]
        listed = {name: prices.operators.get(name, default) for name in operators}
        slice = prices.limits["slice_instructions"]
        return cls(
            listed,
            prices.function_entry,
            frozenset(rules["dynamic"]),
            slice,
            prices.complexity,
            prices.refused_operators,
        )


@dataclass(frozen=True)
class MeteredOperator:
    """What the meter has to know of an operator."""

    name: str
    price: int
    immediates: str
    action: int
    cuts: bool
    access_bytes: int = 0
    under_value: str = ""
    """Type of the value that lies over the address on the stack."""
    writes: bool = False
    complexity: int = 1


OperatorTables = tuple[list[MeteredOperator | None], dict[tuple[int, int], MeteredOperator]]
"""Operators by their one byte, and by prefix and number."""


def operator_tables(charges: Charges, operators: Mapping[str, Operator]) -> OperatorTables:
    """The operators that a module may use."""
    one_byte: list[MeteredOperator | None] = [None] * 256
    prefixed: dict[tuple[int, int], MeteredOperator] = {}
    for name, operator in operators.items():
        if name in charges.refused:
            continue
        metered = _metered(name, operator.immediates, charges)
        if len(operator.code) == 1:
            one_byte[operator.code[0]] = metered
        else:
            prefixed[operator.code[0], unsigned_at(operator.code, 1)[0]] = metered
    return one_byte, prefixed


def _metered(name: str, immediates: str, charges: Charges) -> MeteredOperator:
    writes = name.split(".")[-1].startswith("store")
    is_lane_access = immediates == opcodes.MEMORY_LANE
    return MeteredOperator(
        name,
        charges.operators[name],
        immediates,
        _action(name, immediates, charges),
        name in _CUTS,
        ACCESS_BYTES.get(name, 0),
        name.split(".")[0] if writes or is_lane_access else "",
        writes,
        charges.complexity.get(name, 1),
    )


def _action(name: str, immediates: str, charges: Charges) -> int:
    if name == "local.get":
        return LOCAL_GET
    if name in ("local.set", "local.tee"):
        return LOCAL_CHANGE
    if name in charges.by_length or name in BULK_WRITES:
        return BULK
    return ACCESS if immediates in (opcodes.MEMORY, opcodes.MEMORY_LANE) else PLAIN
