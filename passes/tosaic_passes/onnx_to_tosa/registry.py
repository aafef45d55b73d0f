"""The table of lowerings: ONNX op -> one function per meaning that the op has had."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOPICS = (
    "activation",
    "attention",
    "cast",
    "comparison",
    "constants",
    "control_flow",
    "convolution",
    "einsum",
    "elementwise",
    "feature_encoders",
    "fusion",
    "grouped_attention",
    "indexing",
    "integer_products",
    "linear",
    "linear_models",
    "movement",
    "normalization",
    "pooling",
    "quantization",
    "quantized_functions",
    "recurrent",
    "reduction",
    "resize",
    "roi",
    "sampling",
    "scatter",
    "selection",
    "shape",
    "softmax",
    "sorting",
    "spectral",
    "suppression",
    "text",
    "tree_ensembles",
    "trigonometry",
    "unfolding",
)
"""Modules of this package that hold lowerings, one a topic."""

LoweringFunction = Callable[..., Any]


@dataclass(frozen=True)
class Lowering:
    """How one op is lowered from opset `since` on, until a later entry takes over."""

    op: str
    domain: str
    since: int
    topic: str
    function: LoweringFunction
    attributes: frozenset[str]
    required_attributes: frozenset[str]
    operands: tuple[int, int | None]
    """Least and greatest number of operands; None: any number."""


_TABLE: dict[tuple[str, str], list[Lowering]] = {}


def lowering(op: str, *, since: int = 1, domain: str = "") -> Callable[[LoweringFunction], LoweringFunction]:
    """Registers `function(ctx, *operands, **attributes)` for an op, from opset `since` of its domain on.

    Operands come in schema order as `Tensor` (None for an absent one), attributes keyword-only with
    their ONNX defaults. The function returns the result, or a tuple of results. The first sentences
    of its docstring say what is emitted and what is not supported; docs/operators.md shows them.
    """

    def register(function: LoweringFunction) -> LoweringFunction:
        entries = _TABLE.setdefault((domain, op), [])
        entries.append(_describe(function, op, domain, since))
        entries.sort(key=lambda entry: entry.since)
        return function

    return register


def find(op: str, domain: str, opset: int) -> Lowering | None:
    """The entry with the largest `since` that is not newer than the model's opset."""
    load_topics()
    known = [entry for entry in _TABLE.get((domain, op), ()) if entry.since <= opset]
    return known[-1] if known else None


def is_lowered(op: str, domain: str, opset: int) -> bool:
    """Whether an op of a model's opset has a lowering."""
    return find(op, "" if domain == "ai.onnx" else domain, opset) is not None


def first_opset(op: str, domain: str) -> int | None:
    """The oldest opset in which an op can be lowered, None for an unknown op."""
    load_topics()
    entries = _TABLE.get((domain, op))
    return entries[0].since if entries else None


def all_lowerings() -> list[Lowering]:
    """Every entry, sorted by domain, op and version."""
    load_topics()
    return [entry for key in sorted(_TABLE) for entry in _TABLE[key]]


def load_topics() -> None:
    """Imports the modules that register lowerings (a dictionary look-up once they are there)."""
    for topic in TOPICS:
        importlib.import_module(f"{__package__}.{topic}")


def _describe(function: LoweringFunction, op: str, domain: str, since: int) -> Lowering:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    required = sum(p.default is p.empty for p in positional)
    return Lowering(
        op=op,
        domain=domain,
        since=since,
        topic=function.__module__.rpartition(".")[2],
        function=function,
        attributes=frozenset(p.name for p in named),
        required_attributes=frozenset(p.name for p in named if p.default is p.empty),
        operands=(required, None if variadic else len(positional)),
    )
