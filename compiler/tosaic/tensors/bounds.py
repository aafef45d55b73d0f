"""Checks of what a file claims, before anything is allocated or viewed by it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tosaic.errors import TosaicError

MOST_DIMENSIONS = 64
"""As many as numpy's arrays have."""


def check_shape(shape: Sequence[object], what: str) -> tuple[int, ...]:
    """The shape, if it is one. Raises TosaicError for negative, endless or non-integer dimensions.

    The product of the dimensions that are not 0 must be an address, as numpy wants it.
    """
    sizes = [size for size in shape if isinstance(size, int) and not isinstance(size, bool) and size >= 0]
    if len(sizes) != len(shape):
        raise TosaicError(f"{what} has a shape that is none: {list(shape)[:MOST_DIMENSIONS]}")
    if len(sizes) > MOST_DIMENSIONS:
        raise TosaicError(f"{what} has {len(sizes)} dimensions; the most are {MOST_DIMENSIONS}")
    if prod(size or 1 for size in sizes) >= 1 << 59:
        raise TosaicError(f"{what} has the shape {sizes}, which is too large for any memory")
    return tuple(sizes)


def check_bytes(found: int, shape: Sequence[int], item_bytes: int, what: str) -> None:
    """Raises TosaicError unless `found` bytes are those of a tensor of this shape."""
    needed = prod(shape) * item_bytes
    if found != needed:
        raise TosaicError(f"{what} has {found} bytes of data, its shape {list(shape)} needs {needed}")
