"""Candid messages: bytes written out by hand from the Candid specification, and round trips."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tosaic.errors import TosaicError
from tosaic.tensors.candid import (
    PRIMITIVES,
    TensorType,
    decode,
    decode_values,
    encode,
    encode_text,
    header,
)
from tosaic.tensors.dtypes import dtype_of


def test_bytes_of_one_vector() -> None:
    message = encode([np.array([1.0, -2.0], np.float32)])
    assert message.hex() == "4449444c016d730100020000803f000000c0"


def test_types_stand_once_in_the_order_of_first_use() -> None:
    assert header(["int64", "float32", "int64"]).hex() == "4449444c026d746d7303000100"


def test_no_arguments() -> None:
    assert encode([]).hex() == "4449444c0000"


def test_text() -> None:
    assert encode_text("hé").hex() == "4449444c0001710368c3a9"
    assert decode_values(encode_text("hé")) == ["hé"]


def test_scalars() -> None:
    assert decode_values(bytes.fromhex("4449444c0002797e0200000001")) == [2, True]


@pytest.mark.parametrize("dtype", PRIMITIVES)
def test_round_trip(dtype: str) -> None:
    bits = np.arange(200 * 8, dtype=np.uint8)
    array = (
        (bits[:12] % 2).astype(bool)
        if dtype == "bool"
        else bits.view(dtype_of(dtype))[:12]
    ).reshape(3, 4)  # fmt: skip
    (found,) = decode(encode([array]), [TensorType(dtype, (3, 4))])
    assert found.dtype == dtype_of(dtype)
    np.testing.assert_array_equal(found, array)


def test_float16_travels_as_its_bits() -> None:
    array = np.array([1.5], ml_dtypes.bfloat16)
    (bits,) = decode_values(encode([array]))
    assert isinstance(bits, np.ndarray)
    assert bits.dtype == np.uint16
    assert bits[0] == 0x3FC0


FLOATS = [TensorType("float32", (2,), "x")]
GOOD = encode([np.zeros(2, np.float32)])


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"DIDX", "not Candid"),
        (b"", "ends after 0 bytes"),
        (GOOD[:-1], "middle of a value"),
        (GOOD + b"\0", "1 bytes too many"),
        (encode([np.zeros(3, np.float32)]), r"value 0 \('x'\) has 3 elements where 2"),
        (encode([np.zeros(2, np.int32)]), "int32 where vec float32"),
        (encode([]), "0 values where 1"),
        (encode_text("a"), "text where vec float32"),
        (b"DIDL\x01\x6e\x73\x01\x00\x00", "other than"),
        (b"DIDL\x00\x01\x7d\x01", "other than"),
        (b"DIDL\x00\x01\x71\x01\xff", "not UTF-8"),
        (b"DIDL" + b"\xff" * 11, "too long"),
        (b"DIDL\x01\x6d\x7e\x01\x00\x01\x02", "neither 0 nor 1"),
    ],
)
def test_refuses_malformed_messages(message: bytes, text: str) -> None:
    with pytest.raises(TosaicError, match=text):
        decode(message, FLOATS)


def test_refuses_dtypes_that_candid_lacks() -> None:
    with pytest.raises(TosaicError, match="complex64"):
        encode([np.zeros(1, np.complex64)])
