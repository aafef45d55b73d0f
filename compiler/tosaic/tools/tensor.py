"""`tosaic tensor`: what is in a file of tensors, and the same tensors in another format."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tosaic.errors import TosaicError
from tosaic.tensors.dtypes import check_dtype
from tosaic.tensors.formats import TensorFile, fitted, read_file, some, suffixes, write_file
from tosaic.tools import arguments


def add_commands(commands: Any) -> None:
    """Add `show` and `convert`."""
    show = _command(commands, "show", _show, "name the tensors of a file with their dtypes, shapes and bytes")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    convert = _command(commands, "convert", _convert, "write tensors in the format that a suffix names")
    add = convert.add_argument
    add("target", type=Path, metavar="OUT", help=f"the file to write: {suffixes()}")
    add("--name", metavar="NAME", help="convert only this tensor; the name of one that has none")
    add("--dtype", metavar="DTYPE", help="the tensor's dtype, where the file holds only its bits")
    add(
        "--shape",
        type=arguments.shape,
        metavar="1,3,224,224",
        help="the tensor's shape, where the file lacks it",
    )


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], None], help: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(command=function, command_name=name, default_of=parser.get_default, verbose=False)
    parser.add_argument("source", type=Path, metavar="IN", help=f"a file of tensors: {suffixes()}")
    return parser


def _show(options: argparse.Namespace) -> None:
    file = read_file(options.source)
    tensors = [
        {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "bytes": array.nbytes}
        for name, array in file.tensors.items()
    ]
    size = file.path.stat().st_size
    if options.json:
        print(json.dumps({"format": file.format.name, "file_bytes": size, "tensors": tensors}, indent=2))
        return
    from tosaic.report.tables import named_tensors_table

    print(f"{file.path}: {file.format.name}, {size:,} bytes", named_tensors_table(tensors), sep="\n\n")


def _convert(options: argparse.Namespace) -> None:
    file = read_file(options.source)
    is_told = options.dtype is not None or options.shape is not None
    tensors = file.tensors if options.name is None else {options.name: _chosen(file, options.name)}
    if is_told:
        tensors = {name: _told(file, array, options) for name, array in tensors.items()}
    write_file(options.target, tensors)
    print(f"{options.target}: {options.target.stat().st_size:,} bytes")


def _chosen(file: TensorFile, name: str) -> np.ndarray:
    """The tensor of this name; one without a name gets it."""
    if list(file.tensors) == [""]:
        return file.tensors[""]
    if name not in file.tensors:
        raise TosaicError(f"'{file.path}' has no tensor '{name}'", f"its tensors are: {some(file.tensors)}")
    return file.tensors[name]


def _told(file: TensorFile, array: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """The tensor with the dtype and the shape that the command line tells."""
    dtype = options.dtype or array.dtype.name
    check_dtype(dtype)
    shape = array.shape if options.shape is None else options.shape
    found = fitted(array, dtype, shape, file.format)
    if (found.dtype.name, found.shape) != (dtype, shape):
        raise TosaicError(
            f"the tensor in '{file.path}' is {array.dtype.name}{list(array.shape)} and cannot be {dtype}{list(shape)}",
            "only what the file's format cannot say can be told",
        )
    return found
