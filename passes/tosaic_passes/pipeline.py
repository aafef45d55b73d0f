"""Pipelines that mix native MLIR passes with ours, run by one real `PassManager`.

MLIR's own pipeline parser does not know passes written in Python, so the text is split here: what names one
of our passes (or presets) becomes a pass object, every other element is handed to MLIR as it stands.

    builtin.module(convert-onnx-to-tosa,func.func(canonicalize),split-execution{limit-instructions=1000})
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from tosaic_passes import PASSES, PRESETS, pass_class
from tosaic_passes.diagnostics import Diagnostic, from_error, place_of
from tosaic_passes.errors import TosaicError, UsageError
from tosaic_passes.program import Program

if TYPE_CHECKING:
    from tosaic_passes.cost_model import CostModel

ANCHOR = "builtin.module"
INJECTED = {"injected": True}
"""Metadata of a pass's field that is no option: the caller provides it (`cost_model`)."""


class Pass(Protocol):
    """A frozen dataclass: its fields are its options (see INJECTED), `run` changes the program in place."""

    name: ClassVar[str]

    def run(self, program: Program) -> None: ...


@dataclass(frozen=True)
class NativePass:
    """One top-level element that MLIR runs: `cse`, `canonicalize{max-iterations=2}`, `func.func(cse)`."""

    text: str

    @property
    def name(self) -> str:
        return self.text.partition("{")[0]


Element = Pass | NativePass


class PipelineError(UsageError):
    """The text of a pipeline is wrong: brackets, an unknown pass, an option."""


class NativePassError(TosaicError):
    """A native pass, or the verifier after any pass, rejected the module. Keeps MLIR's diagnostics."""

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(message)
        self.diagnostics = list(diagnostics)
        self.args = (message, self.diagnostics)

    @classmethod
    def of(cls, error: ir.MLIRError) -> NativePassError:
        """What MLIR raised, with the place of each diagnostic in the text."""
        messages = [f"{place_of(d.location)}: {d.message}" for d in error.error_diagnostics]
        return cls("\n".join(messages) or str(error.message), from_error(error))


def parse_pipeline(text: str, cost_model: Callable[[], CostModel] | None = None) -> list[Element]:
    """The elements that a pipeline text names, with or without `builtin.module(...)` around it.

    `cost_model` makes the model for the passes that count; it is called only when one of them is named.
    Raises PipelineError for text that cannot be read, unknown passes and unknown or mistyped options.
    """
    return [element for part in split_pipeline(_without_anchor(text)) for element in _parse(part, cost_model)]


