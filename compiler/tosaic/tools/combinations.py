"""Options that make no sense together are refused by one sentence, before any work is done."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tosaic.errors import UsageError

_CUT = ("segments", "artifact")
_EFFECTS = {
    "--float64-as-float32": ("tosa", *_CUT),
    "--limit": _CUT,
    "--access": _CUT,
    "--weights": _CUT,
    "--no-weights-private": ("artifact",),
    "--check": ("artifact",),
    "--report": ("artifact",),
    "--json": ("artifact",),
}
"""Option of `compile` -> the stages whose result depends on it."""

_ONCE_A_NAME = ("--input-shape", "--dim", "--constant", "--input")

_NEEDED = {("run", "--format"): "--output", ("verify", "--constant"): "--model"}
"""Command and option -> another option, without which it has no effect."""

_BESIDE = {
    "compile": ("--report", "output"),
    "run": ("--output", "artifact"),
    "inspect": ("--html", "artifact"),
    "plan": ("--script", "artifact"),
    "store": ("--script", "output"),
}
"""Command -> an option that names what is written besides, and the attribute of the artifact's folder.

An artifact holds nothing but what its manifest lists: with another file in it, it is refused.
"""


def refuse_senseless(options: argparse.Namespace) -> None:
    """Raise UsageError for the first combination of a command's options that makes no sense.

    `options` are those of one command: `command_name` is its name, `default_of` gives the default of an attribute.
    """
    for reason, remedy in _reasons(options):
        raise UsageError(reason, remedy)


def _reasons(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for option in _ONCE_A_NAME:
        yield from _named_twice(option, getattr(options, _attribute(option), []))
    for (command, option), needed in _NEEDED.items():
        if command == options.command_name and _is_given(option, options) and not _is_given(needed, options):
            yield f"{option} has no effect without {needed}", f"give {needed} as well"
    yield from _inside_the_artifact(options)
    if options.command_name == "compile":
        yield from _wrong_stage(options)


def _named_twice(option: str, values: list[tuple[str | None, object]]) -> Iterator[tuple[str, str]]:
    for name, times in Counter(name for name, _ in values).items():
        if times > 1:
            yield f"{option} is given {times} times{f' for {name!r}' if name else ''}", "give it once"


def _inside_the_artifact(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    option, artifact = _BESIDE.get(options.command_name, ("", ""))
    if option and (written := getattr(options, _attribute(option))):
        folder = getattr(options, artifact)
        if Path(written).resolve().is_relative_to(Path(folder).resolve()):
            yield f"{option} {written} is inside of the artifact '{folder}'", "write it to another place"


def _wrong_stage(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for option, stages in _EFFECTS.items():
        if options.emit not in stages and _is_given(option, options):
            yield f"{option} has no effect with --emit={options.emit}", "leave one of them out"
    suffix = Path(options.output).suffix
    if options.emit == "artifact" and suffix in (".mlir", ".mlirbc"):
        yield (
            f"'{options.output}' would be the folder of an artifact",
            f"give --emit=tosa for a {suffix} file, or a folder's name",
        )
    if options.check and Path(options.model).suffix != ".onnx":
        yield "--check compares with an ONNX runtime, which reads no other models", "give the model as .onnx"


def _is_given(option: str, options: argparse.Namespace) -> bool:
    attribute = _attribute(option)
    return getattr(options, attribute) != options.default_of(attribute)


def _attribute(option: str) -> str:
    return option.removeprefix("--").removeprefix("no-").replace("-", "_")
