"""Digests and numbers as text in error messages. Only refusals run this code."""

from __future__ import annotations

from tosaic.wasm.function import Function
from tosaic.wasm.opcodes import leb128_unsigned

_DIGITS = b"0123456789abcdef"
_INTERLEAVED = [i // 2 + 16 * (i % 2) for i in range(16)]


def write_hexadecimal(f: Function, source: int, target: int, size: int) -> None:
    """Write the bytes at the address in a local, a multiple of 16, as digits to a constant address."""
    high, low = f.local("v128"), f.local("v128")
    for offset in range(0, size, 16):
        _digits(f, source, offset, high, is_high=True)
        _digits(f, source, offset, low, is_high=False)
        for half in (0, 8):
            f.i32(target)
            f.get(high)
            f.get(low)
            f.shuffle([half + lane for lane in _INTERLEAVED])
            f.memory("v128.store", 2 * (offset + half))
    f.release(high, low)


def _digits(f: Function, source: int, offset: int, result: int, is_high: bool) -> None:
    """Set a local to the digits of the high or of the low half of 16 bytes."""
    f.v128(_DIGITS)
    f.get(source)
    f.memory("v128.load", offset)
    if is_high:
        f.i32(4)
        f.op("i8x16.shr_u")
    else:
        f.v128(bytes([0x0F] * 16))
        f.op("v128.and")
    f.op("i8x16.swizzle")
    f.set(result)


def write_decimal(f: Function, number: int, target: int) -> int:
    """Write the number in a local, below 100,000, to a constant address; a local with how many digits it has."""
    count, rest, place = f.local("i32"), f.local("i32"), f.local("i32")
    f.i32(1)
    f.set(count)
    for power in (10, 100, 1_000, 10_000):
        f.get(number)
        f.i32(power)
        f.op("i32.ge_u")
        f.get(count)
        f.op("i32.add")
        f.set(count)
    f.get(number)
    f.set(rest)
    f.get(count)
    f.set(place)
    with f.loop(1):
        f.get(place)
        f.i32(1)
        f.op("i32.sub")
        f.tee(place)
        f.get(rest)
        f.i32(10)
        f.op("i32.rem_u")
        f.i32(ord("0"))
        f.op("i32.add")
        f.memory("i32.store8", target)
        f.get(rest)
        f.i32(10)
        f.op("i32.div_u")
        f.set(rest)
        f.get(place)
        f.op("br_if", leb128_unsigned(0))
    f.release(rest, place)
    return count
