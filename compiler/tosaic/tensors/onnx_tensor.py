"""ONNX's own files of a tensor: a serialized `TensorProto`, as the data of ONNX's tests are (`input_0.pb`).

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Read are raw data, the typed fields, and data in a file
beside the .pb (never one outside of its folder). Written is raw data, where integers and floats of less than a byte
are packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from tosaic.errors import TosaicError
from tosaic.frontend.model_file import TensorStore
from tosaic.frontend.wire import MalformedError, detach_large_tensors
from tosaic.tensors.bounds import check_bytes, check_shape
from tosaic.tensors.dtypes import check_dtype, data_of, dtype_of, from_bits
from tosaic.wasm.opcodes import leb128_unsigned

_ELEMENTS_A_BYTE = {"float4_e2m1fn": 2, "int4": 2, "uint4": 2, "int2": 4, "uint2": 4}

_RAW_DATA = bytes([onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number << 3 | 2])
"""The key of the field, which is of a wire type with a length (whose varint is LEB128)."""

_TYPED_FIELDS = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data", "uint64": "uint64_data",
    "uint32": "uint64_data",
}  # fmt: skip
"""Where elements stand that are not raw; those of all other dtypes are in `int32_data`."""

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def read_proto(buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The tensor by its name; raw data of more than 4 KiB is a view of `buffer`.

    Raises:
        TosaicError: the file is malformed, or its dtype is none of ONNX's numbers.
    """
    proto = _parse(buffer)
    shape = check_shape(list(proto.dims), "the tensor")
    name = _dtype_name(proto)
    if proto.HasField("segment"):
        raise TosaicError("the tensor is a segment of another one", "save it whole")
    if uses_external_data(proto):
        array = _external(proto, TensorStore(buffer, folder))
    elif proto.HasField("raw_data"):
        check_bytes(len(proto.raw_data), *_packed(shape, name), "the tensor")
        array = onnx.numpy_helper.to_array(proto)
    else:
        array = _typed(proto, name, shape)
    return {proto.name: from_bits(array.view(np.uint8), name) if name == "bool" else array}


def write_proto(tensors: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The pieces of a file with the only tensor: the raw data end it, as protobuf itself would write it."""
    ((name, array),) = tensors.items()
    check_dtype(array.dtype.name)
    if array.dtype.name in _ELEMENTS_A_BYTE:
        return [onnx.numpy_helper.from_array(array, name or None).SerializeToString()]
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    small = onnx.TensorProto(dims=array.shape, data_type=kind, name=name or None)
    data = data_of(array)
    return [small.SerializeToString(), _RAW_DATA + leb128_unsigned(len(data)), data]


def _parse(buffer: memoryview) -> onnx.TensorProto:
    try:
        return onnx.TensorProto.FromString(detach_large_tensors(buffer, onnx.TensorProto))
    except (MalformedError, DecodeError):
        raise TosaicError("it is no TensorProto", "write it with onnx.save_tensor") from None


def _dtype_name(proto: onnx.TensorProto) -> str:
    try:
        name = onnx.helper.tensor_dtype_to_np_dtype(proto.data_type).name
    except (KeyError, ValueError, TypeError):
        raise TosaicError(f"it is no TensorProto: there is no data type {proto.data_type}") from None
    check_dtype("strings" if name == "object" else name)
    return name


def _packed(shape: tuple[int, ...], name: str) -> tuple[tuple[int, ...], int]:
    """The shape and the bytes of an element of what raw data holds."""
    if name not in _ELEMENTS_A_BYTE:
        return shape, dtype_of(name).itemsize
    return (-(-prod(shape) // _ELEMENTS_A_BYTE[name]),), 1


def _external(proto: onnx.TensorProto, store: TensorStore) -> np.ndarray:
    entries = {entry.key: entry.value for entry in proto.external_data}
    if not all(entries[key].isdecimal() for key in ("offset", "length") if key in entries):
        raise TosaicError("the tensor names a place in another file that is none")
    store.adopt(proto)
    try:
        return store.array(proto)
    except ValueError as error:
        raise TosaicError(f"the tensor's data in another file does not have its shape: {error}") from None


def _typed(proto: onnx.TensorProto, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor whose elements stand in a field of their kind; sub-byte ones are packed there, too."""
    field = _TYPED_FIELDS.get(name, "int32_data")
    others = [other for other in _FIELDS if other != field and len(getattr(proto, other))]
    if others:
        raise TosaicError(f"the tensor is {name} and has its data in {others[0]} instead of {field}")
    count = len(getattr(proto, field))
    wanted = prod(_packed(shape, name)[0])
    if count != wanted:
        raise TosaicError(
            f"the tensor has {count} elements in {field}, its shape {list(shape)} needs {wanted}"
        )
    _check_range(getattr(proto, field), name)
    return onnx.numpy_helper.to_array(proto)


def _check_range(values: list[int], name: str) -> None:
    """An element of `int32_data` and `uint64_data` must be one of the narrower dtype (floats: its bit pattern)."""
    dtype = dtype_of(name)
    if name in ("float32", "float64", "int64", "uint64", "int32") or not values:
        return
    signed = name in ("int8", "int16")
    bits = 1 if name == "bool" else 8 * dtype.itemsize
    least, largest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not (least <= min(values) and max(values) <= largest):
        raise TosaicError(f"the tensor has a value that is none of {name}")
