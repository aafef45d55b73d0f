"""numpy's files: `.npy` holds one tensor, `.npz` is a zip archive of such files.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. A dtype that numpy itself lacks is a
record with one field, which is named after the dtype and holds its carrier (`[('bfloat16', '<u2')]`): numpy reads it,
and `.view(ml_dtypes.bfloat16)` makes it what it was. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from tosaic.errors import TosaicError
from tosaic.tensors.bounds import check_bytes, check_shape
from tosaic.tensors.dtypes import DTYPES, carrier_of, check_dtype, from_bits, native, to_bits

MOST_UNPACKED_BYTES = 4 << 30
"""Of an archive: the memory of a canister."""

_HEADER_BYTES = 12 + 65536  # more than numpy accepts
_NAME_SIZES, _LOCAL_HEADER_BYTES = 26, 30  # of a member in a zip archive
_SUFFIX = ".npy"
_MALFORMED = (
    ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError, EOFError, tokenize.TokenError,
    struct.error, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise for files that are not well-formed."""


def read_npy(buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The tensor in a .npy file, unnamed: a view of `buffer`.

    Raises:
        TosaicError: the file is malformed, or its dtype is none of ONNX.
    """
    return {"": _array(buffer)}


def write_npy(tensors: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The pieces of a .npy file with the only tensor."""
    (array,) = tensors.values()
    check_dtype(array.dtype.name)
    plain = _plain(array)
    header = io.BytesIO()
    entries = {
        "descr": np.lib.format.dtype_to_descr(plain.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(header, entries)
    return [header.getvalue(), plain.reshape(-1).view(np.uint8).data]


def read_npz(buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The tensors in a .npz file: views of `buffer` where they are not compressed.

    Raises:
        TosaicError: the file is malformed, two members have one name, or it unpacks to more than a canister's memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(buffer)) as archive:
            _check_members(archive.infolist())
            return {
                member.filename.removesuffix(_SUFFIX): _member(archive, member, buffer)
                for member in archive.infolist()
            }
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        OSError,
        *_MALFORMED,
    ) as error:
        if isinstance(error, TosaicError):
            raise
        raise TosaicError(f"the archive is malformed: {error}") from None


def write_npz(tensors: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The pieces of a .npz file, uncompressed; the same tensors give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in tensors.items():
            if "\0" in name:
                raise TosaicError(f"an archive cannot hold the name {name!r}", "write .cbor or .safetensors")
            member = zipfile.ZipInfo(name + _SUFFIX)
            member.filename = name + _SUFFIX  # as it is, whatever the system's separator
            with archive.open(member, "w", force_zip64=True) as file:
                for piece in write_npy({"": array}):
                    file.write(piece)
    return [stream.getbuffer()]


@dataclass(frozen=True)
class _Header:
    """What stands before the data: the dtype in the file, the shape, the order, and where the data begins."""

    stored: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int


def _header(head: memoryview | bytes, file_bytes: int) -> _Header:
    """The header of a file of this size, of which `head` is the beginning."""
    stream = io.BytesIO(head[:_HEADER_BYTES])
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        claimed, is_fortran, stored = read(stream)
    except _MALFORMED:
        raise TosaicError("it does not begin with a header of numpy", "write it with numpy.save") from None
    shape = check_shape(claimed, "the array")
    check_bytes(file_bytes - stream.tell(), shape, stored.itemsize, "the array")
    return _Header(stored, shape, "F" if is_fortran else "C", stream.tell())


def _array(buffer: memoryview | bytes) -> np.ndarray:
    header = _header(buffer, len(buffer))
    name = _dtype_name(header.stored)
    plain = header.stored if header.stored.names is None else header.stored[0]
    plain = np.dtype(name) if plain.kind == "V" else plain
    flat = np.frombuffer(buffer, plain, offset=header.start) if prod(header.shape) else np.empty(0, plain)
    values = native(flat.reshape(header.shape, order=header.order))
    is_checked = header.stored.names is None and name != "bool"
    return values if is_checked else from_bits(values.view(carrier_of(name)), name)


def _dtype_name(stored: np.dtype) -> str:
    """The ONNX dtype of a dtype in a file: one of numpy, or a record of one field that is named after it.

    What numpy.save makes of an ml_dtypes array (void, of 1 or 2 bytes) is read as its bits.
    """
    if stored.names is None and stored.kind == "V" and stored.itemsize in (1, 2):
        return f"uint{8 * stored.itemsize}"
    if stored.names is None and stored.name in DTYPES:
        return stored.name
    if stored.names is not None and len(stored.names) == 1:
        (name,) = stored.names
        if (
            name in DTYPES
            and stored[0].newbyteorder("=") == carrier_of(name)
            and stored.itemsize == stored[0].itemsize
        ):
            return name
    raise TosaicError(f"tensors of {stored} are not supported", f"use one of {', '.join(DTYPES)}")


def _plain(array: np.ndarray) -> np.ndarray:
    """The array as numpy alone can say it: contiguous, little-endian, a record if its dtype is not numpy's."""
    if array.dtype.isbuiltin == 2:
        bits = to_bits(array)
        return bits.astype(bits.dtype.newbyteorder("<"), copy=False).view(
            [(array.dtype.name, bits.dtype.str)]
        )
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise TosaicError("two members of the archive have the same name")
    other = next((name for name in names if not name.endswith(_SUFFIX)), None)
    if other is not None:
        raise TosaicError(f"the member '{other}' of the archive is no {_SUFFIX} file")
    unpacked = sum(member.file_size for member in members)
    if unpacked > MOST_UNPACKED_BYTES:
        raise TosaicError(f"the archive unpacks to {unpacked:,} bytes; the most are {MOST_UNPACKED_BYTES:,}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, buffer: memoryview) -> np.ndarray:
    """The tensor of a member, which is unpacked only if its header agrees with its size."""
    with archive.open(member) as file:  # checks the member's own header
        if member.compress_type == zipfile.ZIP_STORED:
            return _array(_stored(member, buffer))
        head = file.read(_HEADER_BYTES)
        _header(head, member.file_size)
        return _array(head + file.read())


def _stored(member: zipfile.ZipInfo, buffer: memoryview) -> memoryview:
    """The bytes of a member that is not compressed."""
    names = buffer[member.header_offset + _NAME_SIZES : member.header_offset + _LOCAL_HEADER_BYTES]
    start = member.header_offset + _LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", names))
    content = buffer[start : start + member.file_size]
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise TosaicError(f"the member '{member.filename}' of the archive is truncated or was changed")
    return content
