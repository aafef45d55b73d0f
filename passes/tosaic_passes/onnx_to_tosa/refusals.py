"""Operators that TOSA, or a canister, cannot hold, and why."""

from __future__ import annotations

_RANDOM = (
    "a canister has to answer alike on every machine of its subnet, and a random number would not be alike"
)
_STRINGS = "TOSA has tensors of numbers only, no strings"
_SEQUENCES = "TOSA has tensors only, no sequences"
_OPTIONALS = "TOSA has tensors only, no optional values"

REASONS: dict[str, str] = {
    "Bernoulli": _RANDOM,
    "ImageDecoder": "an image file has no static size, and TOSA has no decoder",
    "MaxRoiPool": "its windows are as large as its regions, which are data; RoiAlign reads a fixed number of points",
    "Multinomial": _RANDOM,
    "Optional": _OPTIONALS,
    "OptionalGetElement": _OPTIONALS,
    "OptionalHasElement": _OPTIONALS,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "RegexFullMatch": _STRINGS,
    "SequenceAt": _SEQUENCES,
    "SequenceConstruct": _SEQUENCES,
    "SequenceEmpty": _SEQUENCES,
    "SequenceErase": _SEQUENCES,
    "SequenceInsert": _SEQUENCES,
    "SequenceLength": _SEQUENCES,
    "SequenceMap": _SEQUENCES,
    "ConcatFromSequence": _SEQUENCES,
    "SplitToSequence": _SEQUENCES,
    "StringConcat": _STRINGS,
    "StringNormalizer": _STRINGS,
    "StringSplit": _STRINGS,
}
"""ai.onnx operator -> why it is refused."""
