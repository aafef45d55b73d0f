"""SHA-256 in WebAssembly (FIPS 180-4), so that a canister can check what it is sent.

The 64 rounds of a block are unrolled: the eight working variables change their roles instead of their locals, and the
message schedule is a ring of 16 locals.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tosaic.prices import PriceList
from tosaic.wasm.function import Function
from tosaic.wasm.opcodes import leb128_unsigned

BLOCK_BYTES = 64
DIGEST_BYTES = 32
_BIG_ENDIAN_WORDS = bytes(4 * (i // 4) + 3 - i % 4 for i in range(16))


@functools.cache
def compression(prices: PriceList, blocks: int = 1) -> Function:
    """The function (state, address, end): updates the state, eight i32, by the blocks from the address to the end.

    There is at least one block; what is counted is a call with so many.
    """
    f = Function("sha256", prices, ("i32", "i32", "i32"))
    state, address, end = 0, 1, 2
    kept = [f.local("i32") for _ in range(8)]
    working = [f.local("i32") for _ in range(8)]
    for i, local in enumerate(kept):
        f.get(state)
        f.memory("i32.load", 4 * i)
        f.set(local)
    with f.loop(blocks):
        for source, target in zip(kept, working):
            f.get(source)
            f.set(target)
        _rounds(f, working, _load_words(f, address))
        for local, change in zip(kept, working):
            f.get(local)
            f.get(change)
            f.op("i32.add")
            f.set(local)
        f.get(address)
        f.i32(BLOCK_BYTES)
        f.op("i32.add")
        f.tee(address)
        f.get(end)
        f.op("i32.ne")
        f.op("br_if", leb128_unsigned(0))
    for i, local in enumerate(kept):
        f.get(state)
        f.get(local)
        f.memory("i32.store", 4 * i)
    return f


def block_cost(prices: PriceList) -> int:
    """Instructions that each further block takes."""
    return compression(prices, 2).cost - compression(prices, 1).cost


def initial_state() -> bytes:
    """The first 32 bits of the fractions of the square roots of the first 8 primes, as the state lies in memory."""
    words = (math.isqrt(prime << 64) & 0xFFFFFFFF for prime in _primes(8))
    return b"".join(word.to_bytes(4, "little") for word in words)


def message_blocks(size: int) -> int:
    """The blocks of a message of so many bytes, its padding included."""
    return (size + 9 + BLOCK_BYTES - 1) // BLOCK_BYTES


def last_block(size: int) -> bytes:
    """The padding of a message of so many bytes, a multiple of 64: a block of its own."""
    return b"\x80".ljust(BLOCK_BYTES - 8, b"\0") + (8 * size).to_bytes(8, "big")


def push_digest(f: Function, state: int, half: int) -> None:
    """Push 16 bytes, from the byte `half` on, of the digest that the state at this address stands for."""
    f.i32(state)
    f.memory("v128.load", half)
    f.v128(_BIG_ENDIAN_WORDS)
    f.op("i8x16.swizzle")


def _load_words(f: Function, address: int) -> list[int]:
    """Sixteen locals with the big-endian words of the block."""
    words = [f.local("i32") for _ in range(16)]
    vector = f.local("v128")
    for start in range(0, 16, 4):
        f.get(address)
        f.memory("v128.load", 4 * start)
        f.v128(_BIG_ENDIAN_WORDS)
        f.op("i8x16.swizzle")
        f.set(vector)
        for lane in range(4):
            f.get(vector)
            f.lane("i32x4.extract_lane", lane)
            f.set(words[start + lane])
    return words


def _rounds(f: Function, working: Sequence[int], words: Sequence[int]) -> None:
    for number, constant in enumerate(_round_constants()):
        a, b, c, d, e, f_, g, h = (working[(i - number) % 8] for i in range(8))
        f.get(h)
        _push_rotations(f, e, (6, 11, 25))
        f.op("i32.add")
        _push_choice(f, e, f_, g)
        f.op("i32.add")
        f.i32(constant)
        f.op("i32.add")
        _push_word(f, words, number)
        f.op("i32.add")
        f.tee(h)
        f.get(d)
        f.op("i32.add")
        f.set(d)
        f.get(h)
        _push_rotations(f, a, (2, 13, 22))
        f.op("i32.add")
        _push_majority(f, a, b, c)
        f.op("i32.add")
        f.set(h)


def _push_word(f: Function, words: Sequence[int], number: int) -> None:
    """The word of the schedule for a round; it takes the place of the word 16 rounds before."""
    word = words[number % 16]
    f.get(word)
    if number < 16:
        return
    _push_rotations(f, words[(number + 1) % 16], (7, 18), shift=3)
    f.op("i32.add")
    f.get(words[(number + 9) % 16])
    f.op("i32.add")
    _push_rotations(f, words[(number + 14) % 16], (17, 19), shift=10)
    f.op("i32.add")
    f.tee(word)


def _push_rotations(f: Function, local: int, bits: Sequence[int], shift: int | None = None) -> None:
    """The exclusive or of rotations to the right, and of a shift."""
    moves = [("i32.rotr", n) for n in bits] + ([] if shift is None else [("i32.shr_u", shift)])
    for i, (move, count) in enumerate(moves):
        f.get(local)
        f.i32(count)
        f.op(move)
        if i:
            f.op("i32.xor")


def _push_choice(f: Function, x: int, y: int, z: int) -> None:
    """y where a bit of x is 1, else z."""
    f.get(z)
    f.get(x)
    f.get(y)
    f.get(z)
    f.op("i32.xor")
    f.op("i32.and")
    f.op("i32.xor")


def _push_majority(f: Function, x: int, y: int, z: int) -> None:
    f.get(x)
    f.get(y)
    f.op("i32.and")
    f.get(z)
    f.get(x)
    f.get(y)
    f.op("i32.xor")
    f.op("i32.and")
    f.op("i32.xor")


@functools.cache
def _round_constants() -> tuple[int, ...]:
    """The first 32 bits of the fractions of the cube roots of the first 64 primes."""
    return tuple(_cube_root(prime << 96) & 0xFFFFFFFF for prime in _primes(64))


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root(value: int) -> int:
    """The whole part."""
    root = 0
    for bit in reversed(range(value.bit_length() // 3 + 1)):
        if (root | 1 << bit) ** 3 <= value:
            root |= 1 << bit
    return root