def split_pipeline(text: str) -> list[str]:
    """The elements between the commas of the outermost level."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "({") - (character in ")}")
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth != 0:
        raise PipelineError(f"the pass pipeline '{text}' has an unbalanced bracket")
    parts = [part.strip() for part in [*parts, text[start:]]]
    if parts == [""]:
        return []
    if "" in parts:
        raise PipelineError(f"the pass pipeline '{text}' has an empty element")
    return parts


def create_pass(
    name: str, options: dict[str, str], cost_model: Callable[[], CostModel] | None = None
) -> Pass:
    """One of our passes, its options given as text. Raises PipelineError naming the valid options."""
    kind = pass_class(name)
    types_of = option_types(kind)
    values: dict[str, Any] = {}
    for option, word in options.items():
        field = option.replace("-", "_")
        if field not in types_of:
            valid = ", ".join(f.replace("_", "-") for f in types_of) or "none"
            raise PipelineError(f"pass '{name}' has no option '{option}'", f"its options are: {valid}")
        values[field] = _parse_value(word, types_of[field], f"option '{option}' of pass '{name}'")
    if "cost_model" in {f.name for f in dataclasses.fields(kind)}:  # type: ignore[arg-type]
        if cost_model is None:
            raise PipelineError(f"pass '{name}' needs a cost model", "run it from tosaic-opt or give one")
        values["cost_model"] = cost_model()
    missing = [f.name.replace("_", "-") for f in _required(kind) if f.name not in values]
    if missing:
        raise PipelineError(
            f"pass '{name}' needs the option {missing[0]}", f"write {name}{{{missing[0]}=...}}"
        )
    return kind(**values)


def option_types(kind: type[Pass]) -> dict[str, Any]:
    """Field name -> type of the options that a pass can be given as text."""
    hints = typing.get_type_hints(kind, localns={"CostModel": object})
    return {f.name: hints[f.name] for f in _option_fields(kind)}


def spec(element: Element) -> str:
    """The text that parses to this element again."""
    if isinstance(element, NativePass):
        return element.text
    options = [
        f"{field.name.replace('_', '-')}={_print_value(value)}"
        for field in _option_fields(type(element))
        if (value := getattr(element, field.name)) != field.default
    ]
    return element.name + (f"{{{' '.join(options)}}}" if options else "")


def run_pipeline(
    program: Program,
    elements: Sequence[Element],
    *,
    configure: Callable[[PassManager], None] | None = None,
) -> None:
    """Run the elements in order over the program, in place. `configure` sets up printing and timing.

    Raises what one of our passes raises, unchanged, and NativePassError for everything that MLIR rejects.
    """
    with program.context, ir.Location.unknown():
        failures: list[Exception] = []
        manager = PassManager(ANCHOR)
        for element in elements:
            _add(manager, element, program, failures)
        if configure is not None:
            configure(manager)
        try:
            manager.run(program.module.operation)
        except ir.MLIRError as error:
            raise (failures[0] if failures else NativePassError.of(error)) from None


def pipeline_text(elements: Sequence[Element]) -> str:
    """The whole pipeline as one text, `builtin.module(...)` around it."""
    return f"{ANCHOR}({','.join(spec(element) for element in elements)})"


def _add(manager: PassManager, element: Element, program: Program, failures: list[Exception]) -> None:
    if isinstance(element, NativePass):
        try:
            manager.add(element.text)
        except ValueError as error:
            raise PipelineError(_native_reason(element, str(error)), "see tosaic-opt --list-passes") from None
        return

    def run(_operation: ir.Operation, handle: Any) -> None:
        try:
            element.run(program)
        except Exception as error:
            failures.append(error)  # MLIR must not unwind a Python exception; it is raised after the run
            handle.signal_pass_failure()

    # Without `op_name`: with one, the pass does not schedule on a module, or aborts the process.
    manager.add(run, name=type(element).__name__, argument=spec(element))


def _native_reason(element: NativePass, message: str) -> str:
    ours = [name for name in (*PASSES, *PRESETS) if name in element.text]
    if ours and "(" in element.text:
        return f"pass '{ours[0]}' works on the whole module and cannot stand inside '{element.text}'"
    lines = message.strip().splitlines()
    return lines[0].rpartition("error: ")[2] if lines else f"'{element.text}' is not a pass pipeline"


def _parse(part: str, cost_model: Callable[[], CostModel] | None) -> Iterator[Element]:
    name, brace, options = part.partition("{")
    if name in PRESETS and not brace:
        for element in PRESETS[name]:
            yield from _parse(element, cost_model)
    elif name in PASSES:
        yield create_pass(name, _parse_options(part, options.removesuffix("}")), cost_model)
    else:
        yield NativePass(part)


def _parse_options(part: str, text: str) -> dict[str, str]:
    options = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise PipelineError(
                f"'{word}' in '{part}' is not an option", "write NAME=VALUE, spaces between them"
            )
        options[key] = value
    return options


def _without_anchor(text: str) -> str:
    text = text.strip()
    if not text.startswith(f"{ANCHOR}("):
        return text
    if not text.endswith(")"):
        raise PipelineError(f"the pass pipeline '{text}' has an unbalanced bracket")
    return text[len(ANCHOR) + 1 : -1]


def _option_fields(kind: type[Pass]) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(kind) if "injected" not in f.metadata]  # type: ignore[arg-type]


def _required(kind: type[Pass]) -> list[dataclasses.Field]:
    absent = dataclasses.MISSING
    return [f for f in _option_fields(kind) if f.default is absent and f.default_factory is absent]


_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def _parse_value(word: str, kind: Any, what: str) -> Any:
    """Text as int, float, bool, str, a tuple of them (commas between), or one of them | None."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _parse_value(word, next(a for a in arguments if a is not type(None)), what)
    if origin is tuple:
        return tuple(_parse_value(item, arguments[0], what) for item in word.strip("{}").split(",") if item)
    try:
        return _BOOLS[word] if kind is bool else kind(word)
    except (ValueError, KeyError):
        raise PipelineError(f"{what} is '{word}', which is not of type {kind.__name__}") from None


def _print_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
