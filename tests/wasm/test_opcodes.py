"""The operator table against the price list's names and against wasmtime's reading of the codes."""

from __future__ import annotations

import pytest
import wasmtime

from tosaic.prices import PriceList
from tosaic.wasm.opcodes import ACCESS_BYTES, NONE, OPERATORS, leb128_signed, leb128_unsigned


def test_every_priced_operator_is_known_and_the_other_way_round() -> None:
    assert set(OPERATORS) == set(PriceList.load().operators)


def test_codes_are_those_of_the_text_format() -> None:
    """Every operator without immediates, assembled by wasmtime, contains our code."""
    for operator in OPERATORS.values():
        if operator.immediates != NONE or operator.name in ("else", "end"):
            continue
        module = wasmtime.wat2wasm(f"(module (func unreachable {operator.name} unreachable))")
        assert b"\x00" + operator.code + b"\x00" in bytes(module), operator.name


@pytest.mark.parametrize(
    ("name", "size"),
    [("i32.load8_u", 1), ("i64.load32_s", 4), ("f64.store", 8), ("v128.load8x8_s", 8), ("v128.load32_splat", 4),
     ("v128.load", 16), ("v128.store16_lane", 2), ("v128.load64_zero", 8)],
)  # fmt: skip
def test_bytes_touched(name: str, size: int) -> None:
    assert ACCESS_BYTES[name] == size


def test_leb128() -> None:
    assert leb128_unsigned(624485) == bytes([0xE5, 0x8E, 0x26])
    assert leb128_signed(-123456) == bytes([0xC0, 0xBB, 0x78])
