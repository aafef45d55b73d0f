"""Takes the large tensors out of a serialized ONNX model before protobuf would copy them.

Protobuf copies every byte it parses. A weight of a gigabyte is better left where it is, in the mapped file:
its `raw_data` is replaced by an external-data reference to the same buffer (location `#`), and what protobuf
parses is the small rest. Wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

LARGE_BYTES = 4096
"""Fields up to this size are left to protobuf."""

SAME_BUFFER = "#"
"""External-data location of a tensor that stayed behind; onnx.checker skips locations that begin with `#`."""

_LENGTH_DELIMITED = 2
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


class MalformedError(ValueError):
    """The bytes are no protobuf message."""


def detach_large_tensors(buffer: memoryview, message: type[Message] = onnx.ModelProto) -> bytes:
    """The serialized `message` in `buffer`, with references into `buffer` in place of large `raw_data`."""
    pieces = _detach(buffer, 0, len(buffer), message.DESCRIPTOR)
    return b"".join(pieces)


def _detach(buffer: memoryview, start: int, end: int, message: Descriptor) -> list[bytes]:
    pieces: list[bytes] = []
    references: list[bytes] = []
    small_from = start
    for number, field_start, payload, stop in _fields(buffer, start, end):
        if payload is None or stop - payload <= LARGE_BYTES:
            continue
        field = message.fields_by_number.get(number)
        child = field.message_type if field is not None else None
        is_raw_data = message is onnx.TensorProto.DESCRIPTOR and number == _RAW_DATA
        if child is None and not is_raw_data:
            continue
        pieces.append(bytes(buffer[small_from:field_start]))
        if child is not None:
            pieces += _nested(buffer, number, payload, stop, child)
        else:
            references.append(_reference(payload, stop))
        small_from = stop
    pieces.append(bytes(buffer[small_from:end]))
    return pieces + references  # last, for of a repeated scalar field (`data_location`) the last one counts


def _nested(buffer: memoryview, number: int, start: int, end: int, message: Descriptor) -> list[bytes]:
    pieces = _detach(buffer, start, end, message)
    length = sum(len(piece) for piece in pieces)
    return [_varint(number << 3 | _LENGTH_DELIMITED), _varint(length), *pieces]


def _reference(start: int, end: int) -> bytes:
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    entries = {"location": SAME_BUFFER, "offset": str(start), "length": str(end - start)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor.SerializeToString()


def _fields(buffer: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int | None, int]]:
    """(number, start of the field, start of its payload if length-delimited, end of the field)."""
    position = start
    while position < end:
        field_start = position
        key, position = _read_varint(buffer, position, end)
        payload = None
        match key & 7:
            case 0:
                _, position = _read_varint(buffer, position, end)
            case 1:
                position += 8
            case 2:
                length, payload = _read_varint(buffer, position, end)
                position = payload + length
            case 5:
                position += 4
            case kind:
                raise MalformedError(f"wire type {kind} at byte {field_start}")
        if position > end:
            raise MalformedError(f"the field at byte {field_start} ends after the data does")
        yield key >> 3, field_start, payload, position


def _read_varint(buffer: memoryview, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise MalformedError(f"no number at byte {position}")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
