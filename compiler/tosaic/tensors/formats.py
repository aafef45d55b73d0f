"""The formats of files of tensors, found by the suffix or by how a file begins; reading and writing in any of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tosaic import files
from tosaic.errors import TosaicError
from tosaic.tensors.dtypes import carrier_of, dtype_of, from_bits

Tensors = Mapping[str, np.ndarray]
Pieces = list[bytes | memoryview]
_MOST_NAMES = 12


@dataclass(frozen=True)
class Format:
    """A format: its suffix, the module that reads and writes it, and how its files begin (if always in one way).

    `holds_several` tensors or only one; `is_typed` unless it lacks shapes and some dtypes.
    """

    name: str
    suffix: str
    module: str
    magic: bytes = b""
    holds_several: bool = True
    is_typed: bool = True

    def read(self, buffer: memoryview, folder: Path | None = None) -> dict[str, np.ndarray]:
        """The tensors in a file by name ('' where the format has none), as far as it can be as views of `buffer`.

        Files beside it are read from `folder`. Raises TosaicError for a file that is malformed.
        """
        return self._function("read")(buffer, folder)

    def write(self, tensors: Tensors) -> Pieces:
        """The pieces of a file. Raises TosaicError for what the format cannot hold."""
        if not self.holds_several and len(tensors) != 1:
            several = ", ".join(f.suffix for f in FORMATS if f.holds_several and f.is_typed)
            raise TosaicError(
                f"a {self.suffix} file holds one tensor, these are {len(tensors)}: {some(tensors)}",
                f"choose one with --name, or write {several}",
            )
        return self._function("write")(tensors)

    def _function(self, verb: str) -> Callable[..., Any]:
        return getattr(importlib.import_module(f"tosaic.tensors.{self.module}"), f"{verb}_{self.name}")


FORMATS = (
    Format("npy", ".npy", "npy", b"\x93NUMPY", holds_several=False),
    Format("npz", ".npz", "npy", b"PK\x03\x04"),
    Format("proto", ".pb", "onnx_tensor", holds_several=False),
    Format("cbor", ".cbor", "cbor", b"\xd9\xd9\xf7"),
    Format("safetensors", ".safetensors", "safetensors"),
    Format("candid", ".candid", "candid", b"DIDL", is_typed=False),
)


def some(names: Iterable[str]) -> str:
    """The names, for a message; of many only the first."""
    found = list(names)
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return ", ".join(found[:_MOST_NAMES]) + more or "none"


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name ('' where they have none)."""

    path: Path
    format: Format
    tensors: dict[str, np.ndarray]

    def tensor(self, name: str | None = None) -> np.ndarray:
        """The tensor of this name, or the only one. Raises TosaicError if that names none."""
        if name in self.tensors:
            return self.tensors[name]
        if len(self.tensors) == 1:
            return next(iter(self.tensors.values()))
        raise TosaicError(
            f"'{self.path}' has no tensor '{name}'" if name else f"'{self.path}' does not hold one tensor",
            f"its tensors are: {some(self.tensors)}",
        )


def read_file(path: Path) -> TensorFile:
    """The tensors in a file; nothing of it is read before it is used, where the format allows that.

    Raises:
        TosaicError: the file cannot be read, its format is unknown, or it is malformed.
    """
    buffer = _map(path)
    format = _format_of(path, buffer)
    try:
        return TensorFile(path, format, format.read(buffer, path.parent))
    except TosaicError as error:
        raise TosaicError(f"'{path}' is not a {format.suffix} file that can be read: {error}") from None


def write_file(path: Path, tensors: Tensors, format: Format | None = None) -> None:
    """Write a file whole or not at all, in the format that its suffix names unless one is given.

    Raises:
        TosaicError: the suffix names no format, the format cannot hold the tensors, or the file cannot be written.
    """
    files.write_file(path, (format or format_named(path.suffix)).write(tensors))


def format_named(name: str) -> Format:
    """The format of this name or suffix. Raises TosaicError for another one."""
    for format in FORMATS:
        if name in (format.name, format.suffix, format.suffix[1:]):
            return format
    raise TosaicError(f"'{name}' is no format of tensors", f"use one of {suffixes()}")


def suffixes() -> str:
    """The suffixes of all formats, for messages."""
    return ", ".join(format.suffix for format in FORMATS)


def fitted(array: np.ndarray, dtype: str, shape: tuple[int, ...], format: Format) -> np.ndarray:
    """The array as the tensor that is wanted, where the file's format could not say all of it.

    A dtype that numpy lacks is read from the bits of its carrier; where the format holds neither dtypes nor shapes, so
    is any, and a vector of as many elements gets the shape. Anything else is left as it is.
    """
    is_foreign = dtype_of(dtype).isbuiltin == 2 or not format.is_typed
    if is_foreign and array.dtype.name != dtype and array.dtype == carrier_of(dtype):
        array = from_bits(array, dtype)
    return array.reshape(shape) if not format.is_typed and array.size == prod(shape) else array


def _map(path: Path) -> memoryview:
    try:
        return files.map_file(path)
    except (OSError, ValueError) as error:
        raise TosaicError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}") from None


def _format_of(path: Path, buffer: memoryview) -> Format:
    for format in FORMATS:
        if path.suffix == format.suffix:
            return format
    for format in FORMATS:
        if format.magic and buffer[: len(format.magic)] == format.magic:
            return format
    raise TosaicError(f"the suffix of '{path}' names no format of tensors", f"use one of {suffixes()}")
