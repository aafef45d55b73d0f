"""The files of safetensors: a header in JSON, then the data of all tensors without gaps.

Format: https://github.com/huggingface/safetensors#format. Written are the bytes that the library writes (tensors by
dtype, then by name; the header filled up to 8 bytes). A dtype that the format lacks is its carrier, and the entry
`dtype:NAME` of the metadata says which dtype it is.

Own code, since the library copies what it reads, and in numpy reads no bfloat16 or smaller floats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tosaic.errors import TosaicError
from tosaic.tensors.bounds import check_bytes, check_shape
from tosaic.tensors.dtypes import DTYPES, carrier_of, check_dtype, data_of, dtype_of, from_bits

MOST_HEADER_BYTES = 16 << 20
"""Of the JSON: some 100,000 tensors."""

_DTYPES = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32", "I32": "int32",
    "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Name in the header -> dtype, in the order in which the library writes tensors."""

_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_METADATA, _DTYPE_KEY = "__metadata__", "dtype:"


def read_safetensors(buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The tensors by name, each a view of `buffer`.

    Raises:
        TosaicError: the file is malformed, or a dtype is none of ONNX.
    """
    header, data = _split(buffer)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict):
        raise TosaicError("the metadata of the header is no JSON object")
    found, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: _span(*item)):
        what = f"the tensor '{name}'"
        start, stop = _span(name, entry)
        if start != end or stop < start or stop > len(data):
            raise TosaicError(
                f"{what} lies at {start} to {stop}, where {end} to at most {len(data)} is expected"
            )
        found[name] = _tensor(data[start:stop], entry, metadata.get(_DTYPE_KEY + name), what)
        end = stop
    if end != len(data):
        raise TosaicError(f"{len(data) - end} bytes follow the last tensor")
    return found


def write_safetensors(tensors: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The pieces of a file."""
    if _METADATA in tensors:
        raise TosaicError(f"safetensors cannot hold the name '{_METADATA}'", "write .npz or .cbor")
    codes = {name: _code(array.dtype) for name, array in tensors.items()}
    names = sorted(tensors, key=lambda name: (list(_DTYPES).index(codes[name]), name.encode()))
    pieces = [data_of(tensors[name]) for name in names]
    foreign = {_DTYPE_KEY + n: tensors[n].dtype.name for n in names if tensors[n].dtype.name not in _CODES}
    header: dict[str, Any] = {_METADATA: foreign} if foreign else {}
    end = 0
    for name, piece in zip(names, pieces):
        start, end = end, end + len(piece)
        header[name] = {"dtype": codes[name], "shape": tensors[name].shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return [len(text).to_bytes(8, "little"), text, *pieces]


def _code(dtype: np.dtype) -> str:
    check_dtype(dtype.name)
    return _CODES.get(dtype.name) or _CODES[carrier_of(dtype.name).name]


def _split(buffer: memoryview) -> tuple[dict[str, Any], memoryview]:
    """The header and the data."""
    size = int.from_bytes(buffer[:8], "little")
    if len(buffer) < 8 or size > len(buffer) - 8:
        raise TosaicError("it is no safetensors file, or is truncated: its header is longer than the file")
    if size > MOST_HEADER_BYTES:
        raise TosaicError(f"the header has {size:,} bytes; the most are {MOST_HEADER_BYTES:,}")
    try:
        header = json.loads(str(buffer[8 : 8 + size], "utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise TosaicError(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise TosaicError("the header is no JSON object")
    return header, buffer[8 + size :]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TosaicError("two entries of the header have the same name")
    return found


def _span(name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or any(type(offset) is not int for offset in offsets)
    ):
        raise TosaicError(f"the tensor '{name}' has no data_offsets")
    return offsets[0], offsets[1]


def _tensor(data: memoryview, entry: Mapping[str, Any], foreign: object, what: str) -> np.ndarray:
    code, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(code, str) or code not in _DTYPES:
        raise TosaicError(
            f"{what} has the dtype {code}, which is not supported", f"use one of {', '.join(_DTYPES)}"
        )
    if not isinstance(shape, list):
        raise TosaicError(f"{what} has no shape")
    stored = _DTYPES[code]
    name = _foreign_dtype(foreign, stored, what)
    sizes = check_shape(shape, what)
    check_bytes(len(data), sizes, dtype_of(stored).itemsize, what)
    carrier = carrier_of(name)
    bits = np.frombuffer(data, carrier.newbyteorder("<")) if len(data) else np.empty(0, carrier)
    return from_bits(bits.astype(carrier, copy=False).reshape(sizes), name)


def _foreign_dtype(foreign: object, stored: str, what: str) -> str:
    if foreign is None:
        return stored
    if foreign not in DTYPES or foreign in _CODES or carrier_of(str(foreign)).name != stored:
        raise TosaicError(f"{what} is {stored} and cannot stand for {foreign}")
    return str(foreign)
