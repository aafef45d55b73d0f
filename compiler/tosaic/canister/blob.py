"""Blobs whose length is known only when the call comes: read from an argument, announced in a reply.

What is emitted takes the same path for every length, so a message's price is a function of its bytes.
"""

from __future__ import annotations

from tosaic.canister.entry import Entry, Place
from tosaic.canister.sha256 import DIGEST_BYTES
from tosaic.tensors import candid
from tosaic.wasm.function import Function
from tosaic.wasm.opcodes import leb128_unsigned

BLOB_HEADER = candid.MAGIC + bytes([1, candid.VEC, 0x7B, 1, 0])
"""What stands before the length of a message's only value, a blob."""

DIGEST_HEADER = BLOB_HEADER + leb128_unsigned(DIGEST_BYTES)
"""What stands before the digest in a message that holds one."""

NOTHING = candid.MAGIC + bytes([0, 0])
"""The message that holds no values."""

LENGTH_ROOM = 4
SCRATCH_BYTES = 16
_MOST = 1 << 28


def blob_argument(data: bytes | memoryview) -> bytes:
    """The message that holds one blob."""
    return BLOB_HEADER + leb128_unsigned(len(data)) + bytes(data)


def blob_message_bytes(size: int) -> int:
    """Bytes of a message that holds one blob of so many."""
    return len(BLOB_HEADER) + len(leb128_unsigned(size)) + size


def read_fixed_argument(entry: Entry, header: bytes, target: Place, scratch: Place, malformed: Place) -> None:
    """Check that the argument is this header and as many bytes as fit a place, and copy them there."""
    given = Place(scratch.address, len(header))
    entry.system("msg_arg_data_size")
    entry.function.i32(given.size + target.size)
    entry.function.op("i32.ne")
    entry.refuse_if(malformed)
    for place, offset in ((given, 0), (target, given.size)):
        entry.system("msg_arg_data_copy", place.address, offset, place.size, size=place.size, writes=[place])
    entry.differs(given, header)
    entry.refuse_if(malformed)


def read_blob_header(entry: Entry, scratch: Place, most: int, malformed: Place) -> tuple[int, int]:
    """Check that the argument is one blob of 1 to `most` bytes; two locals with where its data starts and its size.

    The length must be written in the shortest way. The bytes of the length are not counted: `blob_message_bytes`
    has them.
    """
    f = entry.function
    start, size, word, width = (f.local("i32") for _ in range(4))
    header = len(BLOB_HEADER)
    entry.system("msg_arg_data_size")
    f.i32(header)
    f.op("i32.sub")
    f.set(size)
    _push_out_of_range(f, size, 2, most + LENGTH_ROOM)
    entry.refuse_if(malformed)
    _set_width(f, size, width)
    f.get(size)
    f.get(width)
    f.op("i32.sub")
    f.set(size)
    f.i32(scratch.address)
    f.v128(bytes(SCRATCH_BYTES))
    f.memory("v128.store")
    f.i32(scratch.address)
    f.i32(0)
    f.i32(header)
    f.get(width)
    f.op("i32.add")
    f.tee(start)
    entry.system("msg_arg_data_copy", size=header, writes=[scratch])
    set_length(f, size, word, width)
    entry.differs(Place(scratch.address, header), BLOB_HEADER)
    f.i32(scratch.address)
    f.memory("i32.load", header)
    f.get(word)
    f.op("i32.ne")
    f.op("i32.or")
    _push_out_of_range(f, size, 1, most)
    f.op("i32.or")
    entry.refuse_if(malformed)
    f.release(word, width)
    return start, size


def set_length(f: Function, size: int, word: int, width: int) -> None:
    """Set two locals to the LEB128 form of a size below 2**28, as a little-endian word, and to its bytes."""
    f.i32(0)
    f.set(word)
    f.i32(1)
    f.set(width)
    for k in range(LENGTH_ROOM):
        f.get(word)
        f.get(size)
        f.i32(k)
        f.op("i32.shl")
        f.i32(0x7F << 8 * k)
        f.op("i32.and")
        f.op("i32.or")
        f.set(word)
    for k in range(1, LENGTH_ROOM):
        f.get(size)
        f.i32(1 << 7 * k)
        f.op("i32.ge_u")
        f.get(width)
        f.op("i32.add")
        f.set(width)
        f.get(size)
        f.i32(1 << 7 * k)
        f.op("i32.ge_u")
        f.i32(8 * k - 1)
        f.op("i32.shl")
        f.get(word)
        f.op("i32.or")
        f.set(word)


def append_blob_header(entry: Entry, size: int, header: Place, scratch: Place) -> None:
    """Append to the reply what stands before the data of its only value, a blob of the size in a local.

    The bytes of the length are not counted: `blob_message_bytes` has them.
    """
    entry.append(header)
    append_length(entry, size, scratch)


def append_length(entry: Entry, count: int, scratch: Place) -> None:
    """Append to the reply how long a vector is, the number in a local; its bytes are not counted."""
    f = entry.function
    word, width = f.local("i32"), f.local("i32")
    set_length(f, count, word, width)
    f.i32(scratch.address)
    f.get(word)
    f.memory("i32.store")
    f.i32(scratch.address)
    f.get(width)
    entry.system("msg_reply_data_append", writes=[scratch])
    f.release(word, width)


def _set_width(f: Function, rest: int, width: int) -> None:
    """Set a local to how many of the bytes after the header are the length, if it is written in the shortest way."""
    f.i32(1)
    f.set(width)
    for k in range(1, LENGTH_ROOM):
        f.get(rest)
        f.i32((1 << 7 * k) + k + 1)
        f.op("i32.ge_u")
        f.get(width)
        f.op("i32.add")
        f.set(width)


def _push_out_of_range(f: Function, local: int, least: int, most: int) -> None:
    """Push whether the unsigned number in a local lies outside of a range."""
    if most >= _MOST:
        raise ValueError(f"a length of {most} bytes takes more than {LENGTH_ROOM} bytes")
    f.get(local)
    f.i32(least)
    f.op("i32.sub")
    f.i32(most - least)
    f.op("i32.gt_u")
