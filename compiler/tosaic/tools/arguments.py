"""The values of command line arguments: NAME=VALUE pairs, shapes, tensor files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tosaic.errors import TosaicError
from tosaic.options import CompileOptions
from tosaic.tensors.formats import Format, fitted, format_named, read_file, write_file

if TYPE_CHECKING:
    from tosaic.model import Model


def compile_options(options: argparse.Namespace) -> CompileOptions:
    """The options of `tosaic compile`. Raises TosaicError for a file that cannot be read."""
    return CompileOptions(
        input_shapes=dict(options.input_shape),
        dims=dict(options.dim),
        batch_size=options.batch_size,
        constants=read_constants(options.constant),
        limit_instructions=options.limit,
        float64_as_float32=options.float64_as_float32,
        access=options.access,
        weights=options.weights,
        weights_private=options.weights_private,
    )


def named_file(text: str) -> tuple[str, Path]:
    """`NAME=FILE`, where the name may hold `=`."""
    name, _, file = text.rpartition("=")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE")
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


def shape(text: str) -> tuple[int, ...]:
    """`1,3,224,224`; nothing is the shape of a scalar."""
    return tuple(_size(size) for size in re.split(r"[,x]", text.strip("[]() ")) if size)


def format_name(text: str) -> Format:
    """The name or the suffix of a format of tensors."""
    try:
        return format_named(text)
    except TosaicError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole(text: str) -> int:
    """A whole number from 0 on."""
    return _size(text)


def positive(text: str) -> int:
    """A whole number above 0."""
    number = _size(text)
    if number == 0:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def read_constants(files: Sequence[tuple[str, Path]]) -> dict[str, np.ndarray]:
    """The values of `--constant`, each in the file that it names."""
    return {name: read_file(file).tensor(name) for name, file in files}


def read_inputs(model: Model, files: Mapping[str, Path], together: Path | None) -> dict[str, np.ndarray]:
    """The arrays in files of an input each and in one of several inputs, by their names.

    Raises TosaicError naming a file.
    """
    read = {name: read_file(path) for name, path in files.items()}
    found = [(name, file.tensor(name), file.format) for name, file in read.items()]
    if together is not None:
        several = read_file(together)
        if "" in several.tensors:
            raise TosaicError(f"'{together}' does not name its tensors", f"give --input NAME={together}")
        found = [(name, array, several.format) for name, array in several.tensors.items()] + found
    wanted = {tensor.name: tensor for tensor in model.inputs}
    return {
        name: fitted(array, wanted[name].dtype, wanted[name].shape, format) if name in wanted else array
        for name, array, format in found
    }


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


def write_outputs(outputs: Mapping[str, np.ndarray], folder: Path | None, format: Format) -> dict[str, str]:
    """Output name -> file: `outputs` holds all where the format can. Nothing is written without a folder."""
    if folder is None:
        return {}
    if format.holds_several and format.is_typed:
        file = folder / f"outputs{format.suffix}"
        write_file(file, outputs, format)
        return {name: str(file) for name in outputs}
    files: dict[str, str] = {}
    for index, (name, array) in enumerate(outputs.items()):
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "output"
        file = folder / f"{plain}{format.suffix}"
        if str(file) in files.values():
            file = folder / f"{plain}_{index}{format.suffix}"
        write_file(file, {name: array}, format)
        files[name] = str(file)
    return files


def _size(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")
    return int(text)
