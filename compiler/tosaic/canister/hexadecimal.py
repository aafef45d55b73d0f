"""Digests as text in error messages. Only refusals run this code."""

from __future__ import annotations

from tosaic.wasm.function import Function

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
