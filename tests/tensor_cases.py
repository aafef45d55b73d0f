"""Tensors of every dtype and shape for the tests of formats: random bits, so that all NaNs are among the floats."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from tosaic.tensors.dtypes import DTYPES, carrier_of, from_bits, to_bits

VALUES = {
    "bool": (0, 1),
    "float4_e2m1fn": (0, 15),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "uint2": (0, 3),
}
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def tensor_of_bits(dtype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    """The tensor whose carrier holds these bytes, brought into the dtype's range."""
    carrier = carrier_of(dtype)
    bits = np.frombuffer(data, carrier)[: prod(shape)].reshape(shape)
    if dtype in VALUES:
        least, largest = VALUES[dtype]
        bits = np.asarray(bits % np.array(largest - least + 1, carrier) + least, carrier)
    return from_bits(bits, dtype)


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[str, ...] = DTYPES) -> np.ndarray:
    dtype = draw(st.sampled_from(dtypes))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    size = prod(shape) * carrier_of(dtype).itemsize
    return tensor_of_bits(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


def assert_same(found: np.ndarray, right: np.ndarray) -> None:
    """Dtype, shape and every bit."""
    assert (found.dtype, found.shape) == (right.dtype, right.shape)
    np.testing.assert_array_equal(to_bits(found), to_bits(right))
