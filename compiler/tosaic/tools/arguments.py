"""The values of command line arguments: NAME=VALUE pairs, shapes, tensor files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tosaic.errors import TosaicError
from tosaic.options import CompileOptions

if TYPE_CHECKING:
    from tosaic.model import Model


def compile_options(options: argparse.Namespace) -> CompileOptions:
    """The options of `tosaic compile`. Raises TosaicError for a file that cannot be read."""
    return CompileOptions(
        input_shapes=dict(options.input_shape),
        dims=dict(options.dim),
        batch_size=options.batch_size,
        constants={name: read_tensor(file) for name, file in options.constant},
        limit_instructions=options.limit,
        float64_as_float32=options.float64_as_float32,
        access=options.access,
    )


def named_file(text: str) -> tuple[str, Path]:
    """`NAME=FILE`, where the name may hold `=`."""
    name, _, file = text.rpartition("=")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE.npy")
    return name, Path(file)


def named_size(text: str) -> tuple[str, int]:
    """`NAME=SIZE`."""
    name, _, size = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=SIZE")
    return name, _size(size)


def named_shape(text: str) -> tuple[str | None, tuple[int | None, ...]]:
    """`NAME:1,3,224,224`; brackets and `x` between the sizes are taken too, `?` keeps one; the name may be left out."""
    name, colon, shape = text.rpartition(":")
    sizes = [size.strip() for size in re.split(r"[,x]", shape.strip("[]() "))]
    return (name if colon else None), tuple(None if s == "?" else _size(s) for s in sizes if s)


def positive(text: str) -> int:
    """A whole number above 0."""
    number = _size(text)
    if number == 0:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def read_inputs(model: Model, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """The arrays in the files. A dtype that npy cannot hold is read from its bit pattern (bfloat16 as uint16)."""
    from tosaic.tensors.candid import dtype_of

    wanted = {tensor.name: dtype_of(tensor.dtype) for tensor in model.inputs}
    arrays = {name: read_tensor(file) for name, file in files.items()}
    return {name: _of_pattern(array, wanted.get(name, array.dtype)) for name, array in arrays.items()}


def read_tensor(file: Path) -> np.ndarray:
    """The array in a .npy file. Raises TosaicError naming the file."""
    try:
        return np.load(file, allow_pickle=False)
    except OSError as error:
        raise TosaicError(f"cannot read '{file}': {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise TosaicError(f"'{file}' is not a .npy file", "write it with numpy.save") from None


def output_folder(text: str | None) -> Path | None:
    """The folder for outputs, made if it is not there. Raises TosaicError when it cannot be."""
    if text is None:
        return None
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TosaicError(f"cannot write to '{folder}': {error.strerror}") from None
    return folder


def write_outputs(outputs: Mapping[str, np.ndarray], folder: Path | None) -> dict[str, str]:
    """Output name -> file. Nothing is written without a folder."""
    if folder is None:
        return {}
    files: dict[str, str] = {}
    for index, (name, array) in enumerate(outputs.items()):
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "output"
        file = folder / f"{plain}.npy"
        if str(file) in files.values():
            file = folder / f"{plain}_{index}.npy"
        native = array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
        try:
            np.save(file, native)
        except OSError as error:
            raise TosaicError(f"cannot write '{file}': {error.strerror}") from None
        files[name] = str(file)
    return files


def _of_pattern(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    carries = dtype.isbuiltin != 1 and array.dtype == np.dtype(f"u{dtype.itemsize}")
    return array.view(dtype) if carries else array


def _size(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")
    return int(text)
